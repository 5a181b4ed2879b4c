"""The demo platform, once for all end-to-end tests: the two tenants behind the reference dispatcher."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from guest_sdk.build import Configuration, build, read_configuration
from host_bindings import WIT_DIRECTORY
from tests.e2e.server import ROOT, Server, start

DISPATCHER = ROOT / "examples/binding_dispatcher"

TENANTS = ("user1", "user2")


@pytest.fixture(scope="session")
def dispatcher() -> Path:
    return DISPATCHER


@pytest.fixture(scope="session")
def demo() -> Configuration:
    """What the first tenant's folder says of it; the second's names the same bindings."""
    return read_configuration(ROOT / "tenants/customer-worker-1")


@pytest.fixture(scope="session")
def demo_component() -> bytes:
    """The reference worker, built; the build keeps it for the next time."""
    return build(ROOT / "tenants/customer-worker-1", wit_directory=WIT_DIRECTORY).read_bytes()


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory, demo: Configuration, demo_component: bytes) -> Path:
    """A data directory in which both tenants are deployed and nothing is stored."""
    directory = tmp_path_factory.mktemp("deployed") / "data"
    with start(directory) as server:
        for name in TENANTS:
            reply = server.deploy(name, demo_component, demo.bindings)
            assert reply.status == 200, reply.text
        assert server.stop() == 0
    return directory


@pytest.fixture
def data(deployed: Path, tmp_path: Path) -> Path:
    """A data directory of the test's own, with both tenants."""
    return shutil.copytree(deployed, tmp_path / "data")


@pytest.fixture(scope="session")
def platform(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The demo platform, running. Tests share it: they use keys of their own, or a tenant of their own."""
    directory = shutil.copytree(deployed, tmp_path_factory.mktemp("platform") / "data")
    with start(directory, dispatcher=DISPATCHER) as server:
        yield server


@pytest.fixture(scope="session")
def deploy_demo(platform: Server, demo: Configuration, demo_component: bytes) -> Callable[[str], None]:
    """Deploys the demo worker under a name."""

    def deploy(name: str) -> None:
        reply = platform.deploy(name, demo_component, demo.bindings)
        assert reply.status == 200, reply.text

    return deploy


_numbers = count(1)


@pytest.fixture
def fresh_tenant(deploy_demo: Callable[[str], None]) -> Callable[[], str]:
    """Deploys a tenant that has stored nothing; its name."""

    def make() -> str:
        name = f"fresh-{next(_numbers)}"
        deploy_demo(name)
        return name

    return make
