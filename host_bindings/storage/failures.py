"""What a caller gets when storage itself fails, as opposed to an operation that is refused."""

from __future__ import annotations

import errno

import apsw

from host_bindings.contract import Failure


class StorageFailure(Failure):
    """The disk or the database failed. After one the operation must not be taken as done (nor as not done).

    `status` is the HTTP status that fits: 507 if there is no room, 503 if it is worth another try, 500 otherwise. The
    message names nothing of the host's; what happened is in the operator's log.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__("Error", message)
        self.status = status


def full() -> StorageFailure:
    return StorageFailure("There is no room left on the storage.", 507)


def busy() -> StorageFailure:
    return StorageFailure("The storage is busy. Try again.", 503)


def broken() -> StorageFailure:
    return StorageFailure("The storage failed.", 500)


def closed() -> StorageFailure:
    return StorageFailure("The storage has been closed.", 503)


def from_error(error: BaseException) -> StorageFailure:
    """What to tell a caller about an error of SQLite or of the operating system."""
    if isinstance(error, StorageFailure):
        # A new object for each caller: a shared one would gather all their tracebacks.
        return StorageFailure(error.message, error.status)
    if isinstance(error, apsw.FullError) or (
        isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    ):
        return full()
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return busy()
    return broken()
