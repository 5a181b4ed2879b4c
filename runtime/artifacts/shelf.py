"""Artifacts at rest: packed WebAssembly, each part stored once, addressed by content.

    artifacts/<SHA-256 of the upload>/manifest.json and component.wasm.zst
    modules/<SHA-256>.wasm.zst                                               hoisted out of components

What is there is whole, and on disk. Every method blocks: call them in a thread.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection
from os import utime
from pathlib import Path

import msgspec

from runtime.artifacts.errors import ArtifactMissing, ArtifactUnusable
from runtime.artifacts.files import Workspace, locked, move_into_place, private_directory, sync
from runtime.artifacts.packing import Damaged, pack, unpack
from runtime.artifacts.upload import MANIFEST_FORMAT, Manifest, Split, StoredPart

logger = logging.getLogger(__name__)

SUFFIX = ".wasm.zst"

_DIGEST = re.compile("[0-9a-f]{64}")

_MISSING = "The worker's component is not stored here. Deploy it again."
_DEPLOY_AGAIN = "The worker's stored component is damaged. Deploy it again."


class Shelf:
    def __init__(self, directory: Path, workspace: Workspace) -> None:
        self._artifacts = directory / "artifacts"
        self._modules = directory / "modules"
        self._lock = directory / "lock"
        self._workspace = workspace
        private_directory(self._artifacts)
        private_directory(self._modules)

    def find(self, digest: str) -> Manifest:
        """Raises `ArtifactMissing` or `ArtifactUnusable`."""
        if not _DIGEST.fullmatch(digest):
            raise ArtifactMissing(_MISSING)
        try:
            manifest = msgspec.json.decode((self._artifacts / digest / "manifest.json").read_bytes(), type=Manifest)
        except FileNotFoundError:
            raise ArtifactMissing(_MISSING) from None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            logger.error("the manifest of artifact %s is damaged", digest)
            raise ArtifactUnusable(_DEPLOY_AGAIN) from None
        if manifest.format != MANIFEST_FORMAT:
            raise ArtifactUnusable("The worker's component was stored by another version of Cloister. Deploy it again.")
        return manifest

    def touch(self, digest: str) -> bool:
        """Whether the artifact is there; then the next collection spares it, as it does new ones."""
        with locked(self._lock, shared=True):
            whole = self._is_whole(digest)
            if whole:
                utime(self._artifacts / digest)
        return whole

    def draft(self, upload: Split, draft: Path) -> None:
        """Makes the directory that `add` will store: `draft` is in a room of the workspace."""
        draft.mkdir(mode=0o700)
        pack(upload.component, draft / f"component{SUFFIX}")
        with (draft / "manifest.json").open("xb") as file:
            file.write(msgspec.json.encode(upload.manifest))
        sync(draft / "manifest.json")
        sync(draft)

    def add(self, digest: str, upload: Split, draft: Path) -> None:
        """Stores an artifact, which is on disk when this returns."""
        with locked(self._lock, shared=True):
            for part, path in zip(upload.manifest.modules, upload.modules, strict=True):
                self._add_module(part, path, draft.parent)
            if not move_into_place(draft, self._artifacts / digest) and not self._is_whole(digest):
                self._workspace.discard(self._artifacts / digest)
                move_into_place(draft, self._artifacts / digest)

    def unpack_component(self, digest: str, part: StoredPart, target: Path) -> None:
        """Raises `ArtifactMissing` or `ArtifactUnusable`. The same goes for modules."""
        self._unpack(self._component(digest), part, target)

    def unpack_module(self, part: StoredPart, target: Path) -> None:
        self._unpack(self._module(part), part, target)

    def collect(self, keep: Collection[str], unused_s: float) -> set[str]:
        """Deletes artifacts that are not in `keep` and modules that no artifact needs, except new ones.

        Returns the SHA-256 of the components and modules that nobody needs any more.
        """
        old = time.time() - unused_s
        with self._workspace.room() as trash, locked(self._lock, shared=False):
            gone = [p for p in self._artifacts.iterdir() if p.name not in keep and p.stat().st_mtime <= old]
            unneeded = {part.sha256 for path in gone for part in self._parts(path.name)}
            for path in gone:
                path.rename(trash / path.name)
            try:
                needed = {part.sha256 for path in self._artifacts.iterdir() for part in self.find(path.name).parts}
            except (ArtifactMissing, ArtifactUnusable):
                return set()  # what it needs is not known, so no part goes
            modules = [p for p in self._modules.iterdir() if p.name.removesuffix(SUFFIX) not in needed]
            modules = [path for path in modules if path.stat().st_mtime <= old]
            for path in modules:
                path.rename(trash / path.name)
        return (unneeded | {path.name.removesuffix(SUFFIX) for path in modules}) - needed

    def _parts(self, digest: str) -> tuple[StoredPart, ...]:
        """What an artifact is made of; nothing if that is not known."""
        try:
            return self.find(digest).parts
        except (ArtifactMissing, ArtifactUnusable):
            return ()

    def _is_whole(self, digest: str) -> bool:
        try:
            manifest = self.find(digest)
        except (ArtifactMissing, ArtifactUnusable):
            return False
        parts = [self._component(digest), *map(self._module, manifest.modules)]
        return all(path.exists() for path in parts)

    def _component(self, digest: str) -> Path:
        return self._artifacts / digest / f"component{SUFFIX}"

    def _module(self, part: StoredPart) -> Path:
        return self._modules / f"{part.sha256}{SUFFIX}"

    def _add_module(self, part: StoredPart, path: Path, room: Path) -> None:
        target = self._module(part)
        if target.exists():
            utime(target)
            return
        packed = room / target.name
        pack(path, packed)
        move_into_place(packed, target)

    def _unpack(self, source: Path, part: StoredPart, target: Path) -> None:
        try:
            unpack(source, target, part.size, part.sha256)
        except FileNotFoundError:
            raise ArtifactUnusable(_DEPLOY_AGAIN) from None
        except Damaged:
            # Out of the way, so that the next upload of the same bytes stores it anew.
            logger.error("%s is damaged; it was deleted", source.relative_to(self._artifacts.parent))
            self._workspace.discard(source)
            raise ArtifactUnusable(_DEPLOY_AGAIN) from None
