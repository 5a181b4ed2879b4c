"""The registry's values. All are immutable; times are in UTC."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

from host_bindings.scope import Binding, Tenant
from runtime.engine.limits import Limits


@dataclass(frozen=True)
class Origin:
    """Who made a version or a deployment, and why.

    `source` says by which way it came (upload, secret, settings, rollback …), `author` is the name of the token,
    `message` and `tag` are the author's own words.
    """

    source: str = "api"
    author: str = ""
    message: str = ""
    tag: str = ""


@dataclass(frozen=True)
class Module:
    """What an upload says about its main module, kept as it was said."""

    name: str = "worker.wasm"
    compatibility_date: str | None = None
    compatibility_flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Content:
    """What a version is made of. `bindings` hold the values of secrets, which their `repr` leaves out.

    `artifact` is the component's digest in the artifact store.
    """

    artifact: str
    bindings: tuple[Binding, ...] = ()
    limits: Limits = Limits()  # noqa: RUF009 - immutable
    module: Module = Module()


@dataclass(frozen=True)
class Version:
    """A script's code and configuration as somebody once set them. It never changes; a change makes a new version.

    `tenant` is whose storage its bindings mean: it stays the same when the namespace is renamed.
    """

    id: str
    number: int
    namespace: str
    script: str
    tenant: Tenant
    content: Content
    origin: Origin
    created_on: datetime

    @property
    def artifact(self) -> str:
        return self.content.artifact

    @property
    def bindings(self) -> tuple[Binding, ...]:
        return self.content.bindings

    @property
    def limits(self) -> Limits:
        return self.content.limits


@dataclass(frozen=True)
class Share:
    """A version and the percentage of requests that it answers."""

    version: Version
    percentage: float


@dataclass(frozen=True)
class Deployment:
    """Which versions answer a script's requests, from when on. The shares add up to 100; the largest comes first."""

    id: str
    shares: tuple[Share, ...]
    origin: Origin
    created_on: datetime

    def choose(self, key: str) -> Version:
        """The version that answers requests with this key: the same key, the same version, in one deployment."""
        if len(self.shares) == 1:
            return self.shares[0].version
        digest = hashlib.blake2b(f"{self.id}/{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        position = int.from_bytes(digest, "big") / 2**64 * 100
        for share in self.shares:
            position -= share.percentage
            if position < 0:
                return share.version
        return self.shares[0].version


@dataclass(frozen=True)
class Script:
    """A script and its deployment. `tags` are the operator's labels; they belong to no version."""

    deployment: Deployment
    created_on: datetime
    tags: tuple[str, ...] = ()

    @property
    def current(self) -> Version:
        """The version that answers all requests, or most."""
        return self.deployment.shares[0].version

    @property
    def is_split(self) -> bool:
        return len(self.deployment.shares) > 1

    @property
    def modified_on(self) -> datetime:
        return self.deployment.created_on


@dataclass(frozen=True)
class Namespace:
    """`key` names the storage of the namespace's tenants: the first name, whatever it is called now."""

    id: str
    name: str
    created_on: datetime
    script_count: int
    key: str = field(default="", compare=False)
    modified_on: datetime | None = field(default=None, compare=False)
    trusted: bool = False


@dataclass(frozen=True)
class Retention:
    """Which versions that are not deployed are kept: the newest `count` of a script's, for `days` after their last use.

    A version is in use while it is deployed.
    """

    count: int = 10
    days: float = 90.0
