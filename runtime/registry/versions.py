"""The registry's values. All are immutable; times are in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from host_bindings.scope import Binding, Tenant
from runtime.engine.limits import Limits


@dataclass(frozen=True)
class Version:
    """What one upload deployed. It never changes; a new upload makes a new one with the next number.

    `artifact` is the component's digest in the artifact store. `bindings` hold the values of secrets, which their
    `repr` leaves out.
    """

    id: str
    number: int
    namespace: str
    script: str
    artifact: str
    bindings: tuple[Binding, ...]
    limits: Limits
    tags: tuple[str, ...]
    created_on: datetime

    @property
    def tenant(self) -> Tenant:
        return Tenant(self.namespace, self.script)


@dataclass(frozen=True)
class Script:
    """A script and the version of it that answers requests."""

    current: Version
    created_on: datetime

    @property
    def modified_on(self) -> datetime:
        return self.current.created_on


@dataclass(frozen=True)
class Namespace:
    id: str
    name: str
    created_on: datetime
    script_count: int
