from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runtime.artifacts import ArtifactStore, UploadLimits
from tests.runtime.artifacts.workers import wasm


class Bench:
    """A directory for a store, and uploads for it."""

    def __init__(self, tmp_path: Path) -> None:
        self.directory = tmp_path / "artifacts"
        self._uploads = tmp_path / "uploads"
        self._uploads.mkdir()
        self._count = 0

    def upload(self, data: bytes | str) -> Path:
        """A file as the server writes it: of a component's bytes, or of its text."""
        self._count += 1
        path = self._uploads / f"{self._count}.wasm"
        path.write_bytes(wasm(data) if isinstance(data, str) else data)
        return path

    @asynccontextmanager
    async def store(self, limits: UploadLimits | None = None) -> AsyncIterator[ArtifactStore]:
        """A store that is closed at the end, with nothing left half done."""
        async with self.other_store(limits) as store:
            yield store
        work = self.directory / "work"
        assert not work.exists() or not list(work.iterdir())

    @asynccontextmanager
    async def other_store(self, limits: UploadLimits | None = None) -> AsyncIterator[ArtifactStore]:
        """One more on the same directory, as another process has it."""
        store = ArtifactStore(self.directory, limits)
        try:
            yield store
        finally:
            await store.close()

    def files(self) -> dict[str, bytes]:
        """All that is stored, by path."""
        found = sorted(path for path in self.directory.rglob("*") if path.is_file())
        return {str(path.relative_to(self.directory)): path.read_bytes() for path in found}

    def code(self, name: str) -> Path:
        """The file with the machine code of a component or a module, by its SHA-256."""
        (path,) = self.directory.glob(f"machine-code/*/{name}/code")
        return path

    def codes(self) -> set[str]:
        """The SHA-256 of everything of which there is machine code."""
        return {path.parent.name for path in self.directory.glob("machine-code/*/*/code")}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
