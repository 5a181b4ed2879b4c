"""The same tests as `test_python_sdk`, with version 4 of the client, which writes several requests in another way."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.clients.conftest import PLATFORM, Platform
from tests.clients.installation import old_sdk
from tests.e2e.server import ROOT


def test_version_4_of_the_client_works_too(platform: Platform) -> None:
    paths = os.pathsep.join([str(old_sdk()), str(ROOT)])
    environment = {**os.environ, PLATFORM: platform.variable, "PYTHONPATH": paths}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/clients/test_python_sdk.py"]

    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
