"""(tenant, binding name) -> resource: the only place where a name that a tenant gives becomes storage.

Two tenants that configure the same resource id get two different resources: every path is derived from the owner and
the id together. The owner is the tenant, or the platform if the operator has granted its resource to the tenant. Names
of tenants, ids and bindings are hostile; they reach the file system only as SHA-256 of a length-prefixed encoding, so
that no choice of names can make two of them meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from host_bindings.allowance import KV_STORAGE, R2_STORAGE, Account, Allowance
from host_bindings.contract import Failure
from host_bindings.d1.database import Database
from host_bindings.d1.service import SqlService
from host_bindings.kv import store as kv
from host_bindings.kv.store import KVNamespace
from host_bindings.r2 import metadata as r2
from host_bindings.r2.store import Bucket
from host_bindings.storage.directories import sync_directory
from host_bindings.storage.quota import Measure, Quota, measure_file, pages_in_use

BindingType = Literal["kv_namespace", "r2_bucket", "d1", "plain_text", "secret_text", "json"]

STORAGE_TYPES: tuple[BindingType, ...] = ("kv_namespace", "r2_bucket", "d1")

PLATFORM_DIRECTORY = "platform"
"""Where the platform's own resources are. A tenant's directory is 40 hex digits, so that none can be this one."""

Resource = KVNamespace | Bucket | Database
R = TypeVar("R", KVNamespace, Bucket, Database)


@dataclass(frozen=True)
class Tenant:
    """Who owns a resource: a script in a dispatch namespace."""

    namespace: str
    script: str


@dataclass(frozen=True)
class Binding:
    """A line of a tenant's configuration: a name and what it stands for.

    `resource_id` is set for storage, `value` for plain_text, secret_text (str) and json (any JSON value). `granted`:
    the resource is the platform's one of that id, to which the operator has given this tenant access; it never comes
    from what a tenant says. `js_types`: a D1 database whose values go through JavaScript's types, as on Cloudflare.
    """

    type: BindingType
    name: str
    resource_id: str | None = None
    value: object = field(default=None, repr=False)
    granted: bool = False
    js_types: bool = False


class Scope:
    """What one tenant version may reach, by binding name. Made by `Resources.scope`."""

    def __init__(self, bindings: Mapping[str, Binding], resources: Mapping[str, Resource]) -> None:
        self._resources = dict(resources)
        self.description = json.dumps({name: _describe(binding) for name, binding in bindings.items()})
        """What the guest is told about its bindings: see `environment.bindings` in the contract."""
        self.large_values = asyncio.Lock()
        """Held while a large value is made for a guest: one at a time, however many instances ask for theirs."""

    def kv(self, binding: str) -> KVNamespace:
        """Raises `Failure` if the tenant has no KV binding of that name. The same goes for the two below."""
        return self._find(binding, KVNamespace, "KV namespace")

    def r2(self, binding: str) -> Bucket:
        return self._find(binding, Bucket, "R2 bucket")

    def d1(self, binding: str) -> Database:
        return self._find(binding, Database, "D1 database")

    def _find(self, binding: str, kind: type[R], label: str) -> R:
        resource = self._resources.get(binding)
        if not isinstance(resource, kind):
            raise Failure("TypeError", f"This worker has no {label} bound as {binding[:64]!r}.")
        return resource


class Resources:
    """Opens and keeps the stores of all tenants under one directory."""

    def __init__(self, directory: Path, sql: SqlService) -> None:
        self._directory = directory
        self._sql = sql
        self._open: dict[Path, Resource] = {}
        self._accounts: dict[Tenant, Account] = {}
        self._quotas: dict[Path, Quota] = {}

    def scope(self, tenant: Tenant, bindings: Sequence[Binding], allowance: Allowance | None = None) -> Scope:
        """The tenant's scope. Opens lazily: touches no disk before the first use of a resource.

        `allowance` is what the tenant may take from now on; what is granted to it counts for the platform.
        """
        if allowance is not None:
            self._accounts.setdefault(tenant, Account()).allowance = allowance
        storage = {b.name: self._bound(tenant, b) for b in bindings if b.type in STORAGE_TYPES}
        return Scope({b.name: b for b in bindings}, storage)

    def kv(self, owner: Tenant | None, resource_id: str) -> KVNamespace:
        """The store itself, for the management API, which has seen that its caller may. None: the platform's own."""
        found = self._resource(owner, "kv_namespace", resource_id)
        assert isinstance(found, KVNamespace)
        return found

    def r2(self, owner: Tenant | None, resource_id: str) -> Bucket:
        found = self._resource(owner, "r2_bucket", resource_id)
        assert isinstance(found, Bucket)
        return found

    def d1(self, owner: Tenant | None, resource_id: str) -> Database:
        found = self._resource(owner, "d1", resource_id)
        assert isinstance(found, Database)
        return found

    async def delete(self, owner: Tenant | None, type: BindingType, resource_id: str) -> None:
        """Closes one store and deletes its data for good."""
        await self._delete(self._path(owner, type, resource_id))

    async def purge(self, tenant: Tenant) -> None:
        """Closes the tenant's stores and deletes their data for good."""
        await self._delete(self._owner_directory(tenant))

    async def sizes(self, tenants: Sequence[Tenant], seconds: float) -> dict[Tenant, int]:
        """Bytes that each tenant keeps on disk: of as many of these, in order, as that time is enough for, or of one.

        A tenant costs as much as it has stores, however many objects there are in them.
        """
        directories = [(tenant, self._owner_directory(tenant)) for tenant in tenants]
        return await asyncio.to_thread(_sizes, directories, seconds)

    async def close(self) -> None:
        """Closes every store; what was acknowledged is on disk."""
        stores, self._open = list(self._open.values()), {}
        await asyncio.gather(*[store.close() for store in stores])

    async def _delete(self, root: Path) -> None:
        await asyncio.gather(*[self._open.pop(path).close() for path in list(self._open) if path.is_relative_to(root)])
        await asyncio.to_thread(_remove, root)

    async def sweep(self) -> None:
        """Deletes what a process that was killed had begun to delete."""
        await asyncio.to_thread(_sweep, self._directory)

    def _owner_directory(self, owner: Tenant | None) -> Path:
        return self._directory / (PLATFORM_DIRECTORY if owner is None else _digest(owner.namespace, owner.script))

    def _path(self, owner: Tenant | None, type: BindingType, resource_id: str) -> Path:
        return self._owner_directory(owner) / type / _digest(resource_id)

    def _bound(self, tenant: Tenant, binding: Binding) -> Resource:
        assert binding.resource_id is not None
        return self._resource(None if binding.granted else tenant, binding.type, binding.resource_id)

    def _resource(self, owner: Tenant | None, type: BindingType, resource_id: str) -> Resource:
        path = self._path(owner, type, resource_id)
        found = self._open.get(path)
        if found is None:
            # The platform has no allowance.
            account = None if owner is None else self._accounts.setdefault(owner, Account())
            quota = None if account is None else self._quota(account, path.parent, type)
            found = self._open[path] = self._makers(account, quota)[type](path)
        return found

    def _quota(self, account: Account, directory: Path, type: BindingType) -> Quota | None:
        """What all of an owner's stores of a kind share. The databases' processes keep to theirs themselves."""
        kind = _QUOTAS.get(type)
        if kind is not None and directory not in self._quotas:
            code, file, measure, limit = kind
            self._quotas[directory] = Quota(code, directory, file, lambda: limit(account.allowance), measure)
        return self._quotas.get(directory)

    def _makers(self, account: Account | None, quota: Quota | None) -> dict[str, Callable[[Path], Resource]]:
        return {
            "kv_namespace": lambda path: KVNamespace(path, quota=quota),
            "r2_bucket": lambda path: Bucket(path, quota=quota),
            "d1": lambda path: Database(path, self._sql, account),
        }


_QUOTAS: Mapping[str, tuple[str, str, Measure, Callable[[Allowance], int]]] = {
    "kv_namespace": (KV_STORAGE, kv.FILE_NAME, pages_in_use, lambda allowance: allowance.kv_bytes_max),
    "r2_bucket": (R2_STORAGE, r2.FILE_NAME, r2.used_bytes, lambda allowance: allowance.r2_bytes_max),
}


_DELETED = ".deleted"


def _remove(directory: Path) -> None:
    """Deletes a directory: its name at once, whatever happens then. Other processes may have its files open."""
    doomed = directory.with_name(f"{directory.name}.{secrets.token_hex(8)}{_DELETED}")
    try:
        directory.rename(doomed)
    except FileNotFoundError:
        return
    sync_directory(doomed.parent)
    shutil.rmtree(doomed, ignore_errors=True)


def _sizes(directories: Iterable[tuple[Tenant, Path]], seconds: float) -> dict[Tenant, int]:
    found: dict[Tenant, int] = {}
    until = time.monotonic() + seconds
    for tenant, directory in directories:
        found[tenant] = _size(directory)
        if time.monotonic() > until:
            break
    return found


def _size(directory: Path) -> int:
    """Of a bucket what it counts itself; of everything else the files."""
    total = 0
    for folder, folders, files in os.walk(directory):
        if r2.FILE_NAME in files and (held := measure_file(Path(folder, r2.FILE_NAME), r2.used_bytes)) is not None:
            total += held
            folders.clear()
            continue
        for name in files:
            with contextlib.suppress(OSError):  # it may go meanwhile
                total += os.stat(os.path.join(folder, name)).st_size
    return total


def _sweep(directory: Path) -> None:
    for doomed in (*directory.glob(f"*{_DELETED}"), *directory.glob(f"*/*/*{_DELETED}")):
        shutil.rmtree(doomed, ignore_errors=True)


def _digest(*names: str) -> str:
    """A file name for names that may hold anything: injective but for SHA-256, 40 hex digits."""
    state = hashlib.sha256()
    for name in names:
        encoded = name.encode("utf-8", "surrogatepass")
        state.update(len(encoded).to_bytes(8, "big"))
        state.update(encoded)
    return state.hexdigest()[:40]


def _describe(binding: Binding) -> dict[str, object]:
    if binding.type in STORAGE_TYPES:
        return {"type": binding.type, "js_types": True} if binding.js_types else {"type": binding.type}
    return {"type": binding.type, "json" if binding.type == "json" else "text": binding.value}
