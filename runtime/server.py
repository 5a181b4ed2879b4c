"""The server process: puts the parts together, listens, and takes them apart again in order.

Two ports: the tenants' and the management API's, which only this machine can reach. `serve` is one process by itself;
`runtime.supervisor` runs several, or one that is started again when it crashes, out of the same parts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial

from aiohttp import web

from host_bindings import interfaces
from host_bindings.d1.service import SqlService
from host_bindings.scope import Resources
from host_bindings.wasi.console import flush
from runtime.allocator import give_back_freed_memory
from runtime.artifacts import ArtifactStore, UploadLimits
from runtime.control import create_control_application, load_admin_token
from runtime.control.http import ManagementRunner
from runtime.dashboard import add_dashboard
from runtime.dispatcher.callers import open_resolver
from runtime.dispatcher.dispatcher import Dispatcher
from runtime.dispatcher.http import IDLE_S, HttpServer
from runtime.dispatcher.namespace import DispatchNamespace
from runtime.dispatcher.observation import VersionObserver, gauges
from runtime.dispatcher.operator import load_operator
from runtime.dispatcher.resolver import USER_HEADER
from runtime.dispatcher.tracing import traced
from runtime.dispatcher.upstream import Upstream
from runtime.engine.engine import Engine
from runtime.engine.limits import LimitPolicy, Limits
from runtime.engine.rate import SharedCounts
from runtime.engine.running import RunningTable
from runtime.listening import Listening, Ready, until_stopped
from runtime.registry import NamespaceExists, Registry, RegistryError, Retention, Version, load_seal
from runtime.settings import ServerSettings, SettingsError, prepare_data_directory
from runtime.sockets import BACKLOG, bind
from runtime.stopped import StoppedScripts, load_stops
from runtime.telemetry.logs import Log, TenantLog, TenantLogLimits, open_log
from runtime.telemetry.meters import TenantKey
from runtime.telemetry.observatory import TelemetryUnusable, open_observatory
from runtime.telemetry.tail import Tails
from runtime.telemetry.tracing import open_tracing

logger = logging.getLogger(__name__)

DESCRIPTORS_MAX = 65_536
"""As many open files as are asked of the system; half of them may be connections of callers."""

LOG_BURST_S = 4
"""How many seconds' worth of log a tenant may write at once."""

ADMIN_LINGER_S = 2.0
"""How long the rest of a refused upload is taken in, so that the uploader gets to read why."""


def run_on_loop(main: Awaitable[None]) -> None:
    """Runs it on an event loop of its own: uvloop's where there is one."""
    try:
        import uvloop

        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    except ImportError:
        loop_factory = None

    async def run() -> None:
        await main

    give_back_freed_memory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


def run(settings: ServerSettings, *, ready: Ready | None = None) -> None:
    """`serve` on an event loop of its own."""
    run_on_loop(serve(settings, ready=ready))


async def serve(settings: ServerSettings, *, ready: Ready | None = None) -> None:
    """Serves, in this process alone, until a signal ends it. Call it on the main thread's event loop.

    SIGTERM or SIGINT ends the server gracefully; a second one at once. Raises `SettingsError` when the settings cannot
    be served (a port that is taken, a directory that cannot be used, an operator's dispatcher that does not load), with
    a message that says what to do.
    """
    check_exposure(settings)
    stopping = _stop_on_signals()
    with (
        bind(settings.host, settings.port, "port") as tenants,
        bind(settings.admin_host, settings.admin_port, "admin_port") as admin,
    ):
        prepare_data_directory(settings)
        async with AsyncExitStack() as stack:
            stopped = StoppedScripts(await asyncio.to_thread(load_stops, settings.stops_path))
            server = await open_server(stack, settings, RunningTable(), stopped)
            await server.manage(admin)
            await server.listen(tenants)
            listening = Listening(
                host=settings.host,
                port=tenants.getsockname()[1],
                admin_host=settings.admin_host,
                admin_port=admin.getsockname()[1],
                admin_token=server.admin_token,
            )
            logger.info("listening", extra={"fields": {"port": listening.port, "admin_port": listening.admin_port}})
            try:
                await until_stopped(stopping, ready, listening)
            finally:
                logger.info("stopping")
                await server.stop_accepting()
                tenants.close()
                admin.close()


class Server:
    """The open parts of a server process. It listens on the sockets that it is given, from when on it is."""

    def __init__(
        self, admin_token: str, registry: Registry, http: HttpServer, management: web.AppRunner, grace_s: float
    ) -> None:
        self.admin_token = admin_token
        self.registry = registry
        self._http = http
        self._management = management
        self._grace_s = grace_s
        self._listeners: dict[int, asyncio.Server] = {}
        self._site: web.SockSite | None = None

    async def listen(self, tenants: socket.socket) -> None:
        """Takes tenants' traffic from a socket, which stays the caller's."""
        loop = asyncio.get_running_loop()
        # A listener closes its socket at the end.
        listener = await loop.create_server(self._http, sock=tenants.dup(), backlog=BACKLOG)
        self._listeners[tenants.fileno()] = listener

    def stop_listening(self, tenants: socket.socket) -> None:
        """Accepts no more from it. Connections that were accepted stay."""
        listener = self._listeners.pop(tenants.fileno(), None)
        if listener is not None:
            listener.close()

    async def manage(self, admin: socket.socket) -> None:
        """Serves the management API. Of the processes that share a data directory one does."""
        await self._management.setup()
        self._site = web.SockSite(self._management, admin.dup())
        await self._site.start()

    async def stop_accepting(self) -> None:
        """Accepts no connection any more; those that there are stay."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        if self._site is not None:
            await self._site.stop()
            self._site = None

    async def drain(self) -> None:
        """Stops accepting, and lets what runs finish within the grace period."""
        await self.stop_accepting()
        await self._http.drain(self._grace_s)


async def open_server(
    stack: AsyncExitStack,
    settings: ServerSettings,
    running: RunningTable,
    stopped: StoppedScripts,
    counts: SharedCounts | None = None,
) -> Server:
    """Opens every part. The stack closes them in the opposite order, after what runs has been let finish.

    `running` is told whose guest runs; what is `stopped` is not run; `counts` are shared with other server processes.
    Raises as `serve` does.
    """
    check_exposure(settings)
    log = open_log(settings.log_format, settings.log_level, access=settings.access_log)
    stack.callback(log.close)
    token = await asyncio.to_thread(load_admin_token, settings)
    try:
        return await _start(stack, settings, log, token, running, stopped, counts)
    except (RegistryError, TelemetryUnusable) as error:
        raise SettingsError(f"data: {settings.data} cannot be served. {error}") from error


def check_exposure(settings: ServerSettings) -> None:
    """Raises `SettingsError` if strangers could reach a server that takes any caller's word for who it is."""
    if settings.is_loopback or settings.callers_are_verified or settings.trust_header:
        return
    if settings.resolver != "header":
        raise SettingsError(
            f"host: {settings.host} can be reached from other machines, and with the resolver {settings.resolver} "
            "anybody can call every tenant. If that is meant, pass --trust-header (CLOISTER_TRUST_HEADER=1); if not, "
            "choose the resolver key or jwt, or listen on 127.0.0.1"
        )
    raise SettingsError(
        f"host: {settings.host} can be reached from other machines, and the header {USER_HEADER} is a claim that any "
        "caller can make: each could act as every tenant. Listen on 127.0.0.1, choose a resolver that proves who calls "
        "(CLOISTER_RESOLVER=key or jwt), name the proxies that set the header (CLOISTER_TRUSTED_PROXIES), or pass "
        "--trust-header (CLOISTER_TRUST_HEADER=1) if a proxy in front authenticates callers and sets the header itself"
    )


def _log_limits(limits: Limits) -> TenantLogLimits:
    per_s = limits.log_bytes_per_s
    return TenantLogLimits(
        request_bytes_max=limits.log_bytes_max, second_bytes_max=per_s, burst_bytes_max=LOG_BURST_S * per_s
    )


def _tenant_log(log: Log, tails: Tails, version: Version, limits: Limits) -> TenantLog:
    key = TenantKey(version.tenant.namespace, version.tenant.script)
    return TenantLog(log, version.script, _log_limits(limits), listener=partial(tails.logged, key))


def raise_descriptor_limit() -> int:
    """Allows this process as many open files as the system lets it have; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return min(soft, DESCRIPTORS_MAX) if soft != resource.RLIM_INFINITY else DESCRIPTORS_MAX


async def _start(
    stack: AsyncExitStack,
    settings: ServerSettings,
    log: Log,
    token: str,
    running: RunningTable,
    stopped: StoppedScripts,
    counts: SharedCounts | None,
) -> Server:
    policy = LimitPolicy.of(settings)
    registry = Registry(
        settings.registry_path,
        seal=await asyncio.to_thread(load_seal, settings),
        retention=Retention(settings.versions_kept, settings.versions_kept_days),
    )
    await registry.open()
    stack.push_async_callback(registry.close)
    with suppress(NamespaceExists):
        await registry.create_namespace(settings.namespace)
    upload_limits = UploadLimits(upload_bytes_max=settings.upload_bytes_max, code_cache_bytes=settings.code_cache_bytes)
    artifacts = ArtifactStore(settings.artifacts_directory, upload_limits)
    stack.push_async_callback(artifacts.close)
    sql = SqlService(settings.resources_directory)
    stack.push_async_callback(sql.close)
    resources = Resources(settings.resources_directory, sql)
    stack.push_async_callback(resources.close)
    await resources.sweep()
    observatory = await open_observatory(stack, settings.telemetry_directory)
    tracing = open_tracing(settings)
    if tracing is not None:
        stack.push_async_callback(asyncio.to_thread, tracing.close)
    contract = interfaces.ALL if tracing is None else traced(interfaces.ALL, tracing)
    engine = Engine(contract, flush, running, settings.idle_memory_bytes, counts)
    stack.push_async_callback(engine.close)
    namespace = DispatchNamespace(
        settings.namespace,
        registry,
        artifacts,
        engine,
        resources,
        lambda version, limits: _tenant_log(log, observatory.tails, version, limits),
        policy=policy,
        stopped=stopped,
        observe=lambda version: VersionObserver(observatory.meters, observatory.tails, version, tracing),
    )
    stack.push_async_callback(namespace.close)
    observatory.recorder.gauges = partial(gauges, namespace, observatory.meters)
    operator = None
    if settings.dispatcher is not None:
        operator = load_operator(settings.dispatcher, namespace, settings.uploads_directory)
    upstream = None
    if settings.upstream is not None:
        upstream = Upstream(settings.upstream)
        stack.push_async_callback(upstream.close)
    dispatcher = Dispatcher(
        namespace,
        await asyncio.to_thread(open_resolver, settings, registry.tokens),
        body_bytes_max=settings.request_body_bytes_max,
        operator=operator,
        upstream=upstream,
        access=log if settings.access_log else None,
        meters=observatory.meters,
        tracing=tracing,
    )
    if operator is not None:
        stack.push_async_callback(operator.close)
    application = create_control_application(
        registry, artifacts, resources, token, settings, policy, stopped, observatory=observatory
    )
    add_dashboard(application)
    # Set up only by the process that serves it: it looks after what its uploads leave on disk.
    management = ManagementRunner(
        application,
        access_log=None,
        shutdown_timeout=settings.shutdown_grace_s,
        lingering_time=ADMIN_LINGER_S,
        keepalive_timeout=IDLE_S,
        # A body is stored as it was sent; nothing unpacks a compressed one on the way.
        auto_decompress=False,
    )
    stack.push_async_callback(management.cleanup)
    http = HttpServer(
        dispatcher.handle,
        min(settings.connections_max, raise_descriptor_limit() // 2),
        # Dispatch code needs a task of its own.
        at_once=None if operator else dispatcher.answer_at_once,
    )
    server = Server(token, registry, http, management, settings.shutdown_grace_s)
    stack.push_async_callback(server.drain)
    return server


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()

    def stop(number: int) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return stopping
