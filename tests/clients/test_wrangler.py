"""wrangler against a server of ours, with nothing but its address, token and account changed."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from benchmarks.installation import installed, missing
from tests.clients.conftest import Platform
from tests.clients.installation import WRANGLER
from tests.e2e.server import file as file_part
from tests.e2e.server import multipart, wait_until

Wrangler = Callable[..., str]
Start = Callable[..., "Running"]


@pytest.fixture(scope="module")
def program() -> Path:
    if reason := missing():
        pytest.skip(f"{reason}: wrangler cannot be run")
    return installed(WRANGLER) / "node_modules/wrangler/bin/wrangler.js"


@pytest.fixture
def environment(platform: Platform, tmp_path: Path) -> dict[str, str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("CLOUDFLARE_", "WRANGLER"))
    }
    environment |= {
        "CLOUDFLARE_API_BASE_URL": platform.base_url,
        "CLOUDFLARE_API_TOKEN": platform.token,
        "CLOUDFLARE_ACCOUNT_ID": "local",
        "WRANGLER_SEND_METRICS": "false",
        "WRANGLER_HIDE_BANNER": "true",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "NO_COLOR": "1",
        "CI": "1",
    }
    return environment


@pytest.fixture
def wrangler(environment: dict[str, str], program: Path, tmp_path: Path) -> Wrangler:
    """Runs a command in an empty folder; what it printed. A command that fails fails the test, unless `fails`."""
    node = shutil.which("node") or "node"

    def run(*arguments: str, stdin: str = "", fails: bool = False) -> str:
        done = subprocess.run(
            [node, str(program), *arguments],
            cwd=tmp_path,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done.stdout + (done.stderr if fails else "")

    return run


class Running:
    """A command that runs on. What it prints goes to a file, which it never waits for."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def text(self) -> str:
        return self._output.read_text()

    def until(self, pattern: str, ask: Callable[[], object]) -> str:
        """Asks again and again until it has printed this; all of it."""

        def shows() -> bool:
            ask()
            assert self.process.poll() is None, self.text
            return re.search(pattern, self.text, re.M) is not None

        wait_until(shows, f"{pattern} does not come", 60)
        return self.text


@pytest.fixture
def start_wrangler(environment: dict[str, str], program: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a command that runs on; it is ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> Running:
        command = [shutil.which("node") or "node", str(program), *arguments]
        output = tmp_path / f"output-{len(started)}"
        with output.open("wb") as file:
            process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=file, stderr=file)
        started.append(process)
        return Running(process, output)

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def name() -> str:
    return f"wrangler-{secrets.token_hex(4)}"


def deploy(platform: Platform, name: str) -> None:
    """wrangler builds JavaScript alone, so that the component is uploaded in the way of its `deploy`."""
    metadata = json.dumps({"main_module": "worker.wasm"}).encode()
    body, content_type = multipart(
        [
            file_part("metadata", "", metadata, None),
            file_part("worker.wasm", "worker.wasm", platform.component.read_bytes(), "application/wasm"),
        ]
    )
    path = f"/accounts/local/workers/dispatch/namespaces/production/scripts/{name}"
    assert platform.call("PUT", path, body, content_type)["success"]


def test_whoami_knows_the_token_and_the_account(wrangler: Wrangler) -> None:
    assert re.search(r"Cloister +│ local", wrangler("whoami"))


def test_kv(wrangler: Wrangler, name: str, tmp_path: Path) -> None:
    created = wrangler("kv", "namespace", "create", name)
    id = json.loads(created[created.index("{") :])["kv_namespaces"][0]["id"]
    where = ("--namespace-id", id, "--remote")
    assert name in [each["title"] for each in json.loads(wrangler("kv", "namespace", "list"))]

    wrangler("kv", "key", "put", "a/b %", "hello", "--metadata", '{"x": 1}', "--ttl", "3600", *where)
    assert wrangler("kv", "key", "get", "a/b %", *where).endswith("hello")
    (listed,) = json.loads(wrangler("kv", "key", "list", *where))
    assert (listed["name"], listed["metadata"]) == ("a/b %", {"x": 1})
    wrangler("kv", "key", "delete", "a/b %", *where)
    assert "404" in wrangler("kv", "key", "get", "a/b %", *where, fails=True)

    (tmp_path / "bulk.json").write_text(json.dumps([{"key": f"k{n}", "value": str(n)} for n in range(50)]))
    (tmp_path / "keys.json").write_text(json.dumps([f"k{n}" for n in range(49)]))
    wrangler("kv", "bulk", "put", "bulk.json", *where)
    wrangler("kv", "bulk", "delete", "keys.json", "--force", *where)
    assert [each["name"] for each in json.loads(wrangler("kv", "key", "list", *where))] == ["k49"]
    wrangler("kv", "namespace", "delete", "--namespace-id", id, "--skip-confirmation")
    assert id not in wrangler("kv", "namespace", "list")


def test_r2(wrangler: Wrangler, name: str, tmp_path: Path) -> None:
    content = secrets.token_bytes(300_000)
    (tmp_path / "file.bin").write_bytes(content)
    wrangler("r2", "bucket", "create", name)
    assert name in wrangler("r2", "bucket", "list")

    wrangler("r2", "object", "put", f"{name}/folder/file.bin", "--file", "file.bin", "--remote")
    wrangler("r2", "object", "get", f"{name}/folder/file.bin", "--file", "back.bin", "--remote")

    assert (tmp_path / "back.bin").read_bytes() == content
    wrangler("r2", "object", "delete", f"{name}/folder/file.bin", "--remote")
    wrangler("r2", "bucket", "delete", name)
    assert name not in wrangler("r2", "bucket", "list")


def rows_of(wrangler: Wrangler, database: str, table: str) -> list[object]:
    shown = wrangler("d1", "execute", database, "--remote", "--json", "--command", f"SELECT * FROM {table}")
    return list(json.loads(shown)[0]["results"])


def test_d1(wrangler: Wrangler, name: str, tmp_path: Path) -> None:
    wrangler("d1", "create", name)
    assert name in [each["name"] for each in json.loads(wrangler("d1", "list", "--json"))]

    sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT); INSERT INTO t (x) VALUES ('a'), ('b'); SELECT * FROM t"
    shown = json.loads(wrangler("d1", "execute", name, "--remote", "--json", "--command", sql))

    assert [len(each["results"]) for each in shown] == [0, 0, 2]
    assert shown[2]["results"][1] == {"id": 2, "x": "b"}
    dump = tmp_path / "dump.sql"
    wrangler("d1", "export", name, "--remote", "--output", str(dump))
    assert "INSERT INTO" in dump.read_text()
    dump.write_text(dump.read_text().replace("CREATE TABLE t ", "CREATE TABLE copy ").replace('"t"', '"copy"'))
    wrangler("d1", "execute", name, "--remote", "--yes", "--file", str(dump))
    assert rows_of(wrangler, name, "copy") == rows_of(wrangler, name, "t")

    assert "syntax error" in wrangler("d1", "execute", name, "--remote", "--command", "SELEKT", fails=True)
    wrangler("d1", "delete", name, "--skip-confirmation")
    assert name not in wrangler("d1", "list", "--json")


def test_dispatch_namespaces(wrangler: Wrangler, name: str) -> None:
    wrangler("dispatch-namespace", "create", name)
    assert name in wrangler("dispatch-namespace", "list")
    wrangler("dispatch-namespace", "rename", name, f"{name}-2")
    assert f"{name}-2" in wrangler("dispatch-namespace", "get", f"{name}-2")
    wrangler("dispatch-namespace", "delete", f"{name}-2")
    assert name not in wrangler("dispatch-namespace", "list")


def test_a_scripts_secrets_and_its_end(wrangler: Wrangler, platform: Platform, name: str, tmp_path: Path) -> None:
    deploy(platform, name)
    wrangler("secret", "put", "KEY", "--name", name, stdin="battery staple")
    assert platform.answer(name, "/env/KEY") == "battery staple"
    (tmp_path / "secrets.json").write_text(json.dumps({"ONE": "1", "TWO": "2"}))
    wrangler("secret", "bulk", "secrets.json", "--name", name)
    listed = json.loads(wrangler("secret", "list", "--name", name))
    assert sorted(each["name"] for each in listed) == ["KEY", "ONE", "TWO"]
    assert platform.answer(name, "/env/KEY") == "battery staple"
    wrangler("secret", "delete", "KEY", "--name", name)
    assert platform.answer(name, "/env/KEY") == "None"
    wrangler("delete", "--name", name)
    with pytest.raises(HTTPError, match="404"):
        platform.answer(name, "/env/KEY")


def test_versions_are_listed_and_rolled_back(wrangler: Wrangler, platform: Platform, name: str) -> None:
    deploy(platform, name)
    wrangler("secret", "put", "KEY", "--name", name, stdin="new")
    newest, first = json.loads(wrangler("versions", "list", "--name", name, "--json"))[::-1]
    assert (newest["number"], first["number"]) == (2, 1)

    wrangler("rollback", first["id"], "--name", name, "--message", "it was better", "--yes")

    assert platform.answer(name, "/env/KEY") == "None"
    shown = json.loads(wrangler("deployments", "list", "--name", name, "--json"))
    assert len(shown) == 3
    assert any(each["annotations"].get("workers/message") == "it was better" for each in shown)
    wrangler("versions", "deploy", f"{newest['id']}@100", "--name", name, "--yes")
    assert platform.answer(name, "/env/KEY") == "new"


def fail(platform: Platform, name: str) -> None:
    with pytest.raises(HTTPError, match="500"):
        platform.answer(name, "/kv/missing")


def open_tails(platform: Platform, name: str) -> list[object]:
    path = f"/accounts/local/workers/dispatch/namespaces/production/scripts/{name}/tails"
    return list(platform.call("GET", path)["result"])


def test_a_tail_shows_calls_until_it_is_ended(start_wrangler: Start, platform: Platform, name: str) -> None:
    deploy(platform, name)
    shown = start_wrangler("tail", name, "--format", "pretty")

    def ask() -> None:
        platform.answer(name, "/env/X")
        fail(platform, name)

    # Calls can be shown before that: wrangler learns of the connection a moment after its first messages.
    shown.until(f"^Connected to {name}, waiting for logs", ask)
    failed = r"^GET http\S+/kv/missing - Exception Thrown @[\s\S]+AttributeError: This worker has no binding"
    shown.until(rf"^GET http\S+/env/X - Ok @[\s\S]+{failed}", ask)

    shown.process.send_signal(signal.SIGINT)
    wait_until(lambda: not open_tails(platform, name), "the tail stays open")


def test_a_tails_filters_are_wranglers(start_wrangler: Start, platform: Platform, name: str) -> None:
    deploy(platform, name)
    options = ("--status", "error", "--method", "GET", "--search", "no binding", "--header", "X-User-ID:wrangler")
    shown = start_wrangler("tail", name, "--format", "json", *options)

    def ask() -> None:
        platform.answer(name, "/env/X")
        fail(platform, name)

    text = shown.until(r"^}$", ask)

    event, _ = json.JSONDecoder().raw_decode(text)
    assert (event["scriptName"], event["outcome"]) == (name, "exception")
    assert event["exceptions"][0]["name"] == "AttributeError"
    assert "/env/X" not in text


def test_a_tail_by_callers_address_is_refused_with_the_reason(
    wrangler: Wrangler, platform: Platform, name: str
) -> None:
    deploy(platform, name)
    assert "client_ip cannot be filtered by" in wrangler("tail", name, "--format", "json", "--ip", "self", fails=True)
