"""`cloister init` and `cloister dev` as a developer uses them: save, look, make a mistake, mend it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.server import ROOT, wait_until

READY = re.compile(r"^shop is ready: http://127\.0\.0\.1:(\d+)/", re.M)


def ask(port: int) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/path")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_what_is_saved_is_served_and_mistakes_are_shown(data: Path, tmp_path: Path) -> None:
    project, log = tmp_path / "shop", tmp_path / "dev.log"
    cloister = [sys.executable, "-W", "error", "-m", "runtime.cli.main"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLOISTER_")}
    subprocess.run([*cloister, "init", project], cwd=ROOT, env=environment, check=True)
    source = (project / "src/entry.py").read_text()

    def said(pattern: str) -> re.Match[str] | None:
        return re.search(pattern, log.read_text(), re.M)

    def save(text: str) -> None:
        (project / "src/entry.py").write_text(text)

    with log.open("wb") as output:
        # The data of a platform that has been used: there what all workers have in common is compiled.
        command = [*cloister, "dev", project, "--port", "0", "--data", data]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        wait_until(lambda: said(READY.pattern) or process.poll() is not None, "it is not ready", 100)
        ready = said(READY.pattern)
        assert ready is not None, log.read_text()
        port = int(ready[1])
        assert ask(port) == (200, {"greeting": "Hello", "path": "/path", "visits": 1})

        save(source.replace('"visits": count', '"edited": count'))
        wait_until(lambda: "edited" in ask(port)[1], "the new code does not answer", 100)

        save(source + "def broken(:\n")
        wait_until(lambda: said(r"could not be built\.$"), "the mistake is not shown", 100)
        assert said(r"^ +SyntaxError: invalid syntax$")
        assert "edited" in ask(port)[1]

        save(source.replace("count = int", 'raise ValueError("no luck")\n        count = int'))
        wait_until(lambda: ask(port)[0] == 500, "the worker does not fail", 100)
        wait_until(lambda: said(r"ValueError: no luck$"), "the traceback is not shown", 100)
        assert said(r'File "entry\.py", line \d+, in fetch$')
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert process.returncode == 0, log.read_text()
