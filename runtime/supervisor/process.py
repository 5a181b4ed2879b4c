"""The supervisor's end of one server process: start it, talk to it, hear of its end, know who was running then."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import runtime
from runtime.engine.running import RunningView, new_table_file
from runtime.settings import ServerSettings
from runtime.stopped import StoppedScript
from runtime.supervisor.messages import Channel, Start, ToProcess, ToSupervisor, new_channel

_ROOT = str(Path(runtime.__file__).parent.parent)
_MAIN = "import sys; sys.path.append(sys.argv[1]); from runtime.supervisor.child import main; main()"


class Listener(Protocol):
    """What a process tells of, on the event loop."""

    def said(self, process: ServerProcess, message: ToProcess | ToSupervisor) -> None: ...
    def ended(self, process: ServerProcess) -> None:
        """It has ended: `status` and `label` say how and in whose guest. Nothing more comes from it."""


class ServerProcess:
    """A process from its start to its end; another one follows it."""

    def __init__(
        self,
        index: int,
        settings: ServerSettings,
        tenants: list[socket.socket],
        admin: socket.socket,
        counts: int,
        stopped: list[StoppedScript],
        listener: Listener,
    ) -> None:
        self.index = index
        self.opened = False
        """It takes traffic."""
        self.draining = False
        self.killed_for = ""
        """Why the supervisor has killed it, if it has."""
        self.started_at = time.monotonic()
        self._listener = listener
        ours, theirs = new_channel()
        table = new_table_file()
        try:
            descriptors = [*(s.fileno() for s in tenants), admin.fileno(), table, counts]
            arguments = [settings.confinement, str(theirs.fileno()), str(os.getpid())]
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-P", *_warnings(), "-c", _MAIN, _ROOT, *arguments],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[*descriptors, theirs.fileno()],
                    # A terminal's Ctrl-C is the supervisor's to pass on.
                    process_group=0,
                )
            self._view = RunningView(table)
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(table)
        self._pidfd = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._exited)
        self._channel = Channel(ours, lambda message: listener.said(self, message), lambda: None)
        inherited = [s.fileno() for s in tenants]
        self._channel.send(Start(settings, index, inherited, admin.fileno(), table, counts, stopped))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def status(self) -> int:
        """The exit code; negative: the signal that ended it."""
        assert self._process.returncode is not None
        return self._process.returncode

    @property
    def label(self) -> str:
        """Whose guest runs, or ran when it ended."""
        return self._view.label

    @property
    def stuck_s(self) -> float:
        """For how long its event loop has not turned; 0 before it does."""
        beat_ns = self._view.beat_ns
        return (time.monotonic_ns() - beat_ns) / 1e9 if beat_ns else 0.0

    def send(self, message: ToProcess) -> None:
        if self.alive:
            self._channel.send(message)

    def kill(self, why: str) -> None:
        if self.alive:
            self.killed_for = self.killed_for or why
            self._process.send_signal(signal.SIGKILL)

    def _exited(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._process.wait()
        # What it said last may still be waiting to be read, and is heard before its end is.
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        self._channel.drain()
        self._listener.ended(self)
        self._view.close()


def _warnings() -> list[str]:
    """The interpreter's -W options go on to the child, as with multiprocessing."""
    return [f"-W{option}" for option in sys.warnoptions]
