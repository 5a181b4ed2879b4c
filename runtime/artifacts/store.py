"""The artifact store: what is uploaded goes in, machine code that may be mapped comes out."""

from __future__ import annotations

import asyncio
import os
import shutil
import weakref
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from runtime.artifacts.authenticity import Authenticator, load_key
from runtime.artifacts.code_cache import CodeCache, Lease
from runtime.artifacts.compiler import Compiler, InvalidComponent
from runtime.artifacts.errors import ArtifactUnusable, RejectedUpload
from runtime.artifacts.files import Workspace, private_directory
from runtime.artifacts.limits import UploadLimits
from runtime.artifacts.once import Once
from runtime.artifacts.restoring import restore
from runtime.artifacts.shelf import Shelf
from runtime.artifacts.upload import Manifest, Split, StoredPart, split, take_in
from runtime.engine.compile import fingerprint

COLLECT_UNUSED_S = 60.0
"""How long an artifact that nobody refers to is safe from collection: time to register what was just uploaded."""

LEASE_ATTEMPTS = 3

UPLOAD_FILE = "upload"
MODULE_FILE = "module.wasm"


@dataclass(frozen=True)
class Artifact:
    """A stored component: `digest` is the SHA-256 of the upload (hex), `size` its size in bytes."""

    digest: str
    size: int


class CompiledArtifact:
    """Verified machine code of a component and, by import name, of the core modules that it shares with others.

    The files stay until this is released or forgotten; once they are mapped they may go. Use it in a `with` block.
    """

    def __init__(self, component: Path, modules: dict[str, Path], leases: Iterable[Lease]) -> None:
        self.component = component
        self.modules = modules
        self._finalizer = weakref.finalize(self, _release, leases)

    def release(self) -> None:
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(frozen=True)
class _Parts:
    """The store's parts on disk."""

    workspace: Workspace
    shelf: Shelf
    codes: CodeCache


class ArtifactStore:
    """Keeps artifacts under one directory, which several processes may share. Belongs to one event loop."""

    def __init__(self, directory: Path, limits: UploadLimits | None = None) -> None:
        """Touches no disk yet: the first use does, and sweeps away what a crash has left."""
        self._directory = directory
        self._limits = limits or UploadLimits()
        self._compiler = Compiler(self._limits)
        self._parts: _Parts | None = None
        self._opening = asyncio.Lock()
        self._uploads: Once[Artifact] = Once()
        self._compiles: Once[None] = Once()
        self._adding = 0

    async def add(self, upload: Path) -> Artifact:
        """Checks, compiles and stores a component. What is acknowledged is on disk.

        Raises `RejectedUpload`, and then nothing has changed; `CompilerFailed` for a fault of the host's.
        """
        if self._adding >= self._limits.uploads_max:
            raise RejectedUpload("Too many uploads are being compiled. Try again in a minute.", status=429)
        self._adding += 1
        try:
            return await self._take_in(await self._open(), upload)
        finally:
            self._adding -= 1

    async def compiled(self, digest: str) -> CompiledArtifact:
        """Machine code for this engine, made again from the stored component where it is missing, stale or not ours.

        Raises `ArtifactMissing`, `ArtifactUnusable`, or `CompilerFailed` for a fault of the host's.
        """
        try:
            return await self._ready(await self._open(), digest)
        except RejectedUpload as error:
            raise ArtifactUnusable(f"The worker no longer runs on this host. {error.message}") from None

    @asynccontextmanager
    async def original(self, digest: str) -> AsyncIterator[Path]:
        """The component as it was uploaded, in a file that is there for the length of the `async with`.

        Raises `ArtifactMissing` or `ArtifactUnusable`.
        """
        parts = await self._open()
        room = parts.workspace.new()
        try:
            yield await asyncio.to_thread(_restore, parts, digest, room)
        finally:
            await asyncio.to_thread(shutil.rmtree, room, ignore_errors=True)

    async def collect(self, keep: Collection[str], *, unused_s: float = COLLECT_UNUSED_S) -> None:
        """Deletes artifacts whose digest is not in `keep`, with the modules that only they use.

        Artifacts that are being added, or were less than `unused_s` seconds ago, stay.
        """
        parts = await self._open()
        kept = {*keep, *self._uploads.keys()}
        await asyncio.to_thread(_collect, parts, kept, unused_s)

    async def close(self) -> None:
        """Ends what is being compiled, and deletes what was on its way in."""
        await self._uploads.close()
        await self._compiles.close()
        if self._parts is not None:
            await asyncio.to_thread(self._parts.workspace.close)
            self._parts = None

    async def _open(self) -> _Parts:
        async with self._opening:
            if self._parts is None:
                self._parts = await asyncio.to_thread(_open_directory, self._directory, self._limits)
            return self._parts

    async def _take_in(self, parts: _Parts, upload: Path) -> Artifact:
        room = parts.workspace.new()
        given_away = False
        try:
            copy = room / UPLOAD_FILE
            digest, size = await asyncio.to_thread(take_in, upload, copy, self._limits)
            if await asyncio.to_thread(parts.shelf.touch, digest):
                # Its machine code may have been evicted, or be for another engine.
                (await self._ready(parts, digest)).release()
                return Artifact(digest, size)

            def work() -> Coroutine[Any, Any, Artifact]:
                # Others may go on waiting for this when its caller has given up: the room is the work's own now.
                nonlocal given_away
                given_away = True
                return self._store(parts, digest, room)

            return await self._uploads.run(digest, work)
        finally:
            if not given_away:
                await asyncio.to_thread(shutil.rmtree, room, ignore_errors=True)

    async def _store(self, parts: _Parts, digest: str, room: Path) -> Artifact:
        try:
            upload = await asyncio.to_thread(split, room / UPLOAD_FILE, room, self._limits)
            try:
                code = await self._compile_and_draft(parts, upload, room / "hoisted")
            except InvalidComponent:
                if not upload.modules:
                    raise
                # Something in it needs a module that was hoisted (see `hoisting`), or it is just not valid.
                upload = await asyncio.to_thread(split, room / UPLOAD_FILE, room, self._limits, hoisting=False)
                code = await self._compile_and_draft(parts, upload, room / "whole")
            # Only now, since a module that is new here may take seconds, and most bad uploads end before this.
            for part, wasm in zip(upload.manifest.modules, upload.modules, strict=True):
                await self._compile_new_module(parts, part, wasm)
            await asyncio.to_thread(parts.shelf.add, digest, upload, code.with_name("draft"))
            if code.exists():
                await asyncio.to_thread(parts.codes.put, upload.manifest.component.sha256, code)
            return Artifact(digest, upload.manifest.size)
        finally:
            await asyncio.to_thread(shutil.rmtree, room, ignore_errors=True)

    async def _compile_and_draft(self, parts: _Parts, upload: Split, room: Path) -> Path:
        """Makes the component's machine code, at the path that is returned, and beside it the draft to be stored.

        There is nothing at the path if an upload before this one had the same component (but for its own module): its
        machine code is here, and it was compared with the contract then.
        """
        await asyncio.to_thread(room.mkdir)
        code = room / "component.code"
        drafting = asyncio.create_task(asyncio.to_thread(parts.shelf.draft, upload, room / "draft"))
        try:
            if not await asyncio.to_thread(parts.codes.has, upload.manifest.component.sha256):
                await self._compiler.component(upload.component, code, upload.manifest.imports)
        finally:
            await asyncio.wait([drafting])
        await drafting
        return code

    async def _compile_new_module(self, parts: _Parts, part: StoredPart, wasm: Path) -> None:
        """Compiles a hoisted module of an upload, if it is the first one with it."""

        def work() -> Coroutine[Any, Any, None]:
            # Other uploads may wait for this too, and go on doing so when the room of this one is gone.
            own = parts.workspace.new()
            os.link(wasm, own / MODULE_FILE)
            return self._compile_module(parts, part, own)

        if not await asyncio.to_thread(parts.codes.has, part.sha256):
            await self._compiles.run(part.sha256, work)

    async def _ready(self, parts: _Parts, digest: str) -> CompiledArtifact:
        manifest = await asyncio.to_thread(parts.shelf.find, digest)
        for _ in range(LEASE_ATTEMPTS):
            compiled, missing = await asyncio.to_thread(_lease, parts.codes, manifest)
            if compiled is not None:
                return compiled
            if (name := manifest.component.sha256) in missing:
                await self._compiles.run(name, partial(self._recompile_component, parts, digest, manifest))
            for part in manifest.modules:
                if part.sha256 in missing:
                    await self._compiles.run(part.sha256, partial(self._recompile_module, parts, part))
        raise ArtifactUnusable("The worker's machine code is evicted before it can be used. Try again.")

    async def _recompile_component(self, parts: _Parts, digest: str, manifest: Manifest) -> None:
        room = parts.workspace.new()
        try:
            wasm, code = room / "component.wasm", room / "component.code"
            await asyncio.to_thread(parts.shelf.unpack_component, digest, manifest.component, wasm)
            await self._compiler.component(wasm, code, manifest.imports)
            await asyncio.to_thread(parts.codes.put, manifest.component.sha256, code)
        finally:
            await asyncio.to_thread(shutil.rmtree, room, ignore_errors=True)

    async def _recompile_module(self, parts: _Parts, part: StoredPart) -> None:
        room = parts.workspace.new()
        await asyncio.to_thread(parts.shelf.unpack_module, part, room / MODULE_FILE)
        await self._compile_module(parts, part, room)

    async def _compile_module(self, parts: _Parts, part: StoredPart, room: Path) -> None:
        try:
            code = room / "module.code"
            await self._compiler.module(room / MODULE_FILE, code)
            await asyncio.to_thread(parts.codes.put, part.sha256, code)
        finally:
            await asyncio.to_thread(shutil.rmtree, room, ignore_errors=True)


def _open_directory(directory: Path, limits: UploadLimits) -> _Parts:
    private_directory(directory)
    workspace = Workspace(directory / "work")
    codes = CodeCache(
        directory / "machine-code",
        workspace,
        Authenticator(load_key(directory / "machine-code.key")),
        fingerprint(),
        limits.code_cache_bytes,
        just_used_s=limits.code_just_used_s,
    )
    return _Parts(workspace, Shelf(directory, workspace), codes)


def _restore(parts: _Parts, digest: str, room: Path) -> Path:
    manifest = parts.shelf.find(digest)
    component, target = room / "component.wasm", room / UPLOAD_FILE
    parts.shelf.unpack_component(digest, manifest.component, component)
    modules = {}
    for name, part in manifest.imports.items():
        path = modules[name] = room / f"{part.sha256}.wasm"
        parts.shelf.unpack_module(part, path)
    restore(component, modules, target, digest)
    return target


def _lease(codes: CodeCache, manifest: Manifest) -> tuple[CompiledArtifact | None, set[str]]:
    """(the machine code, what of it is missing)"""
    names = {part.sha256 for part in manifest.parts}
    leases = {name: codes.lease(name) for name in names}
    found = {name: lease for name, lease in leases.items() if lease is not None}
    if len(found) < len(leases):
        _release(found.values())
        return None, leases.keys() - found.keys()
    modules = {name: found[part.sha256].path for name, part in manifest.imports.items()}
    return CompiledArtifact(found[manifest.component.sha256].path, modules, tuple(found.values())), set()


def _release(leases: Iterable[Lease]) -> None:
    for lease in leases:
        lease.release()


def _collect(parts: _Parts, keep: Collection[str], unused_s: float) -> None:
    for name in parts.shelf.collect(keep, unused_s):
        parts.codes.discard(name)
