"""The registry as the rest of the runtime sees it: reads from memory, writes through one thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import apsw

from host_bindings.scope import Binding
from runtime.engine.limits import Limits
from runtime.registry.database import Key, RegistryDatabase
from runtime.registry.errors import RegistryError, check_name
from runtime.registry.seal import Seal, Unsealed
from runtime.registry.versions import Namespace, Script, Version
from runtime.settings import NAME_PATTERN

POLL_S = 0.2
"""How often other processes' changes are looked for."""

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_Scripts = Mapping[str, Mapping[str, Script]]
_NONE: Mapping[str, Script] = MappingProxyType({})


class Registry:
    """Open it on the event loop that uses it. Several processes may have the same file open."""

    def __init__(self, path: Path, *, seal: Seal | None = None) -> None:
        self._path = path
        self._seal = seal or Unsealed()
        # Replaced as a whole, by the database's thread; a reader keeps the mapping that it took.
        self._scripts: _Scripts = {}
        self._callbacks: list[Callable[[str, str], None]] = []

    async def open(self) -> None:
        """Opens the file, makes it if there is none, and reads it. Raises `RegistryError`."""
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="registry")
        try:
            self._database = await self._run(RegistryDatabase, self._path, self._seal)
            await self._run(self._refresh)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        self._watching.cancel()
        await asyncio.wait((self._watching,))
        await self._run(self._database.close)
        self._thread.shutdown()

    def find(self, namespace: str, script: str) -> Version | None:
        """The version that answers requests now, from memory."""
        found = self._scripts.get(namespace, _NONE).get(script)
        return None if found is None else found.current

    def script(self, namespace: str, script: str) -> Script | None:
        """As `find`, with when the script was first deployed."""
        return self._scripts.get(namespace, _NONE).get(script)

    def list_scripts(self, namespace: str) -> list[Version]:
        """The current version of each script, ordered by name, from memory."""
        return [script.current for _, script in sorted(self._scripts.get(namespace, _NONE).items())]

    def subscribe(self, callback: Callable[[str, str], None]) -> None:
        """Calls back with (namespace, script) on the event loop after each change, whichever process made it.

        By then `find` gives the new state. Changes that follow each other closely may come as one.
        """
        self._callbacks.append(callback)

    async def create_namespace(self, name: str) -> Namespace:
        """Raises `InvalidName`, `NamespaceExists`."""
        check_name("namespace", name)
        return await self._run(self._database.create_namespace, name)

    async def list_namespaces(self) -> list[Namespace]:
        return await self._run(self._database.list_namespaces)

    async def delete_namespace(self, name: str) -> bool:
        """False if there was none. Raises `NamespaceNotEmpty`."""
        return bool(NAME_PATTERN.fullmatch(name)) and await self._run(self._database.delete_namespace, name)

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
        check_name("script", script)

        def run() -> Version:
            version = self._database.deploy(namespace, script, artifact, bindings, limits, tags)
            self._refresh()
            return version

        return await self._run(run)

    async def delete(self, namespace: str, script: str) -> bool:
        """Removes a script with all its versions; what it stored stays. False if there was none."""
        if not NAME_PATTERN.fullmatch(script):
            return False

        def run() -> bool:
            deleted = self._database.delete(namespace, script)
            self._refresh()
            return deleted

        return await self._run(run)

    async def referenced_artifacts(self) -> set[str]:
        """The digests of the components of all versions that are kept."""
        return await self._run(self._database.referenced_artifacts)

    async def _watch(self) -> None:
        seen: int | None = None
        failing = False
        while True:
            try:
                if (version := await self._run(self._database.data_version)) != seen:
                    await self._run(self._refresh)
                    seen = version
                failing = False
            except RegistryError as error:
                if not failing:
                    _logger.error("What other processes deploy is not noticed at present: %s", error)
                failing = True
            await asyncio.sleep(POLL_S)

    def _refresh(self) -> None:
        """Brings the picture in memory up to date; runs in the database's thread, so that it cannot be cancelled."""
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
