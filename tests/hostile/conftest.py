"""One server for each file of attacks, with a tenant that is called all the while."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guest_sdk.build import build
from host_bindings import WIT_DIRECTORY
from tests.compiled import code_state, copy_kept
from tests.components import GUESTS
from tests.e2e.server import Server, start
from tests.hostile import bystander
from tests.hostile.site import STORAGE, Site, open_site

TIMEOUT_S = 180
FULL_TIMEOUT_S = 3600
DEPLOY_S = 600.0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A timeout of a test's own, without what its fixtures build and compile: on a busy machine that takes minutes."""
    seconds = FULL_TIMEOUT_S if config.getoption("--full", default=False) else TIMEOUT_S
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(seconds, func_only=True))


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether `just torture` runs this. The option is known where tests/torture was named on the command line."""
    return bool(pytestconfig.getoption("--full", default=False))


@pytest.fixture(scope="session")
def hostile_component() -> bytes:
    return build(GUESTS / "hostile_worker", wit_directory=WIT_DIRECTORY).read_bytes()


@pytest.fixture(scope="session")
def copy_compiled(hostile_component: bytes) -> Callable[[Path], Path]:
    """Makes a data directory in which the component has been compiled, by the code as it is now.

    Compiling takes longer than any attack, so the result is kept beside the components of other tests.
    """

    def make(folder: Path) -> Path:
        with start(folder / "data") as server:
            _deploy(server, hostile_component)
            assert server.stop() == 0
        return folder / "data"

    def copy(target: Path) -> Path:
        component = hashlib.sha256(hostile_component).hexdigest()[:24]
        copy_kept("hostile", f"{code_state()}-{component}", make, target)
        return target

    return copy


def _deploy(server: Server, component: bytes) -> None:
    deadline = time.monotonic() + DEPLOY_S
    while True:
        try:
            reply = server.deploy(bystander.NAME, component, STORAGE)
            assert reply.status == 200, reply.text
            return
        except TimeoutError:
            # On a busy machine one attempt may take longer than a caller waits; what was compiled is kept.
            assert time.monotonic() < deadline


@pytest.fixture(scope="module")
def site(
    copy_compiled: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory, hostile_component: bytes
) -> Iterator[Site]:
    directory = copy_compiled(tmp_path_factory.mktemp("hostile") / "data")
    with open_site(directory, hostile_component) as opened:
        yield opened
