from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.installation import installed, missing
from tests.parity.generated import COMPARED
from tests.parity.sides import Sides, both_sides

_not_checked: list[str] = []


START_S = 600
"""The first test also installs Miniflare, builds the guest and starts both sides."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(START_S))


@pytest.fixture(scope="session")
def miniflare_installation() -> Path:
    """The folder with Miniflare's node_modules. Where there is no Node.js the test is skipped, or fails in CI."""
    reason = missing()
    if reason is None:
        return installed()
    if os.environ.get("CI") == "true":
        pytest.fail(f"parity must be checked here, and {reason}")
    _not_checked.append(reason)
    pytest.skip(f"parity was not checked: {reason}")


@pytest.fixture(scope="session")
def sides(miniflare_installation: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    with both_sides(miniflare_installation, tmp_path_factory.mktemp("parity")) as running:
        yield running


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for binding, operations in COMPARED.items():
        terminalreporter.write_line(f"{operations:,} generated operations on {binding} were compared with Miniflare.")
    if _not_checked:
        terminalreporter.write_line(f"PARITY WAS NOT CHECKED: {_not_checked[0]}. It is where CI=true.", bold=True)
