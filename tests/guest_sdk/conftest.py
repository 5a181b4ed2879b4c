from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from guest_sdk.build import build
from host_bindings import WIT_DIRECTORY
from tests.guest_sdk.laboratory import PROJECTS, Laboratory, in_laboratory

HELLO = """
from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response("hello")
"""


@pytest.fixture(scope="session")
def laboratory() -> Path:
    """The laboratory's component, from the user's cache if it is there."""
    return build(PROJECTS / "laboratory", wit_directory=WIT_DIRECTORY)


@pytest.fixture
def experiment(laboratory: Path, tmp_path: Path) -> Callable[[Callable[[Laboratory], Awaitable[None]]], None]:
    """Runs an async test body with a worker on the engine and stores of its own."""
    return lambda body: in_laboratory(tmp_path / "stores", body)


@pytest.fixture
def project(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    """Writes a project: its files by name, with a wrangler.jsonc and an entry.py unless they are given."""

    def write(files: Mapping[str, str]) -> Path:
        folder = tmp_path / "project"
        shutil.rmtree(folder, ignore_errors=True)
        for name, text in {"wrangler.jsonc": '{"name": "a", "main": "entry.py"}', "entry.py": HELLO, **files}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return folder

    return write


@pytest.fixture
def build_project(
    project: Callable[[Mapping[str, str]], Path], tmp_path: Path
) -> Iterator[Callable[[Mapping[str, str]], Path]]:
    """Builds a project with these files, without the user's cache."""
    yield lambda files: build(project(files), wit_directory=WIT_DIRECTORY, cache=tmp_path / "cache")
