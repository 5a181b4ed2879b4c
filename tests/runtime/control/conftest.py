"""What the tests of the management API share."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from runtime.settings import ServerSettings
from tests.components import raw_component
from tests.runtime.control.service import RunControl, Test, serve_control


@pytest.fixture(scope="session")
def component() -> bytes:
    """A component that can be deployed."""
    return raw_component("raw_worker").read_bytes()


@pytest.fixture
def run_control(tmp_path: Path, artifacts_directory: Path) -> RunControl:
    """Runs an async test against the API, with settings of its own if any are given."""

    def run(test: Test, **settings: Any) -> None:
        async def main() -> None:
            async with serve_control(
                ServerSettings(data=tmp_path / "data", **settings), artifacts_directory
            ) as control:
                await test(control)

        asyncio.run(main())

    return run
