"""What the supervisor and a server process say to each other: JSON, one message in each packet of a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from runtime.settings import ServerSettings
from runtime.stopped import StoppedScript

MESSAGE_BYTES_MAX = 1024 * 1024


class Start(msgspec.Struct, frozen=True, tag=True):
    """The first message. Numbers are descriptors that the process has inherited."""

    settings: ServerSettings
    index: int
    """Which of the tenants' sockets is its own."""
    tenants: list[int]
    admin: int
    table: int
    """See `runtime.engine.running`."""
    counts: int
    """See `runtime.engine.rate`."""
    stopped: list[StoppedScript]


class Listen(msgspec.Struct, frozen=True, tag=True):
    """Take tenants' traffic from this socket as well (or not any more): the process whose own it is is away."""

    index: int
    listening: bool


class Manage(msgspec.Struct, frozen=True, tag=True):
    """Serve the management API: the process that did has gone."""


class LookAgain(msgspec.Struct, frozen=True, tag=True):
    """Another process has changed what is deployed. Without it that would be noticed a little later."""


class Changed(msgspec.Struct, frozen=True, tag=True):
    """The process has changed what is deployed."""


class Stops(msgspec.Struct, frozen=True, tag=True):
    """The workers that are stopped now."""

    stopped: list[StoppedScript]


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Stop accepting, finish what runs, end."""


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The process accepts tenants' traffic."""

    admin_token: str


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The process cannot start since a setting cannot be; it ends."""

    message: str


class Draining(msgspec.Struct, frozen=True, tag=True):
    """The process accepts nothing any more."""


class StartScript(msgspec.Struct, frozen=True, tag=True):
    """The operator lets a stopped version run again."""

    version: str


ToProcess = Start | Listen | Manage | LookAgain | Stops | Drain
ToSupervisor = Opened | Failed | Changed | Draining | StartScript


def _to_json(value: Any) -> str:
    assert isinstance(value, Path)
    return str(value)


def _from_json(kind: type, value: Any) -> Any:
    assert issubclass(kind, Path)
    return Path(value)


_encode = msgspec.json.Encoder(enc_hook=_to_json).encode
_decode: Callable[[bytes], ToProcess | ToSupervisor] = msgspec.json.Decoder(
    ToProcess | ToSupervisor, dec_hook=_from_json
).decode


def new_channel() -> tuple[socket.socket, socket.socket]:
    """Both ends. They keep packets whole."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BYTES_MAX)
    return ends


class Channel:
    """One end. `receive` and `ended` are called on the event loop."""

    def __init__(
        self, end: socket.socket, receive: Callable[[ToProcess | ToSupervisor], None], ended: Callable[[], None]
    ) -> None:
        end.setblocking(False)
        self._end = end
        self._receive = receive
        self._ended = ended
        self._open = True
        asyncio.get_running_loop().add_reader(end.fileno(), self._read)

    def send(self, message: ToProcess | ToSupervisor) -> None:
        """Does nothing when the other side has gone, which `ended` tells."""
        with contextlib.suppress(ConnectionError):
            self._end.send(_encode(message))

    def drain(self) -> None:
        """Receives what has arrived, and closes: the other side has ended."""
        self._read()
        self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._end.fileno())
            self._end.close()

    def _read(self) -> None:
        while self._open:
            try:
                packet = self._end.recv(MESSAGE_BYTES_MAX)
            except BlockingIOError:
                return
            except ConnectionError:
                packet = b""
            if not packet:
                self.close()
                self._ended()
                return
            self._receive(_decode(packet))
