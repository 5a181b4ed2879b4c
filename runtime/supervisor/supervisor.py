"""The supervisor: as many server processes as the settings say, and what becomes of them.

- Each process has a listening socket of its own for tenants' traffic (SO_REUSEPORT): the kernel spreads connections
  evenly. All sockets stay open here. While a process is away another one accepts from its socket, so that no connection
  waits or is lost, except for those that the process had accepted.
- The management API is served by one process at a time, so that what it holds in memory (uploads under way) is exact;
  when that one dies another takes over.
- A process that ends is started again: at once the first time, then after growing pauses.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack

from runtime.engine.rate import new_counts_file
from runtime.listening import Listening, Ready, until_stopped
from runtime.settings import ServerSettings, SettingsError, prepare_data_directory
from runtime.sockets import bind, bind_group
from runtime.supervisor.breaker import Breaker
from runtime.supervisor.errors import ProcessFailed
from runtime.supervisor.messages import (
    Changed,
    Drain,
    Draining,
    Failed,
    Listen,
    LookAgain,
    Manage,
    Opened,
    StartScript,
    Stops,
    ToProcess,
    ToSupervisor,
)
from runtime.supervisor.process import ServerProcess
from runtime.telemetry.logs import open_log

PAUSES_S = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Before a process is started again, by how many ended shortly before it in the same place."""

SHORT_LIFE_S = 30.0

WATCH_S = 0.5

DRAIN_MARGIN_S = 20.0
"""How much longer than the grace period a process may take to end."""

STOP_LISTENING_S = 1.0

CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
"""Signals that a process brings upon itself. SIGKILL is not among them: that is the operator, or a lack of memory."""

_log = logging.getLogger(__name__)


def run(settings: ServerSettings, *, ready: Ready | None = None) -> None:
    """Serves until a signal ends it: SIGTERM or SIGINT gracefully, a second one at once.

    Raises `SettingsError` as `runtime.server.serve` does, `ProcessFailed`, and what `ready` raises.
    """
    asyncio.run(_run(settings, ready))


async def _run(settings: ServerSettings, ready: Ready | None) -> None:
    with ExitStack() as stack:
        tenants = bind_group(settings.host, settings.port, "port", settings.processes)
        for listening in tenants:
            stack.enter_context(listening)
        admin = stack.enter_context(bind(settings.admin_host, settings.admin_port, "admin_port"))
        prepare_data_directory(settings)
        log = open_log(settings.log_format, settings.log_level)
        stack.callback(log.close)
        counts = new_counts_file(settings.processes)
        stack.callback(os.close, counts)
        supervisor = Supervisor(settings, tenants, admin, counts, Breaker(settings.stops_path, settings.crashes_max))
        await supervisor.run(ready)


class Supervisor:
    def __init__(
        self,
        settings: ServerSettings,
        tenants: list[socket.socket],
        admin: socket.socket,
        counts: int,
        breaker: Breaker,
    ) -> None:
        self._settings = settings
        self._tenants = tenants
        self._admin = admin
        self._counts = counts
        self._breaker = breaker
        self._processes: dict[int, ServerProcess] = {}
        """By index; one that is missing is about to be started again."""
        self._ends: list[deque[float]] = [deque(maxlen=len(PAUSES_S)) for _ in tenants]
        self._hosts: dict[int, ServerProcess] = {}
        """Who accepts from a socket in the place of its own process."""
        self._managing: ServerProcess | None = None
        self._admin_token = ""
        self._opening: asyncio.Future[None]
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._tidy = True

    async def run(self, ready: Ready | None) -> None:
        loop = asyncio.get_running_loop()
        self._opening = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        try:
            for index in range(len(self._tenants)):
                self._start(index)
            try:
                if await self._opened():
                    await self._serve(ready)
            finally:
                self._stopping.set()
                # What does not even start has nothing to finish.
                if all(process.opened for process in self._processes.values()):
                    await self._drain()
        finally:
            for process in self._processes.values():
                process.kill("the supervisor ends")
        if not self._tidy:
            raise ProcessFailed("Not every server process ended as it should; the log says more.")

    async def _opened(self) -> bool:
        """False if a signal came first. Raises `SettingsError` or `ProcessFailed`."""
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((stopped, self._opening), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not self._opening.done():
            return False
        self._opening.result()
        return True

    async def _serve(self, ready: Ready | None) -> None:
        settings = self._settings
        listening = Listening(
            host=settings.host,
            port=self._tenants[0].getsockname()[1],
            admin_host=settings.admin_host,
            admin_port=self._admin.getsockname()[1],
            admin_token=self._admin_token,
        )
        pids = [process.pid for process in self._processes.values()]
        fields = {"port": listening.port, "admin_port": listening.admin_port, "processes": pids}
        _log.info("listening", extra={"fields": fields})
        watching = asyncio.create_task(self._watch())
        try:
            await until_stopped(self._stopping, ready, listening)
        finally:
            watching.cancel()
            _log.info("stopping")

    def _stop(self, number: int) -> None:
        if self._stopping.is_set():
            for process in self._processes.values():
                process.kill("a second signal")
            os._exit(128 + number)
        self._stopping.set()

    # Processes

    def _start(self, index: int) -> None:
        if self._stopping.is_set():
            return
        stopped = self._breaker.stops
        self._processes[index] = ServerProcess(
            index, self._settings, self._tenants, self._admin, self._counts, stopped, listener=self
        )

    def said(self, process: ServerProcess, message: ToProcess | ToSupervisor) -> None:
        match message:
            case Opened(admin_token):
                self._admin_token = admin_token
                process.opened = True
                self._share_out()
                if not self._opening.done() and all(each.opened for each in self._processes.values()):
                    self._opening.set_result(None)
            case Failed(text) if not self._opening.done():
                self._opening.set_exception(SettingsError(text))
            case Failed(text):
                _log.error("A server process cannot be started again: %s", text)
            case Draining():
                process.draining = True
                self._share_out()
            case Changed():
                for other in self._processes.values():
                    if other is not process:
                        other.send(LookAgain())
            case StartScript(version):
                self._start_script(version)
            case _:
                _log.error("A server process said what it must not: %s", type(message).__name__)
        self._changed.set()

    def ended(self, process: ServerProcess) -> None:
        del self._processes[process.index]
        if self._managing is process:
            self._managing = None
        self._hosts = {index: host for index, host in self._hosts.items() if host is not process}
        self._changed.set()
        if self._stopping.is_set():
            self._tidy = self._tidy and process.status == 0
            if process.status:
                _log.error("A server process did not end as it should: %s", _cause(process))
            return
        if not self._opening.done():
            self._opening.set_exception(ProcessFailed(f"A server process did not start: {_cause(process)}."))
            return
        self._report(process)
        self._share_out()
        asyncio.get_running_loop().call_later(self._pause_s(process), self._start, process.index)

    def _pause_s(self, process: ServerProcess) -> float:
        """How long to wait before the process that has ended is started again."""
        now = time.monotonic()
        ends = self._ends[process.index]
        while ends and now - ends[0] > SHORT_LIFE_S * len(PAUSES_S):
            ends.popleft()
        if now - process.started_at > SHORT_LIFE_S:
            ends.clear()
        ends.append(now)
        return PAUSES_S[len(ends) - 1]

    def _report(self, process: ServerProcess) -> None:
        if process.draining and process.status == 0:
            _log.info("a server process has ended and is started again", extra={"fields": {"pid": process.pid}})
            return
        label, cause = process.label, _cause(process)
        fields = {"pid": process.pid, "cause": cause, "running": label}
        _log.error("a server process has crashed and is started again", extra={"fields": fields})
        blamed = process.killed_for or -process.status in CRASHES
        stop = self._breaker.crashed(label, cause) if label and blamed else None
        if stop is not None:
            fields = {"namespace": stop.namespace, "tenant": stop.script, "version": stop.version}
            _log.error("stopped a worker that crashes the server", extra={"fields": fields})
            self._tell_all(Stops(self._breaker.stops))

    def _start_script(self, version: str) -> None:
        stop = self._breaker.start(version)
        if stop is not None:
            fields = {"namespace": stop.namespace, "tenant": stop.script, "version": stop.version}
            _log.info("a worker that was stopped may run again", extra={"fields": fields})
            self._tell_all(Stops(self._breaker.stops))

    def _tell_all(self, message: ToProcess) -> None:
        for process in self._processes.values():
            process.send(message)

    # Sockets

    def _share_out(self) -> None:
        """Sees to it that every socket and the management API have a process that serves them."""
        if self._stopping.is_set():
            return
        serving = [process for process in self._processes.values() if process.opened and not process.draining]
        for index in range(len(self._tenants)):
            host = self._hosts.get(index)
            if host is not None and host not in serving:
                del self._hosts[index]
                host = None
            own = self._processes.get(index)
            if own in serving:
                if host is not None:
                    host.send(Listen(index, False))
                    del self._hosts[index]
            elif host is None and serving and self._opening.done():
                # The one that has fewest to look after.
                load = list(self._hosts.values())
                chosen = min(serving, key=load.count)
                chosen.send(Listen(index, True))
                self._hosts[index] = chosen
        if self._managing not in serving and serving:
            self._managing = serving[0]
            self._managing.send(Manage())

    # Time

    async def _watch(self) -> None:
        limit_s = self._settings.watchdog_s
        while True:
            await asyncio.sleep(WATCH_S)
            for process in self._processes.values():
                if limit_s and process.stuck_s > limit_s and not process.killed_for:
                    process.kill(f"its event loop had not turned for {process.stuck_s:.0f} s")

    async def _drain(self) -> None:
        """Ends all processes gracefully, and at the end of their time by force."""
        self._tell_all(Drain())
        await self._until(lambda process: process.draining, STOP_LISTENING_S)
        for listening in (*self._tenants, self._admin):
            # Closing would not do: the processes have it open as well.
            try:
                listening.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it never listened
        await self._until(_has_ended, self._settings.shutdown_grace_s * 2 + DRAIN_MARGIN_S)
        for process in self._processes.values():
            process.kill("it did not end in time")
        await self._until(_has_ended, DRAIN_MARGIN_S)

    async def _until(self, done: Callable[[ServerProcess], bool], timeout_s: float) -> None:
        """Waits until every process is done or has ended, or time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                while not all(done(process) for process in self._processes.values()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass


def _has_ended(process: ServerProcess) -> bool:
    return not process.alive


def _cause(process: ServerProcess) -> str:
    """How it ended, in words."""
    if process.killed_for:
        return f"it was killed, since {process.killed_for}"
    if process.status < 0:
        return f"signal {signal.Signals(-process.status).name}"
    return f"exit code {process.status}"
