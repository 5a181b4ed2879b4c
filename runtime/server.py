"""The server process: puts the parts together, listens, and takes them apart again in order.

Two sockets: the tenants' port and the management API's, which only this machine can reach. SIGTERM or SIGINT ends the
server gracefully; a second one at once.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

from aiohttp import web

from host_bindings import interfaces
from host_bindings.d1.service import SqlService
from host_bindings.scope import Resources
from host_bindings.wasi.console import flush
from runtime.artifacts import ArtifactStore, UploadLimits
from runtime.control import create_control_application, load_admin_token
from runtime.dispatcher.callers import open_resolver
from runtime.dispatcher.dispatcher import Dispatcher
from runtime.dispatcher.http import IDLE_S, HttpServer
from runtime.dispatcher.namespace import DispatchNamespace
from runtime.dispatcher.operator import load_operator
from runtime.dispatcher.resolver import USER_HEADER
from runtime.engine.engine import Engine
from runtime.engine.limits import LimitPolicy, Limits
from runtime.registry import NamespaceExists, Registry, Retention, load_seal
from runtime.settings import ServerSettings, SettingsError, prepare_data_directory
from runtime.telemetry.logs import Log, TenantLog, TenantLogLimits, open_log

logger = logging.getLogger(__name__)

BACKLOG = 1024

DESCRIPTORS_MAX = 65_536
"""As many open files as are asked of the system; half of them may be connections of callers."""

LOG_BURST_S = 4
"""How many seconds' worth of log a tenant may write at once."""

ADMIN_LINGER_S = 2.0
"""How long the rest of a refused upload is taken in, so that the uploader gets to read why."""


@dataclass(frozen=True)
class Listening:
    """Where a server that is ready listens, and the token of its management API."""

    host: str
    port: int
    admin_host: str
    admin_port: int
    admin_token: str = field(repr=False)


Ready = Callable[[Listening], Awaitable[None]]
"""Runs when both ports answer, while the server serves. If it raises, the server ends and `serve` raises that."""


def run(settings: ServerSettings, *, ready: Ready | None = None) -> None:
    """`serve` on an event loop of its own: uvloop's where there is one."""
    try:
        import uvloop

        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    except ImportError:
        loop_factory = None
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve(settings, ready=ready))


async def serve(settings: ServerSettings, *, ready: Ready | None = None) -> None:
    """Serves until a signal ends it. Call it on the main thread's event loop.

    Raises `SettingsError` when the settings cannot be served (a port that is taken, a directory that cannot be used,
    an operator's dispatcher that does not load), with a message that says what to do.
    """
    check_exposure(settings)
    stopping = _stop_on_signals()
    with (
        _bind(settings.host, settings.port, "port") as tenants,
        _bind(settings.admin_host, settings.admin_port, "admin_port") as admin,
    ):
        prepare_data_directory(settings)
        async with AsyncExitStack() as stack:
            log = open_log(settings.log_format, settings.log_level, access=settings.access_log)
            stack.callback(log.close)
            token = await asyncio.to_thread(load_admin_token, settings)
            await _start(stack, settings, log, token, tenants, admin)
            listening = Listening(
                host=settings.host,
                port=tenants.getsockname()[1],
                admin_host=settings.admin_host,
                admin_port=admin.getsockname()[1],
                admin_token=token,
            )
            logger.info("listening", extra={"fields": {"port": listening.port, "admin_port": listening.admin_port}})
            await _until_stopped(stopping, ready, listening)
            logger.info("stopping")


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
    tenants: socket.socket,
    admin: socket.socket,
) -> None:
    """Opens every part, the listeners last. The stack closes them in the opposite order."""
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
    artifacts = ArtifactStore(settings.artifacts_directory, UploadLimits(upload_bytes_max=settings.upload_bytes_max))
    stack.push_async_callback(artifacts.close)
    sql = SqlService(settings.resources_directory)
    stack.push_async_callback(sql.close)
    resources = Resources(settings.resources_directory, sql)
    stack.push_async_callback(resources.close)
    engine = Engine(interfaces.ALL, flush)
    stack.push_async_callback(engine.close)
    namespace = DispatchNamespace(
        settings.namespace,
        registry,
        artifacts,
        engine,
        resources,
        lambda script, limits: TenantLog(log, script, _log_limits(limits)),
        policy=policy,
    )
    stack.push_async_callback(namespace.close)
    operator = None
    if settings.dispatcher is not None:
        operator = load_operator(settings.dispatcher, namespace, settings.uploads_directory)
    dispatcher = Dispatcher(
        namespace,
        await asyncio.to_thread(open_resolver, settings, registry.tokens),
        body_bytes_max=settings.request_body_bytes_max,
        operator=operator,
        access=log if settings.access_log else None,
    )
    if operator is not None:
        stack.push_async_callback(operator.close)
    await _listen_for_management(stack, settings, registry, artifacts, resources, token, policy, admin)
    http = HttpServer(dispatcher.handle, min(settings.connections_max, raise_descriptor_limit() // 2))
    stack.push_async_callback(http.drain, settings.shutdown_grace_s)
    listener = await asyncio.get_running_loop().create_server(http, sock=tenants, backlog=BACKLOG)
    stack.callback(listener.close)


async def _listen_for_management(
    stack: AsyncExitStack,
    settings: ServerSettings,
    registry: Registry,
    artifacts: ArtifactStore,
    resources: Resources,
    token: str,
    policy: LimitPolicy,
    admin: socket.socket,
) -> None:
    application = create_control_application(registry, artifacts, resources, token, settings, policy)
    runner = web.AppRunner(
        application,
        access_log=None,
        shutdown_timeout=settings.shutdown_grace_s,
        lingering_time=ADMIN_LINGER_S,
        keepalive_timeout=IDLE_S,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, admin).start()


async def _until_stopped(stopping: asyncio.Event, ready: Ready | None, listening: Listening) -> None:
    stopped = asyncio.create_task(stopping.wait())
    if ready is None:
        await stopped
        return

    async def call() -> None:
        await ready(listening)

    # The server answers while it runs: it may deploy to it.
    announcing = asyncio.create_task(call())
    await asyncio.wait((stopped, announcing), return_when=asyncio.FIRST_COMPLETED)
    if not announcing.done():
        announcing.cancel()
        await asyncio.wait((announcing,))
    elif announcing.exception() is None:
        await stopped
    stopped.cancel()
    if not announcing.cancelled():
        announcing.result()


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


def _bind(host: str, port: int, setting: str) -> socket.socket:
    """A bound socket that does not listen yet. Raises `SettingsError`."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise SettingsError(f"host: {host} is not an address of this machine: {error.strerror}") from None
    # `localhost` has two addresses; one port number serves one of them.
    family, kind, protocol, _, address = min(addresses, key=lambda found: found[0] != socket.AF_INET)
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind(address)
    except OSError as error:
        listening.close()
        option = setting.replace("_", "-")
        reasons = {
            errno.EADDRINUSE: f"{port} on {host} is taken by another program: stop it, or choose another port",
            errno.EACCES: f"{port} may not be used by this user: choose a port above 1023",
            errno.EADDRNOTAVAIL: f"{host} is not an address of this machine",
        }
        reason = reasons.get(error.errno or 0, f"{host}:{port} cannot be used: {error.strerror}")
        raise SettingsError(f"{setting}: {reason} (--{option} or CLOISTER_{setting.upper()})") from None
    return listening
