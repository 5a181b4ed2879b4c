"""The registry as the rest of the runtime sees it: reads from memory, writes through one thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import apsw

from host_bindings.scope import Binding, BindingType
from runtime.engine.limits import Limits
from runtime.registry.catalogue import ResourceCatalogue, TokenCatalogue
from runtime.registry.database import Key, Make, RegistryDatabase
from runtime.registry.errors import RegistryError, check_name
from runtime.registry.seal import Seal, Unsealed
from runtime.registry.versions import Content, Deployment, Namespace, Origin, Retention, Script, Version
from runtime.settings import NAME_PATTERN

POLL_S = 0.2
"""How often other processes' changes are looked for."""

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_Scripts = Mapping[str, Mapping[str, Script]]
_NONE: Mapping[str, Script] = MappingProxyType({})


class Registry:
    """Open it on the event loop that uses it. Several processes may have the same file open."""

    def __init__(self, path: Path, *, seal: Seal | None = None, retention: Retention | None = None) -> None:
        self._path = path
        self._seal = seal or Unsealed()
        self._retention = retention or Retention()
        # Replaced as a whole, by the database's thread; a reader keeps the mapping that it took.
        self._scripts: _Scripts = {}
        self._callbacks: list[Callable[[str, str], None]] = []
        self.resources = ResourceCatalogue(self)
        self.tokens = TokenCatalogue(self)

    async def open(self) -> None:
        """Opens the file, makes it if there is none, and reads it. Raises `RegistryError`."""
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="registry")
        try:
            self._database = await self._run(RegistryDatabase, self._path, self._seal, self._retention)
            await self._run(self._refresh)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        self._woken = asyncio.Event()
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        self._watching.cancel()
        await asyncio.wait((self._watching,))
        await self._run(self._database.connection.close)
        self._thread.shutdown()

    # From memory

    def find(self, namespace: str, script: str) -> Version | None:
        """The version that answers requests now: all, or most of them."""
        found = self._scripts.get(namespace, _NONE).get(script)
        return None if found is None else found.current

    def script(self, namespace: str, script: str) -> Script | None:
        """As `find`, with the whole deployment."""
        return self._scripts.get(namespace, _NONE).get(script)

    def list_scripts(self, namespace: str) -> list[Version]:
        """The current version of each script, ordered by name."""
        return [script.current for _, script in sorted(self._scripts.get(namespace, _NONE).items())]

    def subscribe(self, callback: Callable[[str, str], None]) -> None:
        """Calls back with (namespace, script) on the event loop after each change, whichever process made it.

        By then `find` gives the new state. Changes that follow each other closely may come as one.
        """
        self._callbacks.append(callback)

    def look_again(self) -> None:
        """Looks for other processes' changes now, since there are some."""
        self._woken.set()

    # Namespaces

    async def create_namespace(self, name: str, *, trusted: bool = False) -> Namespace:
        """Raises `InvalidName`, `NamespaceExists`."""
        check_name("namespace", name)
        return await self._run(lambda: self._database.namespaces.create(name, trusted=trusted))

    async def list_namespaces(self) -> list[Namespace]:
        return await self._run(lambda: self._database.namespaces.all())

    async def update_namespace(self, name: str, *, new_name: str, trusted: bool) -> None:
        """Renames a namespace; its tenants keep their storage.

        Raises `InvalidName`, `UnknownNamespace`, `NamespaceExists`.
        """
        check_name("namespace", new_name)
        await self.change(lambda db: db.update_namespace(name, new_name, trusted))

    async def delete_namespace(self, name: str) -> bool:
        """False if there was none. Raises `NamespaceNotEmpty`."""
        return bool(NAME_PATTERN.fullmatch(name)) and await self._run(lambda: self._database.namespaces.delete(name))

    # Scripts

    async def deploy(
        self,
        namespace: str,
        script: str,
        artifact: str,
        bindings: Sequence[Binding],
        limits: Limits,
        tags: Sequence[str],
    ) -> Version:
        """Makes a version that is current, and on disk, when this returns. Raises `InvalidName`, `UnknownNamespace`."""
        content = Content(artifact, tuple(bindings), limits)
        return await self.upload(namespace, script, lambda before: content, tags=tags)

    async def upload(
        self,
        namespace: str,
        script: str,
        make: Make,
        origin: Origin = Origin(),  # noqa: B008 - immutable
        *,
        tags: Sequence[str] | None = None,
        deploy: bool = True,
        granting: Collection[tuple[BindingType, str]] = (),
    ) -> Version:
        """A new version, on disk when this returns, and at work if `deploy`. `tags` None leaves the script's.

        `make` gets the script as it is; no other change comes between. It runs on the registry's thread, and what it
        raises is raised here. `granting` are resources of the platform's, by type and id, that the script's tenant may
        use from now on. Raises `InvalidName`, `UnknownNamespace`, and without `deploy` `UnknownScript`.
        """
        check_name("script", script)
        return await self.change(
            lambda db: db.upload(namespace, script, make, origin, tags, deploy=deploy, granting=granting)
        )

    async def deploy_versions(
        self,
        namespace: str,
        script: str,
        shares: Sequence[tuple[str, float]],
        origin: Origin = Origin(),  # noqa: B008 - immutable
    ) -> Deployment:
        """Has these versions, by id and percentage, answer requests from now on.

        Raises `UnknownScript`, `UnknownVersion`.
        """
        return await self.change(lambda db: db.deploy(namespace, script, shares, origin))

    async def set_tags(self, namespace: str, script: str, tags: Sequence[str]) -> None:
        """Raises `UnknownScript`."""
        await self.change(lambda db: db.set_tags(namespace, script, tags))

    async def delete(self, namespace: str, script: str) -> bool:
        """Removes a script with all its versions; what it stored stays. False if there was none."""
        return bool(NAME_PATTERN.fullmatch(script)) and await self.change(lambda db: db.delete(namespace, script))

    async def prune(self) -> int:
        """Deletes the versions that are not to be kept; how many."""
        return await self.change(lambda db: db.prune())

    async def version(self, namespace: str, script: str, id: str) -> Version:
        """Raises `UnknownScript`, `UnknownVersion`."""
        return await self.read(lambda db: db.version(namespace, script, id))

    async def versions(self, namespace: str, script: str) -> list[Version]:
        """The newest first. Raises `UnknownScript`."""
        return await self.read(lambda db: db.versions(namespace, script))

    async def deployments(self, namespace: str, script: str) -> list[Deployment]:
        """The newest, which is at work, first. Raises `UnknownScript`."""
        return await self.read(lambda db: db.deployments(namespace, script))

    async def referenced_artifacts(self) -> set[str]:
        """The digests of the components of all versions that are kept."""
        return await self.read(lambda db: db.scripts.artifacts())

    # For the registry's own parts

    async def read(self, operation: Callable[[RegistryDatabase], _T]) -> _T:
        """Runs an operation that changes nothing on the database's thread."""
        return await self._run(lambda: operation(self._database))

    async def write(self, operation: Callable[[RegistryDatabase], _T]) -> _T:
        """Runs an operation in a transaction of its own."""

        def run() -> _T:
            with self._database.connection.writing():
                return operation(self._database)

        return await self._run(run)

    async def change(self, operation: Callable[[RegistryDatabase], _T]) -> _T:
        """Runs an operation, then brings the picture in memory up to date."""

        def run() -> _T:
            result = operation(self._database)
            self._refresh()
            return result

        return await self._run(run)

    async def _watch(self) -> None:
        seen: int | None = None
        failing = False
        while True:
            try:
                if (version := await self._run(self._database.connection.data_version)) != seen:
                    await self._run(self._refresh)
                    seen = version
                failing = False
            except RegistryError as error:
                if not failing:
                    _logger.error("What other processes deploy is not noticed at present: %s", error)
                failing = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._woken.wait()
            self._woken.clear()

    def _refresh(self) -> None:
        """Brings the picture in memory up to date; runs in the database's thread, so that it cannot be cancelled."""
        self.tokens.replace(self._database.tokens.all())
        changed = self._database.changes()
        if changed is None:
            before = {(n, s): script for n, scripts in self._scripts.items() for s, script in scripts.items()}
            after = self._database.all_scripts()
            changed = {key: after.get(key) for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        if not changed:
            return
        self._scripts = _with_changes(self._scripts, changed)
        self._loop.call_soon_threadsafe(self._notify, list(changed))

    def _notify(self, changed: list[Key]) -> None:
        for namespace, script in changed:
            for callback in self._callbacks:
                try:
                    callback(namespace, script)
                except Exception:
                    _logger.exception("A subscriber failed on a change of %s/%s", namespace, script)

    async def _run(self, function: Callable[..., _T], *arguments: object) -> _T:
        try:
            return await self._loop.run_in_executor(self._thread, function, *arguments)
        except apsw.Error as error:
            raise RegistryError(f"The registry could not be read or written: {error}") from error


def _with_changes(scripts: _Scripts, changed: Mapping[Key, Script | None]) -> _Scripts:
    copies: dict[str, dict[str, Script]] = {}
    for (namespace, name), script in changed.items():
        if namespace not in copies:
            copies[namespace] = dict(scripts.get(namespace, _NONE))
        if script is None:
            copies[namespace].pop(name, None)
        else:
            copies[namespace][name] = script
    return {**scripts, **copies}
