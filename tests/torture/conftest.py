"""Long loops: shortened in `just test`, in full in `just torture`, which shows what it did."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.components import raw_component
from tests.e2e.server import start

BINDINGS = [
    {"type": "kv_namespace", "name": "KV", "namespace_id": "kv"},
    {"type": "r2_bucket", "name": "R2", "bucket_name": "r2"},
    {"type": "d1", "name": "D1", "id": "d1"},
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the long loops of tests/torture in full")


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    # Only known where this folder was named on the command line.
    return bool(pytestconfig.getoption("--full", default=False))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Shows a line whether output is captured or not."""

    def show(line: str) -> None:
        with capsys.disabled():
            sys.stderr.write(f"{request.node.name}: {line}\n")

    return show


@pytest.fixture(scope="session")
def intruder() -> bytes:
    """The worker that makes any call that it is asked to make."""
    return raw_component("intruder").read_bytes()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, intruder: bytes) -> Path:
    """A data directory in which the intruder is deployed as `worker`, with one binding of each kind."""
    directory = tmp_path_factory.mktemp("prepared") / "data"
    with start(directory) as server:
        reply = server.deploy("worker", intruder, BINDINGS)
        assert reply.status == 200, reply.text
        assert server.stop() == 0
    return directory


@pytest.fixture
def data(prepared: Path, tmp_path: Path) -> Path:
    """A data directory of the test's own."""
    return shutil.copytree(prepared, tmp_path / "data")
