"""A server process under a supervisor: what it runs, and how it obeys."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import asdict

from host_bindings.confinement import deny_administration, end_with_parent
from runtime.engine.rate import SharedCounts
from runtime.engine.running import RunningTable
from runtime.server import Server, open_server, run_on_loop
from runtime.settings import SettingsError
from runtime.stopped import StoppedScript, StoppedScripts
from runtime.supervisor.confinement import confine
from runtime.supervisor.messages import (
    Changed,
    Channel,
    Drain,
    Draining,
    Failed,
    Listen,
    LookAgain,
    Manage,
    Opened,
    Start,
    StartScript,
    Stops,
    ToProcess,
    ToSupervisor,
)

_log = logging.getLogger(__name__)

_REFUSED = 2
"""The exit code of a process whose settings cannot be."""


def main() -> None:
    """Arguments: how to confine, the descriptor of the channel, and the supervisor's process id."""
    end, supervisor = socket.socket(fileno=int(sys.argv[-2])), int(sys.argv[-1])
    # Even one whose event loop is stuck.
    end_with_parent(supervisor)
    system_calls_denied = sys.argv[-3] != "off" and deny_administration()
    run_on_loop(_Child(end, system_calls_denied).run())


class _Child:
    def __init__(self, end: socket.socket, system_calls_denied: bool) -> None:
        self._end = end
        self._system_calls_denied = system_calls_denied

    async def run(self) -> None:
        self._started: asyncio.Future[Start] = asyncio.get_running_loop().create_future()
        self._stopping = asyncio.Event()
        self._server: Server | None = None
        self._tenants: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = StoppedScripts()
        self._stopped.asks(self._ask_to_start)
        # A service manager may signal a whole group: then the supervisor tells as well, and one of both is enough.
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        self._channel = Channel(self._end, self._obey, self._orphaned)
        start = await self._started
        self._tenants = [socket.socket(fileno=descriptor) for descriptor in start.tenants]
        self._admin = socket.socket(fileno=start.admin)
        self._stopped.replace(start.stopped)
        try:
            # Before there is a thread: Landlock holds for the thread that asks, and for those that it starts.
            confinement = confine(start.settings, system_calls_denied=self._system_calls_denied)
            async with AsyncExitStack() as stack:
                counts = SharedCounts(start.counts, start.index, start.settings.processes)
                running = RunningTable(start.table)
                self._server = await open_server(stack, start.settings, running, self._stopped, counts)
                _log.info("confined", extra={"fields": asdict(confinement)})
                await self._server.listen(self._tenants[start.index])
                self._channel.send(Opened(self._server.admin_token))
                await self._stopping.wait()
                await self._server.stop_accepting()
                self._channel.send(Draining())
        except SettingsError as error:
            self._channel.send(Failed(str(error)))
            sys.exit(_REFUSED)

    def _obey(self, message: ToProcess | ToSupervisor) -> None:
        match message:
            case Start():
                self._started.set_result(message)
            case Listen(index, listening) if self._server is not None and not self._stopping.is_set():
                if listening:
                    self._do(self._server.listen(self._tenants[index]))
                else:
                    self._server.stop_listening(self._tenants[index])
            case Manage() if self._server is not None and not self._stopping.is_set():
                self._do(self._server.manage(self._admin))
                self._server.registry.subscribe(lambda *_: self._channel.send(Changed()))
            case LookAgain() if self._server is not None:
                self._server.registry.look_again()
            case Stops(stopped):
                self._stopped.replace(stopped)
            case Drain():
                self._stopping.set()
            case _:
                _log.debug("not obeyed: %s", type(message).__name__)

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _ask_to_start(self, stop: StoppedScript) -> None:
        self._channel.send(StartScript(stop.version))

    def _orphaned(self) -> None:
        """Without a supervisor nobody would start what crashes, or stop this process: the next start has the ports."""
        os._exit(1)
