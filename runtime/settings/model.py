"""The settings as one validated model: each is a field of `ServerSettings`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

LogFormat = Literal["auto", "json", "pretty"]
LogLevel = Literal["debug", "info", "warning", "error"]
ConfinementMode = Literal["auto", "require", "off"]
ResolverKind = Literal["header", "host", "path", "key", "jwt"]
JwtAlgorithm = Literal["HS256", "RS256", "ES256"]

NAME_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
"""The names of dispatch namespaces and of scripts (use `fullmatch`)."""

DASHBOARD_COOKIE = "cloister_dashboard"
"""The name of the dashboard's session cookie. Browsers send it to the tenants' port too: they tell hosts apart, not
ports."""

NAME_RULE = "1 to 63 lower-case letters, digits, '-' and '_', beginning and ending with a letter or digit"

MIB = 1024 * 1024

PROCESSES_MAX = 64

SECRET_SETTINGS = frozenset({"admin_token", "secrets_key", "traces_headers"})
"""Settings that are never shown, and never read from a file that others can read."""


class SettingsError(ValueError):
    """A setting is not valid; the message names it and says what it may be. `setting` is its name, if it is known."""

    def __init__(self, message: str, setting: str = "") -> None:
        super().__init__(message)
        self.setting = setting


@dataclass(frozen=True)
class ServerSettings:
    """How `cloister serve` runs. Port 0 means any free port. Raises `SettingsError` for values that cannot be."""

    host: str = "127.0.0.1"
    """The address on which tenants' traffic is taken."""
    port: int = 8787
    admin_port: int = 8788
    """The management API's port; it listens on 127.0.0.1 only."""
    data: Path = Path(".cloister")
    """Where everything is kept."""
    dispatcher: Path | None = None
    """The folder or file of the operator's dispatch code; None: requests go to the tenant's `fetch`."""
    resolver: ResolverKind = "header"
    """Where the tenant is found: X-User-ID, the host's first label, the path's first segment, a key, a signed token."""
    trusted_proxies: tuple[str, ...] = ()
    """With resolver `header`: the addresses or networks from which requests are taken at all."""
    tenant_domain: str | None = None
    """With resolver `host`: the domain below which each tenant has a name."""
    jwt_algorithm: JwtAlgorithm = "RS256"
    """With resolver `jwt`: how tokens are signed; no other way is accepted."""
    jwt_key_file: Path | None = None
    """With resolver `jwt`: the secret (HS256), the public key in PEM form, or a JWKS document."""
    jwt_claim: str = "sub"
    """With resolver `jwt`: the claim that names the tenant."""
    jwt_audience: str | None = None
    """With resolver `jwt`: the audience that tokens must be for."""
    jwt_issuer: str | None = None
    """With resolver `jwt`: the issuer that tokens must be from."""
    trust_header: bool = False
    """Whether tenants' traffic may be taken from other machines though nothing proves who a caller is: behind a proxy
    that authenticates callers, or where everybody may call every tenant."""
    namespace: str = "production"
    """The dispatch namespace in which the dispatcher looks scripts up."""
    upstream: str | None = None
    """The address of the server behind this one, which gets the requests for tenants that are not deployed here."""
    confinement: ConfinementMode = "auto"
    """Whether server processes give up files, connections and system calls that they do not need: as far as the kernel
    can, or not at all; `require` does not start where it cannot."""
    confinement_paths: tuple[Path, ...] = ()
    """Further files and folders that a confined server, and so dispatch code, may read and write."""
    idle_memory_bytes: int = 512 * MIB
    """A server process's own memory above which idle instances go, of all tenants the least recently used first."""
    code_cache_bytes: int = 2048 * MIB
    """Machine code kept on disk ready to be mapped; the least recently used goes first."""
    upload_bytes_max: int = 64 * MIB
    """The largest component that may be uploaded."""
    request_body_bytes_max: int = 100 * MIB
    """The largest body of a request to a tenant."""
    connections_max: int = 10_000
    """How many connections of callers may be open; fewer where the limit of open files is low."""
    limits_default: Mapping[str, int | str] = field(default_factory=dict)
    """What a worker gets whose deployment does not say (`cpu_ms=1000,isolation=request`); see `engine.limits`."""
    limits_max: Mapping[str, int | str] = field(default_factory=dict)
    """The most that a deployment may ask for; holds for what is deployed already, too."""
    processes: int = 1
    """How many server processes share the work; about one for each processor."""
    crashes_max: int = 3
    """A worker whose guest ran at so many crashes of server processes within ten minutes is stopped; 0: never."""
    watchdog_s: float = 60.0
    """A server process whose event loop does not turn for so long is killed and started again; 0: never."""
    shutdown_grace_s: float = 10.0
    """How long running requests may take after SIGTERM."""
    admin_token: str | None = field(default=None, repr=False)
    """The management API's token; None: a random one, kept in the data directory."""
    secrets_key: str | None = field(default=None, repr=False)
    """The key that seals tenants' secrets: 32 random bytes in base64; while it is replaced, the new one and the old."""
    secrets_key_file: Path | None = None
    """The file that holds that key; None for both: a random one, kept in the data directory."""
    versions_kept: int = 10
    """How many versions of a script that are not deployed are kept."""
    versions_kept_days: float = 90.0
    """For how many days after its last use a version is kept."""
    admin_host_names: tuple[str, ...] = ()
    """Host names under which the management API may be called, besides the loopback ones (behind a proxy, say)."""
    log_format: LogFormat = "auto"
    """auto: pretty on a terminal, else JSON."""
    log_level: LogLevel = "info"
    access_log: bool = True
    """Whether each request leaves a line in the log."""
    traces: bool = False
    """Whether requests are traced, for an OpenTelemetry collector: see `telemetry.tracing`."""
    traces_endpoint: str = "http://127.0.0.1:4318/v1/traces"
    """Where traces are sent to (OTLP over HTTP)."""
    traces_headers: str | None = field(default=None, repr=False)
    """Headers for the collector, `name=value` with commas between: its key, say."""
    traces_ratio: float = 1.0
    """Which part of the requests is traced, 0 to 1."""
    traces_trust_callers: bool = False
    """Whether a caller's `traceparent` is heeded: its trace goes on, and it decides whether there is one."""
    traces_service: str = "cloister"
    """What the server is called in traces."""

    def __post_init__(self) -> None:
        for name in ("port", "admin_port"):
            _check(0 <= getattr(self, name) <= 65_535, name, "a port is a number from 0 to 65535")
        _check(self.port == 0 or self.port != self.admin_port, "admin_port", "it must differ from the port of tenants")
        _check(bool(NAME_PATTERN.fullmatch(self.namespace)), "namespace", NAME_RULE)
        _check(self.idle_memory_bytes >= 0, "idle_memory_bytes", "a number of bytes")
        _check(self.code_cache_bytes >= 0, "code_cache_bytes", "a number of bytes")
        _check(1024 <= self.upload_bytes_max <= 1024 * MIB, "upload_bytes_max", "1 KiB to 1 GiB, in bytes")
        _check(self.request_body_bytes_max >= 0, "request_body_bytes_max", "a number of bytes")
        _check(10 <= self.connections_max <= 1_000_000, "connections_max", "10 to 1000000")
        _check(1 <= self.processes <= PROCESSES_MAX, "processes", f"1 to {PROCESSES_MAX}")
        _check(0 <= self.crashes_max <= 1000, "crashes_max", "0 (never stop a worker) to 1000")
        _check(self.watchdog_s == 0 or 1 <= self.watchdog_s <= 3600, "watchdog_s", "0 (off), or 1 to 3600 seconds")
        _check(0 <= self.shutdown_grace_s <= 3600, "shutdown_grace_s", "0 to 3600 seconds")
        token_ok = self.admin_token is None or _is_token(self.admin_token)
        _check(token_ok, "admin_token", "16 to 512 printable ASCII characters without spaces")
        _check(0 <= self.versions_kept <= 1000, "versions_kept", "0 to 1000")
        _check(0 < self.versions_kept_days <= 36_500, "versions_kept_days", "a number of days up to 36500")
        self._check_resolver()
        self._check_upstream()
        self._check_traces()
        modes = get_args(ConfinementMode)
        _check(self.confinement in modes, "confinement", f"one of {', '.join(modes)}")
        _check(
            all(path.is_absolute() for path in self.confinement_paths),
            "confinement_paths",
            "absolute paths, with commas between",
        )
        _check(self.log_format in get_args(LogFormat), "log_format", f"one of {', '.join(get_args(LogFormat))}")
        _check(self.log_level in get_args(LogLevel), "log_level", f"one of {', '.join(get_args(LogLevel))}")

    def _check_resolver(self) -> None:
        kinds, algorithms = get_args(ResolverKind), get_args(JwtAlgorithm)
        _check(self.resolver in kinds, "resolver", f"one of {', '.join(kinds)}")
        _check(self.jwt_algorithm in algorithms, "jwt_algorithm", f"one of {', '.join(algorithms)}")
        _check(
            self.resolver != "host" or bool(self.tenant_domain),
            "tenant_domain",
            "the resolver `host` needs the domain below which tenants have their names",
        )
        _check(
            self.resolver != "jwt" or self.jwt_key_file is not None,
            "jwt_key_file",
            "the resolver `jwt` needs the file with the key that proves tokens",
        )
        _check(
            not self.trusted_proxies or self.resolver == "header", "trusted_proxies", "only for the resolver `header`"
        )
        try:
            self.proxy_networks  # noqa: B018
        except ValueError:
            _check(False, "trusted_proxies", "addresses or networks like 10.0.0.0/8, with commas between")

    def _check_upstream(self) -> None:
        if self.upstream is None:
            return
        try:
            address = urlsplit(self.upstream)
            fits = self.upstream == f"http://{address.netloc}" and bool(address.hostname) and "@" not in address.netloc
            fits = fits and address.port != 0
        except ValueError:
            fits = False
        _check(fits, "upstream", "an address like http://127.0.0.1:8797, without a path")

    def _check_traces(self) -> None:
        _check(0 <= self.traces_ratio <= 1, "traces_ratio", "0 to 1")
        try:
            address = urlsplit(self.traces_endpoint)
            fits = address.scheme in ("http", "https") and bool(address.hostname) and self.traces_port > 0
        except ValueError:
            fits = False
        _check(fits, "traces_endpoint", "an address like http://127.0.0.1:4318/v1/traces")

    @property
    def upstream_port(self) -> int | None:
        """That server's. Raises ValueError for what is none."""
        return None if self.upstream is None else urlsplit(self.upstream).port or 80

    @property
    def traces_port(self) -> int:
        """The collector's. Raises ValueError for what is none."""
        address = urlsplit(self.traces_endpoint)
        return address.port if address.port is not None else 443 if address.scheme == "https" else 80

    @property
    def callers_are_verified(self) -> bool:
        """Whether callers only get to a tenant that they have a credential for, or that a known proxy vouches for."""
        return self.resolver in ("key", "jwt") or bool(self.trusted_proxies)

    @property
    def proxy_networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """The proxies' networks. Raises ValueError for what is none."""
        return tuple(ipaddress.ip_network(text, strict=False) for text in self.trusted_proxies)

    @property
    def admin_host(self) -> str:
        return "127.0.0.1"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the port of tenants."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def admin_token_path(self) -> Path:
        return self.data / "admin-token"

    @property
    def secrets_key_path(self) -> Path:
        return self.data / "secrets.key"

    @property
    def registry_path(self) -> Path:
        return self.data / "registry.sqlite"

    @property
    def artifacts_directory(self) -> Path:
        return self.data / "artifacts"

    @property
    def resources_directory(self) -> Path:
        """The tenants' KV namespaces, buckets and databases."""
        return self.data / "resources"

    @property
    def stops_path(self) -> Path:
        """Which workers have been stopped since they crashed server processes."""
        return self.data / "stopped.json"

    @property
    def telemetry_directory(self) -> Path:
        """What tenants have used, and the tails that are open."""
        return self.data / "telemetry"

    @property
    def uploads_directory(self) -> Path:
        """Uploads on their way in; nothing in it outlives its request."""
        return self.data / "uploads"


def prepare_data_directory(settings: ServerSettings) -> None:
    """Makes the data directory, which only its owner may enter (0700). Raises `SettingsError` where it cannot."""
    try:
        for directory in (settings.data, settings.uploads_directory):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if directory.stat().st_mode & 0o077:
                directory.chmod(0o700)
    except OSError as error:
        raise SettingsError(f"data: {settings.data} cannot be used as the data directory: {error.strerror}") from error


def _is_token(text: str) -> bool:
    return re.fullmatch(r"[!-~]{16,512}", text) is not None


def _check(holds: bool, name: str, rule: str) -> None:
    if not holds:
        raise SettingsError(f"{name}: {rule}", name)
