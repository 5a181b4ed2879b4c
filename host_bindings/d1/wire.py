"""What the parent and a child process say to each other: a 4-byte little-endian length, then MessagePack.

The parent sends one `Setup`, then `Work`; the child answers the setup with an empty `Answers` and each request with
one entry of an `Answers`, in order. `Status` is a page of shared memory in which the child says what it is doing:
after a kill the parent knows which request ran and whether a commit had begun.
"""

from __future__ import annotations

import mmap
from typing import Literal

import msgspec

from host_bindings.d1.limits import SqlLimits

LENGTH_BYTES = 4

Kind = Literal["query", "exec", "close", "export", "import", "find", "restore"]

ALONE: frozenset[Kind] = frozenset({"export", "import", "find", "restore"})
"""Requests of the host's own, which share no transaction and may take long."""


class Setup(msgspec.Struct, array_like=True, frozen=True):
    """All databases lie below `directory`."""

    limits: SqlLimits
    directory: str


class Request(msgspec.Struct, array_like=True, frozen=True):
    """`body` is SQL for exec, empty for close, and JSON text for the others: `values.QueryRequest`,
    `requests.Export`, `requests.Import`, `requests.Moment`."""

    kind: Kind
    body: str


class Allowed(msgspec.Struct, array_like=True, frozen=True):
    """What the owner may take, besides the limits that hold for everybody. `storage_bytes`: all its databases."""

    request_ms: int
    result_rows: int
    storage_bytes: int


class Work(msgspec.Struct, array_like=True, frozen=True):
    """Requests for one database, `directory`. `last_row_id` is what its last answer said, whichever child gave it."""

    directory: str
    last_row_id: int
    requests: list[Request]
    allowed: Allowed


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """`text` is UTF-8: a JSON result or, if `failed`, an error message. `code` names the owner's limit that was hit."""

    failed: bool
    text: bytes
    code: str = ""


class Answers(msgspec.Struct, array_like=True, frozen=True):
    answers: list[Answer]
    last_row_id: int


_encoder = msgspec.msgpack.Encoder()


def frame(message: Setup | Work | Answers) -> bytes:
    """A message with its length before it."""
    content = _encoder.encode(message)
    return len(content).to_bytes(LENGTH_BYTES, "little") + content


STATUS_BYTES = mmap.PAGESIZE

EXECUTING = 0
COMMITTING = 1
MAINTAINING = 2


class Status:
    """The shared page: number of the `Work` (1, 2, …), position of the request in it, and one of the phases above."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, STATUS_BYTES)
        self._words = memoryview(self._map).cast("I")

    def begin_work(self) -> None:
        self._words[1] = 0
        self._words[2] = EXECUTING
        self._words[0] += 1

    def executing(self, position: int) -> None:
        self._words[1] = position
        self._words[2] = EXECUTING

    def maintaining(self, position: int) -> None:
        self._words[1] = position
        self._words[2] = MAINTAINING

    def committing(self) -> None:
        self._words[2] = COMMITTING

    def read(self) -> tuple[int, int, int]:
        return self._words[0], self._words[1], self._words[2]

    def close(self) -> None:
        self._words.release()
        self._map.close()
