"""One server for each file of attacks, with a tenant that is called all the while."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest_sdk.build import build
from host_bindings import WIT_DIRECTORY
from tests.components import GUESTS
from tests.e2e.server import start
from tests.hostile import bystander
from tests.hostile.site import STORAGE, Site, open_site

TIMEOUT_S = 180


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A timeout of a test's own, without what its fixtures build and compile: on a busy machine that takes minutes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S, func_only=True))


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether `just torture` runs this. The option is known where tests/torture was named on the command line."""
    return bool(pytestconfig.getoption("--full", default=False))


@pytest.fixture(scope="session")
def hostile_component() -> bytes:
    return build(GUESTS / "hostile_worker", wit_directory=WIT_DIRECTORY).read_bytes()


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory, hostile_component: bytes) -> Path:
    """A data directory in which the component has been compiled: that takes longer than any attack."""
    directory = tmp_path_factory.mktemp("compiled") / "data"
    with start(directory) as server:
        assert server.deploy(bystander.NAME, hostile_component, STORAGE).status == 200
        assert server.stop() == 0
    return directory


@pytest.fixture(scope="module")
def site(compiled: Path, tmp_path_factory: pytest.TempPathFactory, hostile_component: bytes) -> Iterator[Site]:
    directory = shutil.copytree(compiled, tmp_path_factory.mktemp("hostile") / "data")
    with open_site(directory, hostile_component) as opened:
        yield opened
