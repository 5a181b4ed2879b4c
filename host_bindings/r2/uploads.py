"""Multipart uploads in a bucket's metadata, each function for one operation on an open connection.

An upload that has been completed or aborted stays on record for a while, since R2 tells it from one that never was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import apsw

from host_bindings.r2.errors import bad_upload, entity_too_small, internal_error, invalid_part, no_such_upload
from host_bindings.r2.metadata import Stored, discard, put
from host_bindings.r2.objects import Attributes, StoredObject
from host_bindings.storage.connection import rows

UPLOAD_SECONDS = 7 * 24 * 3600
"""An upload that is not completed ends after this time."""

_IN_PROGRESS, _COMPLETED, _ABORTED = "in progress", "completed", "aborted"

_PARTS = "SELECT number, etag, md5, size, file FROM parts WHERE upload = ?"


class Part(NamedTuple):
    """A part that has been uploaded; `md5` in hex."""

    number: int
    etag: str
    md5: str
    size: int
    file: str


class NamedPart(NamedTuple):
    """A part as the caller who completes an upload names it."""

    number: int
    etag: str


class Plan(NamedTuple):
    """What an upload will become: its parts in order."""

    parts: tuple[Part, ...]
    attributes: Attributes

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def etag(self) -> str:
        digest = hashlib.md5(b"".join(bytes.fromhex(part.md5) for part in self.parts), usedforsecurity=False)
        return f"{digest.hexdigest()}-{len(self.parts)}"


class _Upload(NamedTuple):
    state: str
    attributes: Attributes


def create(connection: apsw.Connection, id: str, key: str, attributes: Attributes, now_ms: int) -> None:
    connection.execute(
        """INSERT INTO uploads (id, key, state, created_ms, http_metadata, custom_metadata, storage_class)
        VALUES (?, ?, ?, ?, ?, ?, ?)""",
        (id, key.encode(), _IN_PROGRESS, now_ms, *attributes),
    )


def check_in_progress(connection: apsw.Connection, id: str, key: str, now_ms: int) -> None:
    """Raises `R2Error` if no part can be added."""
    upload = _find(connection, id, key, now_ms)
    if upload is None or upload.state != _IN_PROGRESS:
        raise no_such_upload()


def put_part(connection: apsw.Connection, id: str, key: str, part: Part, now_ms: int) -> Stored:
    """Adds a part, or replaces the one of the same number."""
    check_in_progress(connection, id, key, now_ms)
    old = rows(connection, "SELECT file FROM parts WHERE upload = ? AND number = ?", (id, part.number))
    connection.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?)", (id, *part))
    return Stored(True, discard(connection, [file for (file,) in old]))


def plan(
    connection: apsw.Connection, id: str, key: str, named: Sequence[NamedPart], part_bytes_min: int, now_ms: int
) -> Plan:
    """Checks a completion. Raises `R2Error` as R2 does: sizes first in the caller's order, then by part number."""
    upload = _find(connection, id, key, now_ms)
    if upload is None:
        raise internal_error()
    if upload.state != _IN_PROGRESS:
        raise no_such_upload()
    if len({part.number for part in named}) != len(named):
        raise internal_error()
    uploaded: Mapping[int, Part] = {row[0]: Part(*row) for row in rows(connection, _PARTS, (id,))}
    parts = []
    for each in named:
        part = uploaded.get(each.number)
        if part is None or part.etag != each.etag:
            raise invalid_part()
        parts.append(part)
    if any(part.size < part_bytes_min for part in parts[:-1]):
        raise entity_too_small()
    parts.sort()
    for part in parts[:-1]:
        if part.size < part_bytes_min or part.size != parts[0].size:
            raise bad_upload()
    if parts and parts[-1].size > parts[0].size:
        raise bad_upload()
    return Plan(tuple(parts), upload.attributes)


def complete(connection: apsw.Connection, id: str, plan: Plan, new: StoredObject, now_ms: int) -> Stored:
    """Makes the object of an upload whose parts are still those of the plan."""
    upload = _find(connection, id, new.key, now_ms)
    if upload is None or upload.state != _IN_PROGRESS:
        raise no_such_upload()
    files = [file for (file,) in rows(connection, "SELECT file FROM parts WHERE upload = ?", (id,))]
    if not {part.file for part in plan.parts} <= set(files):
        raise invalid_part()
    replaced = put(connection, new, None)
    _finish(connection, id, _COMPLETED)
    return Stored(True, replaced.garbage + discard(connection, files))


def abort(connection: apsw.Connection, id: str, key: str, now_ms: int) -> list[str]:
    """Ends an upload and returns the files of its parts. Does nothing to one that has ended already."""
    upload = _find(connection, id, key, now_ms)
    if upload is None:
        raise internal_error()
    if upload.state != _IN_PROGRESS:
        return []
    return _drop_parts(connection, id)


def any_expired(connection: apsw.Connection, now_ms: int) -> bool:
    return bool(rows(connection, "SELECT 1 FROM uploads WHERE created_ms < ? LIMIT 1", (_horizon_ms(now_ms),)))


def expire(connection: apsw.Connection, now_ms: int, limit: int) -> list[str]:
    """Forgets some of the uploads that are too old and returns the files of their parts."""
    files: list[str] = []
    for (id,) in rows(connection, "SELECT id FROM uploads WHERE created_ms < ? LIMIT ?", (_horizon_ms(now_ms), limit)):
        files += _drop_parts(connection, id)
        connection.execute("DELETE FROM uploads WHERE id = ?", (id,))
    return files


def _find(connection: apsw.Connection, id: str, key: str, now_ms: int) -> _Upload | None:
    found = rows(
        connection,
        """SELECT state, http_metadata, custom_metadata, storage_class FROM uploads
        WHERE id = ? AND key = ? AND created_ms >= ?""",
        (id, key.encode(), _horizon_ms(now_ms)),
    )
    return _Upload(found[0][0], Attributes(*found[0][1:])) if found else None


def _horizon_ms(now_ms: int) -> int:
    return now_ms - UPLOAD_SECONDS * 1000


def _drop_parts(connection: apsw.Connection, id: str) -> list[str]:
    files = [file for (file,) in rows(connection, "SELECT file FROM parts WHERE upload = ?", (id,))]
    _finish(connection, id, _ABORTED)
    return discard(connection, files)


def _finish(connection: apsw.Connection, id: str, state: str) -> None:
    connection.execute("DELETE FROM parts WHERE upload = ?", (id,))
    connection.execute("UPDATE uploads SET state = ? WHERE id = ?", (state, id))
