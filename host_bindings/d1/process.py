"""A child process that runs tenants' SQL. Started by `child.Child`, one work at a time.

It trusts nothing that it is asked to run, and is trusted with little: no environment, no secrets, and a process that
its parent can kill at any moment without losing what was answered.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import msgspec

from host_bindings.d1.confinement import confine
from host_bindings.d1.session import Session
from host_bindings.d1.wire import LENGTH_BYTES, Answers, Setup, Status, Work, frame

_RECEIVE_BYTES = 64 * 1024
"""Less than what malloc takes from the system each time, and gives back."""
_ORPHAN_GRACE_S = 0.5


def main() -> None:
    """Arguments: the descriptors of the socket to the parent and of the status page."""
    # The parent decides when this process ends, also when a whole process group gets the signal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel = socket.socket(fileno=int(sys.argv[-2]))
    status_descriptor = int(sys.argv[-1])
    status = Status(status_descriptor)
    os.close(status_descriptor)
    receive = _Receiver(channel).receive
    content = receive()
    if content is None:
        return
    setup = msgspec.msgpack.decode(content, type=Setup)
    confine(setup.limits, Path(setup.directory))
    threading.Thread(target=_end_with_parent, args=(channel.fileno(),), daemon=True).start()
    session = Session(setup.limits, status, lambda answers: channel.sendall(frame(answers)))
    decode = msgspec.msgpack.Decoder(Work).decode
    try:
        channel.sendall(frame(Answers([], 0)))
        while (content := receive()) is not None:
            session.serve(decode(content))
    except (BrokenPipeError, ConnectionResetError):
        pass
    session.close()


class _Receiver:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._buffer = bytearray()

    def receive(self) -> bytes | None:
        """The next message, None when the parent has gone."""
        while True:
            end = LENGTH_BYTES + int.from_bytes(self._buffer[:LENGTH_BYTES], "little")
            if LENGTH_BYTES <= len(self._buffer) >= end:
                content = bytes(self._buffer[LENGTH_BYTES:end])
                del self._buffer[:end]
                return content
            piece = self._channel.recv(_RECEIVE_BYTES)
            if not piece:
                return None
            self._buffer += piece


def _end_with_parent(descriptor: int) -> None:
    """Ends this process when its parent has gone, even in the middle of an endless statement."""
    poll = select.poll()
    poll.register(descriptor, 0)  # only hang-ups
    poll.poll()
    time.sleep(_ORPHAN_GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    main()
