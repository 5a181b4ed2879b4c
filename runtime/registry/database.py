"""The registry's database as a whole: its tables, what changes together, and what has changed.

Everything here blocks and belongs to one thread: `registry.Registry` owns that thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from host_bindings.scope import BindingType, Tenant
from runtime.registry.connection import RegistryConnection, milliseconds, now
from runtime.registry.errors import ResourceInUse, UnknownNamespace, UnknownScript
from runtime.registry.namespace_table import NamespaceTable
from runtime.registry.resource_table import ResourceTable
from runtime.registry.script_table import ScriptTable
from runtime.registry.seal import Seal
from runtime.registry.token_table import TokenTable
from runtime.registry.versions import Content, Deployment, Origin, Retention, Script, Version

CHANGES_KEPT = 10_000
"""A process that missed more changes than this reads everything again."""

Key = tuple[str, str]
"""Namespace and script."""

Make = Callable[[Script | None], Content]
"""Makes a version's content from the script as it is, None if there is none. It may raise, and nothing changes."""


class RegistryDatabase:
    """Raises `RegistryError` if the file is not a registry or cannot be opened."""

    def __init__(self, path: Path, seal: Seal, retention: Retention) -> None:
        self.connection = RegistryConnection(path, seal)
        self.namespaces = NamespaceTable(self.connection)
        self.scripts = ScriptTable(self.connection, retention)
        self.resources = ResourceTable(self.connection)
        self.tokens = TokenTable(self.connection)
        self._sequence = -1

    # Scripts

    def upload(
        self,
        namespace: str,
        script: str,
        make: Make,
        origin: Origin,
        tags: Sequence[str] | None,
        *,
        deploy: bool,
        granting: Iterable[tuple[BindingType, str]],
    ) -> Version:
        """A new version, and a deployment of it if wanted; `tags` None leaves the script's as they are."""
        with self.connection.writing():
            key = self._key(namespace)
            before = self.scripts.script(key, script)
            if before is None and not deploy:
                raise UnknownScript(namespace, script)
            content = make(before)
            for type, id in granting:
                self.resources.grant(type, id, Tenant(key, script), again=False)
            moment_ms = milliseconds(now())
            version = self.scripts.add_version(key, script, content, origin, moment_ms)
            self.resources.note(version.tenant, version.bindings)
            if deploy:
                self.scripts.deploy(key, script, [(version.id, 100.0)], origin, moment_ms)
            if tags is not None:
                self.scripts.set_tags(key, script, tags)
            self._record_change(namespace, script)
        return version

    def deploy(self, namespace: str, script: str, shares: Sequence[tuple[str, float]], origin: Origin) -> Deployment:
        with self.connection.writing():
            key = self._existing(namespace, script)
            self.scripts.deploy(key, script, shares, origin, milliseconds(now()))
            self._record_change(namespace, script)
            return self.scripts.deployments(key, script)[0]

    def set_tags(self, namespace: str, script: str, tags: Sequence[str]) -> None:
        with self.connection.writing():
            self.scripts.set_tags(self._existing(namespace, script), script, tags)
            self._record_change(namespace, script)

    def delete(self, namespace: str, script: str) -> bool:
        with self.connection.writing():
            key = self.namespaces.key(namespace)
            if key is None or not self.scripts.delete(key, script):
                return False
            self._record_change(namespace, script)
        return True

    def prune(self) -> int:
        """Deletes every script's versions that are not to be kept; how many."""
        with self.connection.writing():
            return sum(self.scripts.prune(key, script) for key, script in self.scripts.names())

    def version(self, namespace: str, script: str, id: str) -> Version:
        with self.connection.reading():
            return self.scripts.version(self._existing(namespace, script), script, id)

    def versions(self, namespace: str, script: str) -> list[Version]:
        with self.connection.reading():
            return self.scripts.versions(self._existing(namespace, script), script)

    def deployments(self, namespace: str, script: str) -> list[Deployment]:
        with self.connection.reading():
            return self.scripts.deployments(self._existing(namespace, script), script)

    def _key(self, namespace: str) -> str:
        key = self.namespaces.key(namespace)
        if key is None:
            raise UnknownNamespace(namespace)
        return key

    def _existing(self, namespace: str, script: str) -> str:
        """The namespace's key. Raises `UnknownScript`."""
        key = self.namespaces.key(namespace)
        if key is None or self.scripts.script(key, script) is None:
            raise UnknownScript(namespace, script)
        return key

    # Namespaces

    def update_namespace(self, name: str, new_name: str, trusted: bool) -> None:
        with self.connection.writing():
            for script in self.namespaces.update(name, new_name, trusted):
                self._record_change(name, script)
                self._record_change(new_name, script)

    # Resources

    def grant(self, type: BindingType, id: str, tenant: Tenant) -> bool:
        with self.connection.writing():
            changed = self.resources.grant(type, id, tenant)
            self._record_tenants([tenant] if changed else [])
        return changed

    def revoke(self, type: BindingType, id: str, tenant: Tenant) -> bool:
        """False if there was no such grant. What the tenant binds under that id is its own again."""
        with self.connection.writing():
            changed = self.resources.revoke(type, id, tenant)
            if changed and (script := self.scripts.script(tenant.namespace, tenant.script)) is not None:
                for share in script.deployment.shares:
                    self.resources.note(tenant, share.version.bindings)
            self._record_tenants([tenant] if changed else [])
        return changed

    def delete_resource(self, type: BindingType, id: str) -> bool:
        """False if there is none. Raises `ResourceInUse` if a deployed version binds it."""
        with self.connection.writing():
            record = self.resources.find(type, id)
            if record is None:
                return False
            tenants = [record.owner] if record.owner else [grant.tenant for grant in self.resources.grants(type, id)]
            for tenant in tenants:
                self._check_unbound(type, record.resource_id, tenant, granted=record.owner is None)
            self.resources.delete(type, id)
        return True

    def _check_unbound(self, type: BindingType, resource_id: str, tenant: Tenant, *, granted: bool) -> None:
        script = self.scripts.script(tenant.namespace, tenant.script)
        for share in script.deployment.shares if script else ():
            for binding in share.version.bindings:
                if (binding.type, binding.resource_id, binding.granted) == (type, resource_id, granted):
                    raise ResourceInUse(type, tenant.script, binding.name)

    # What changed

    def changes(self) -> dict[Key, Script | None] | None:
        """The scripts that changed since the last call, with what they are now: None if they are gone.

        None instead of the dictionary: too much was missed (always so at first); read `all_scripts`.
        """
        with self.connection.reading():
            latest = self._latest_change()
            if self._sequence < 0 or latest - self._sequence > CHANGES_KEPT:
                return None
            keys = self.connection.rows(
                "SELECT DISTINCT namespace, script FROM changes WHERE sequence > ?", self._sequence
            )
            changed = {(namespace, script): self._find(namespace, script) for namespace, script in keys}
            self._sequence = latest
        return changed

    def all_scripts(self) -> dict[Key, Script]:
        with self.connection.reading():
            self._sequence = self._latest_change()
            return self.scripts.all()

    def _find(self, namespace: str, script: str) -> Script | None:
        key = self.namespaces.key(namespace)
        return None if key is None else self.scripts.script(key, script)

    def _latest_change(self) -> int:
        return int(self.connection.value("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'changes'"))

    def _record_tenants(self, tenants: Iterable[Tenant]) -> None:
        for tenant in tenants:
            for (name,) in self.connection.rows("SELECT name FROM namespaces WHERE key = ?", tenant.namespace):
                self._record_change(name, tenant.script)

    def _record_change(self, namespace: str, script: str) -> None:
        self.connection.execute("INSERT INTO changes (namespace, script) VALUES (?, ?)", namespace, script)
        horizon = self.connection.last_insert_rowid() - CHANGES_KEPT
        self.connection.execute("DELETE FROM changes WHERE sequence <= ?", horizon)
