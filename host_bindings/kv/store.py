"""A KV namespace in one SQLite file.

Keys are the bytes of their UTF-8 encoding, so that SQLite's order of BLOBs is the order that listings promise and no
collation or normalisation comes between. Any string is a key here; limits are the binding's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import apsw

from host_bindings.storage.connection import rows, snapshot
from host_bindings.storage.database import Database
from host_bindings.storage.immediate import NotNow
from host_bindings.storage.keys import after_key, after_prefix, decode_cursor, encode_cursor
from host_bindings.storage.quota import Quota

INLINE_BYTES_MAX = 256
"""Longer values lie in a table of their own, so that the keys stay close together and the tree of keys flat."""

SWEEP_SECONDS = 30
"""How often a namespace in use is searched for expired entries."""

_SWEEP_ROWS = 500

FILE_NAME = "kv.sqlite"

_ENTRY_BYTES = 4 * 1024
"""What an entry takes besides its value, at most: its key and metadata, and what is left free in pages."""

_SCHEMA = """
    CREATE TABLE entries (
        key BLOB NOT NULL PRIMARY KEY,
        expiration INTEGER,
        metadata TEXT,
        value BLOB,
        large INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE large_values (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
    CREATE INDEX entries_by_expiration ON entries (expiration) WHERE expiration IS NOT NULL;
    CREATE TRIGGER entries_replaced AFTER UPDATE ON entries WHEN old.large IS NOT NULL BEGIN
        DELETE FROM large_values WHERE id = old.large;
    END;
    CREATE TRIGGER entries_deleted AFTER DELETE ON entries WHEN old.large IS NOT NULL BEGIN
        DELETE FROM large_values WHERE id = old.large;
    END;
"""
_SCHEMA_VERSION = 1

SHORT_LISTING_KEYS = 64
"""What is listed on the event loop; a longer listing is a thread's."""

_GET = """
    SELECT coalesce(value, (SELECT value FROM large_values WHERE id = large)), metadata, expiration
    FROM entries WHERE key = ? AND (expiration IS NULL OR expiration > ?)
"""
_SIZE = """
    SELECT coalesce(length(value), (SELECT length(value) FROM large_values WHERE id = large))
    FROM entries WHERE key = ? AND (expiration IS NULL OR expiration > ?)
"""
_PUT = """
    INSERT INTO entries (key, expiration, metadata, value, large) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET
        expiration = excluded.expiration, metadata = excluded.metadata, value = excluded.value, large = excluded.large
"""
_PUT_LARGE = "INSERT INTO large_values (value) VALUES (?)"
_DELETE = "DELETE FROM entries WHERE key = ?"
_LIST = """
    SELECT key, expiration, metadata FROM entries
    WHERE key >= ? AND (expiration IS NULL OR expiration > ?)
    ORDER BY key LIMIT ?
"""
_LIST_BELOW = _LIST.replace("key >= ?", "key >= ? AND key < ?")
_EXPIRED = "SELECT 1 FROM entries WHERE expiration <= ? LIMIT 1"
_SWEEP = "DELETE FROM entries WHERE key IN (SELECT key FROM entries WHERE expiration <= ? LIMIT ?)"


class Entry(NamedTuple):
    """A value with what was stored beside it: metadata as JSON text, expiration in seconds since 1970."""

    value: bytes
    metadata: str | None
    expiration: int | None


class ListedKey(NamedTuple):
    name: str
    expiration: int | None
    metadata: str | None


class Listing(NamedTuple):
    """A page of keys. `cursor` leads to the next one; None at the end."""

    keys: list[ListedKey]
    cursor: str | None


class TooMuch(Exception):
    """The values asked for are larger together than was allowed."""


class KVNamespace:
    """The keys and values under one directory. Opens it when it is first used.

    Every method raises `StorageFailure` if the storage fails. `put` and `delete` return when the change is on disk.
    """

    def __init__(self, directory: Path, *, quota: Quota | None = None, clock: Callable[[], float] = time.time) -> None:
        """`quota` is what its owner's namespaces share; None: there is none."""
        self._database = Database(directory / FILE_NAME, _prepare, _SCHEMA_VERSION)
        self._quota = None if quota is None else partial(quota.take, directory.name)
        self._clock = clock
        self._sweep_at = 0.0

    async def get(self, key: str) -> Entry | None:
        now = self._now()
        find = partial(_get, key.encode(), now)
        return await self._database.read(find, at_once=find)

    async def get_many(self, keys: Sequence[str], *, bytes_max: int) -> dict[str, Entry | None]:
        """The entries of all keys at one moment. Raises `TooMuch` if the values are larger than `bytes_max` bytes."""
        now = self._now()
        return await self._database.read(partial(_get_many, tuple(dict.fromkeys(keys)), now, bytes_max))

    async def put(self, key: str, value: bytes, *, metadata: str | None = None, expiration: int | None = None) -> None:
        """Replaces the whole entry: `metadata` (JSON text) and `expiration` (seconds since 1970) too."""
        self._now()
        small = len(value) <= INLINE_BYTES_MAX
        operation = partial(_put_small if small else _put_large, key.encode(), value, metadata, expiration)
        if self._quota is not None:
            operation = partial(_put_within, self._quota, len(value) + _ENTRY_BYTES, operation)
        await self._database.write(operation, size_bytes=len(value), single_statement=small)

    async def delete(self, key: str) -> None:
        await self._database.write(partial(_delete, key.encode()), single_statement=True)

    async def list(self, prefix: str = "", *, limit: int = 1000, cursor: str | None = None) -> Listing:
        """The first `limit` keys with the prefix, in the order of their bytes, after those that `cursor` stands for."""
        now = self._now()
        start = decode_cursor(cursor) if cursor else b""
        place = (prefix.encode(), start)
        return await self._database.read(
            partial(_list, *place, limit, now), at_once=partial(_list_short, *place, limit, now)
        )

    async def close(self) -> None:
        """Waits for what is under way. Later operations raise `StorageFailure`."""
        await self._database.close()

    def now(self) -> int:
        """The seconds since 1970 by which entries expire."""
        return int(self._clock())

    def _now(self) -> int:
        now = self._clock()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            self._database.read_soon(self._look_for_expired)
        return int(now)

    def _look_for_expired(self, connection: apsw.Connection) -> None:
        if rows(connection, _EXPIRED, (self.now(),)):
            self._database.write_soon(self._sweep)

    def _sweep(self, connection: apsw.Connection) -> None:
        connection.execute(_SWEEP, (self.now(), _SWEEP_ROWS))
        if connection.changes() == _SWEEP_ROWS:
            self._database.write_soon(self._sweep)


def _prepare(connection: apsw.Connection) -> None:
    connection.execute(_SCHEMA)


def _get(key: bytes, now: int, connection: apsw.Connection) -> Entry | None:
    found = rows(connection, _GET, (key, now))
    return Entry(*found[0]) if found else None


def _get_many(keys: tuple[str, ...], now: int, bytes_max: int, connection: apsw.Connection) -> dict[str, Entry | None]:
    with snapshot(connection):
        size = 0
        for key in keys:
            for (length,) in rows(connection, _SIZE, (key.encode(), now)):
                size += length
        if size > bytes_max:
            raise TooMuch
        return {key: _get(key.encode(), now, connection) for key in keys}


def _put_small(
    key: bytes, value: bytes, metadata: str | None, expiration: int | None, connection: apsw.Connection
) -> None:
    connection.execute(_PUT, (key, expiration, metadata, value, None))


def _put_within(
    take: Callable[[int, apsw.Connection], None],
    size_bytes: int,
    put: Callable[[apsw.Connection], None],
    connection: apsw.Connection,
) -> None:
    take(size_bytes, connection)
    put(connection)


def _put_large(
    key: bytes, value: bytes, metadata: str | None, expiration: int | None, connection: apsw.Connection
) -> None:
    connection.execute(_PUT_LARGE, (value,))
    connection.execute(_PUT, (key, expiration, metadata, None, connection.last_insert_rowid()))


def _delete(key: bytes, connection: apsw.Connection) -> None:
    connection.execute(_DELETE, (key,))


def _list(prefix: bytes, start: bytes, limit: int, now: int, connection: apsw.Connection) -> Listing:
    end = after_prefix(prefix)
    sql, bounds = (_LIST, (max(prefix, start),)) if end is None else (_LIST_BELOW, (max(prefix, start), end))
    found = rows(connection, sql, (*bounds, now, limit + 1))
    keys = [ListedKey(str(key, "utf-8"), expiration, metadata) for key, expiration, metadata in found[:limit]]
    return Listing(keys, encode_cursor(after_key(found[limit - 1][0]) if len(found) > limit else None))


def _list_short(prefix: bytes, start: bytes, limit: int, now: int, connection: apsw.Connection) -> Listing:
    """Raises `NotNow` if there is more than fits in a short listing."""
    listing = _list(prefix, start, min(limit, SHORT_LISTING_KEYS), now, connection)
    if listing.cursor is not None and limit > SHORT_LISTING_KEYS:
        raise NotNow
    return listing
