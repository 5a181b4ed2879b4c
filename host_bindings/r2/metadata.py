"""A bucket's metadata: the statements, each function for one operation on an open connection. Everything here blocks.

Files whose object or part has gone are named in `garbage`, in the same transaction, until they have been removed. Small
files are not on disk by themselves but in the table `small_files`: an object of that size costs one fsync, shared with
others that wait, where a file costs two more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import apsw

from host_bindings.r2.objects import Conditions, StoredObject
from host_bindings.storage.connection import rows
from host_bindings.storage.keys import after_key, after_prefix

FILE_NAME = "r2.sqlite"
SCHEMA_VERSION = 3

_SCHEMA = """
    CREATE TABLE objects (
        key BLOB NOT NULL PRIMARY KEY,
        version TEXT NOT NULL,
        size INTEGER NOT NULL,
        etag TEXT NOT NULL,
        uploaded_ms INTEGER NOT NULL,
        checksums TEXT NOT NULL,
        storage_class TEXT NOT NULL,
        file TEXT NOT NULL,
        http_metadata TEXT NOT NULL,
        custom_metadata TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX objects_by_file ON objects (file);
    CREATE TABLE uploads (
        id TEXT NOT NULL PRIMARY KEY,
        key BLOB NOT NULL,
        state TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        http_metadata TEXT NOT NULL,
        custom_metadata TEXT NOT NULL,
        storage_class TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX uploads_by_time ON uploads (created_ms);
    CREATE TABLE parts (
        upload TEXT NOT NULL,
        number INTEGER NOT NULL,
        etag TEXT NOT NULL,
        md5 TEXT NOT NULL,
        size INTEGER NOT NULL,
        file TEXT NOT NULL,
        PRIMARY KEY (upload, number)
    ) WITHOUT ROWID;
    CREATE INDEX parts_by_file ON parts (file);
    CREATE TABLE garbage (file TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID;
"""

ENTRY_BYTES = 1024
"""What an object or a part counts besides its bytes: its metadata, and the file system's part."""

# The bucket's size in one row, kept by the database itself: counting would take as long as there are objects. OR
# REPLACE fires no trigger for the row that it replaces (unless recursive_triggers is on), hence the BEFORE triggers.
_USAGE = f"""
    CREATE TABLE usage (bytes INTEGER NOT NULL);
    INSERT INTO usage SELECT
        (SELECT coalesce(sum(size + {ENTRY_BYTES}), 0) FROM objects)
        + (SELECT coalesce(sum(size + {ENTRY_BYTES}), 0) FROM parts)
        + (SELECT count(*) * {ENTRY_BYTES} FROM uploads);
    CREATE TRIGGER object_replaced BEFORE INSERT ON objects BEGIN
        UPDATE usage SET bytes = bytes
            - (SELECT coalesce(sum(size + {ENTRY_BYTES}), 0) FROM objects WHERE key = new.key);
    END;
    CREATE TRIGGER object_added AFTER INSERT ON objects BEGIN
        UPDATE usage SET bytes = bytes + new.size + {ENTRY_BYTES};
    END;
    CREATE TRIGGER object_removed AFTER DELETE ON objects BEGIN
        UPDATE usage SET bytes = bytes - old.size - {ENTRY_BYTES};
    END;
    CREATE TRIGGER part_replaced BEFORE INSERT ON parts BEGIN
        UPDATE usage SET bytes = bytes
            - (SELECT coalesce(sum(size + {ENTRY_BYTES}), 0) FROM parts
                WHERE upload = new.upload AND number = new.number);
    END;
    CREATE TRIGGER part_added AFTER INSERT ON parts BEGIN
        UPDATE usage SET bytes = bytes + new.size + {ENTRY_BYTES};
    END;
    CREATE TRIGGER part_removed AFTER DELETE ON parts BEGIN
        UPDATE usage SET bytes = bytes - old.size - {ENTRY_BYTES};
    END;
    CREATE TRIGGER upload_added AFTER INSERT ON uploads BEGIN
        UPDATE usage SET bytes = bytes + {ENTRY_BYTES};
    END;
    CREATE TRIGGER upload_removed AFTER DELETE ON uploads BEGIN
        UPDATE usage SET bytes = bytes - {ENTRY_BYTES};
    END;
"""  # noqa: S608

_SMALL_FILES = "CREATE TABLE small_files (id INTEGER PRIMARY KEY, file TEXT NOT NULL UNIQUE, content BLOB NOT NULL)"

_COLUMNS = "key, version, size, etag, uploaded_ms, checksums, storage_class, file"
_FIND = f"SELECT {_COLUMNS}, http_metadata, custom_metadata FROM objects WHERE key = ?"  # noqa: S608
_REPLACE = "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DISCARD = "INSERT OR IGNORE INTO garbage (file) VALUES (?)"


class Stored(NamedTuple):
    """What a write has done: whether it stored its file, and the files that are garbage now."""

    stored: bool
    garbage: list[str]


class Found(NamedTuple):
    """A page of a listing. `next_start` is where the next one begins (inclusive); None at the end."""

    objects: list[StoredObject]
    prefixes: list[str]
    next_start: bytes | None


def prepare(connection: apsw.Connection) -> None:
    version = connection.pragma("user_version")
    if version < 1:
        connection.execute(_SCHEMA)
    if version < 2:
        connection.execute(_USAGE)
    connection.execute(_SMALL_FILES)


def used_bytes(connection: apsw.Connection) -> int:
    """What the bucket holds, its entries' share included."""
    ((count,),) = rows(connection, "SELECT bytes FROM usage", ())
    return int(count)


def find(connection: apsw.Connection, key: str) -> StoredObject | None:
    found = rows(connection, _FIND, (key.encode(),))
    return _object(found[0]) if found else None


def put(connection: apsw.Connection, new: StoredObject, conditions: Conditions | None) -> Stored:
    """Stores or replaces an object, if the conditions hold for what is there."""
    current = find(connection, new.key)
    if conditions is not None and not conditions.hold(current):
        return Stored(False, [])
    connection.execute(_REPLACE, (new.key.encode(), *new[1:]))
    return Stored(True, discard(connection, [current.file] if current is not None else []))


def delete(connection: apsw.Connection, keys: Collection[str]) -> list[str]:
    """Deletes the objects that there are of these, and returns their files on disk."""
    files: list[str] = []
    for key in keys:
        found = rows(connection, "DELETE FROM objects WHERE key = ? RETURNING file", (key.encode(),))
        files += [file for (file,) in found]
    return discard(connection, files)


def put_small_file(connection: apsw.Connection, file: str, content: bytes) -> None:
    connection.execute("INSERT INTO small_files (file, content) VALUES (?, ?)", (file, content))


def small_file(connection: apsw.Connection, file: str) -> bytes | None:
    """The file's content, None if it is a file on disk."""
    found = rows(connection, "SELECT content FROM small_files WHERE file = ?", (file,))
    return found[0][0] if found else None


def discard(connection: apsw.Connection, files: list[str]) -> list[str]:
    """Forgets files; returns those that are to be removed from disk."""
    on_disk = []
    for file in files:
        connection.execute("DELETE FROM small_files WHERE file = ?", (file,))
        if not connection.changes():
            connection.execute(_DISCARD, (file,))
            on_disk.append(file)
    return on_disk


def garbage(connection: apsw.Connection, limit: int) -> list[str]:
    return [file for (file,) in rows(connection, "SELECT file FROM garbage LIMIT ?", (limit,))]


def forget_garbage(connection: apsw.Connection, files: Sequence[str]) -> None:
    """The files have been removed."""
    for file in files:
        connection.execute("DELETE FROM garbage WHERE file = ?", (file,))


def files_on_disk(connection: apsw.Connection) -> set[str]:
    """The names of all files outside of the database that objects and parts have."""
    sql = "SELECT file FROM objects UNION SELECT file FROM parts EXCEPT SELECT file FROM small_files"
    return {file for (file,) in rows(connection, sql, ())}


def claim(connection: apsw.Connection, files: Sequence[str]) -> set[str]:
    """Which of the files belong to an object or a part. The others become garbage."""
    used = {file for file in files if _in_use(connection, file)}
    discard(connection, [file for file in files if file not in used])
    return used


def _in_use(connection: apsw.Connection, file: str) -> bool:
    sql = "SELECT 1 FROM objects WHERE file = ?1 UNION ALL SELECT 1 FROM parts WHERE file = ?1"
    return bool(rows(connection, sql, (file,)))


def list_objects(
    connection: apsw.Connection,
    prefix: str,
    delimiter: str,
    start: bytes,
    limit: int,
    include: Collection[str],
) -> Found:
    """Up to `limit` objects and delimited prefixes together, in the order of their keys' bytes, from `start` on."""
    listing = _Listing(connection, prefix.encode(), delimiter.encode(), limit, include)
    listing.run(max(start, prefix.encode()))
    return Found(listing.objects, listing.prefixes, listing.next_start)


class _Listing:
    def __init__(
        self, connection: apsw.Connection, prefix: bytes, delimiter: bytes, limit: int, include: Collection[str]
    ) -> None:
        self.objects: list[StoredObject] = []
        self.prefixes: list[str] = []
        self.next_start: bytes | None = None
        self._connection = connection
        self._prefix = prefix
        self._delimiter = delimiter
        self._left = limit
        self._position = b""
        end = after_prefix(prefix)
        http = "http_metadata" if "httpMetadata" in include else "'{}'"
        custom = "custom_metadata" if "customMetadata" in include else "'{}'"
        upper = "AND key < ?" if end is not None else ""
        self._sql = f"SELECT {_COLUMNS}, {http}, {custom} FROM objects WHERE key >= ? {upper} ORDER BY key"  # noqa: S608
        self._end = () if end is None else (end,)

    def run(self, start: bytes | None) -> None:
        # One query for each delimited prefix: it leaps over the keys that the prefix stands for.
        while start is not None:
            with closing(self._connection.execute(self._sql, (start, *self._end))) as cursor:
                start = self._take(cursor)

    def _take(self, cursor: Any) -> bytes | None:
        """Takes objects until there are enough, or there is a delimited prefix: then returns where to go on."""
        for row in cursor:
            if self._left == 0:
                # Where the last page ended, not where this row is: keys may yet come between.
                self.next_start = self._position
                return None
            self._left -= 1
            key: bytes = row[0]
            at = key.find(self._delimiter, len(self._prefix)) if self._delimiter else -1
            if at >= 0:
                group = key[: at + len(self._delimiter)]
                self.prefixes.append(group.decode())
                leap = after_prefix(group)
                # No UTF-8 ends in a byte 0xFF, so there is always something after it.
                assert leap is not None
                self._position = leap
                return leap
            self.objects.append(_object(row))
            self._position = after_key(key)
        return None


def _object(row: Sequence[Any]) -> StoredObject:
    return StoredObject(row[0].decode(), *row[1:])
