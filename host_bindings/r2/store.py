"""An R2 bucket: metadata in one SQLite file, the bytes of each object in a file of its own unless they are few.

A write goes: bytes into a new file, its name into the folder, fsync of both, metadata committed, answer. The file of an
object that is replaced or deleted is removed after the commit; who reads it keeps it open. Conditions are checked in
the transaction that stores, so nothing comes between. Any string is a key here; limits are the binding's business.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import apsw

from host_bindings.body import Body, BytesBody, FileBody, Payload, known_size
from host_bindings.cached import read_cached
from host_bindings.r2 import metadata, uploads
from host_bindings.r2.errors import R2Error, bad_digest, entity_too_large
from host_bindings.r2.files import IncomingFile, Leftover, ObjectFiles
from host_bindings.r2.metadata import Stored
from host_bindings.r2.objects import HASHES, Attributes, Checksum, Conditions, Range, StoredObject
from host_bindings.r2.receive import Receiver, SmallFile
from host_bindings.r2.uploads import NamedPart, Part
from host_bindings.storage import threads
from host_bindings.storage.connection import snapshot
from host_bindings.storage.database import Database
from host_bindings.storage.failures import StorageFailure, broken, closed, from_error
from host_bindings.storage.immediate import NotNow
from host_bindings.storage.keys import after_key, decode_cursor, encode_cursor
from host_bindings.storage.quota import Quota

T = TypeVar("T")

PART_BYTES_MIN = 5 * 1024 * 1024

_GARBAGE_KEPT = 50
"""Files that have been removed stay on the list of garbage until there are so many of them."""

_SWEEP_FILES = 500
_SWEEP_LEFTOVERS = 100
_SWEEP_SECONDS = 10.0
"""How long after a failed commit to look whether its file is of use."""

_SWEEP_AGAIN_SECONDS = 3600.0
"""How often a bucket in use is searched for uploads that have ended, and whatever else is left."""

_OPEN_TRIES = 5

SMALL_FILE_BYTES = 8 * 1024
"""Objects up to this size are kept with their metadata."""

SMALL_BYTES = 64 * 1024
"""What is read in one go with its metadata."""

SHORT_LISTING_OBJECTS = 64
"""What is listed on the event loop; a longer listing is a thread's."""

_LOG = logging.getLogger("cloister.storage")


Incoming = IncomingFile | SmallFile


class Read(NamedTuple):
    """An object, the range (offset and length) that was asked for, and its bytes: None if a condition did not hold."""

    object: StoredObject
    range: tuple[int, int]
    body: Body | None


class Page(NamedTuple):
    """A page of a listing. `cursor` leads to the next one; None at the end."""

    objects: list[StoredObject]
    prefixes: list[str]
    cursor: str | None


class Bucket:
    """The objects under one directory. Opens it when it is first used.

    Methods raise `R2Error` where R2 refuses, and `StorageFailure` if the storage fails. What changes something returns
    when the change is on disk.
    """

    def __init__(
        self,
        directory: Path,
        *,
        quota: Quota | None = None,
        clock: Callable[[], float] = time.time,
        part_bytes_min: int = PART_BYTES_MIN,
        small_bytes_max: int = SMALL_FILE_BYTES,
    ) -> None:
        """`quota` is what its owner's buckets share; None: there is none."""
        self._database = Database(directory / metadata.FILE_NAME, metadata.prepare, metadata.SCHEMA_VERSION)
        self._quota = quota
        self._name = directory.name
        self._files = ObjectFiles(directory)
        self._receiver = Receiver(self._files, self._run, self._finish)
        self._clock = clock
        self._part_bytes_min = part_bytes_min
        self._small_bytes_max = small_bytes_max
        self._shared: threads.StorageThreads | None = None
        self._background: set[asyncio.Future[None]] = set()
        self._removed: list[str] = []
        self._sweep_at = 0.0
        self._closed = False

    # Reading

    async def head(self, key: str) -> StoredObject | None:
        self._start()

        def find(connection: apsw.Connection) -> StoredObject | None:
            return metadata.find(connection, key)

        return await self._database.read(find, at_once=find)

    async def get(self, key: str, *, conditions: Conditions | None = None, range: Range | None = None) -> Read | None:
        """The object with the bytes of `range`, or of all. The caller closes the body."""
        self._start()
        for _ in _tries():
            try:
                return await self._database.read(
                    partial(self._open, key, conditions, range, self._files.open, os.pread),
                    at_once=partial(self._open, key, conditions, range, self._files.open_cached, read_cached),
                )
            except FileNotFoundError:
                # Replaced after its metadata was read: the next look finds the new object.
                continue
            except OSError as error:
                _LOG.error("storage: %s", error)
                raise from_error(error) from error
        _LOG.error("an object's file is missing in %s", self._files.path("00").parent.parent)
        raise StorageFailure("The object's bytes are missing.", 500)

    def _open(
        self,
        key: str,
        conditions: Conditions | None,
        range: Range | None,
        open_file: Callable[[str], int],
        read_file: Callable[[int, int, int], bytes],
        connection: apsw.Connection,
    ) -> Read | None:
        found = metadata.find(connection, key)
        if found is None:
            return None
        if conditions is not None and not conditions.hold(found):
            return Read(found, (0, found.size), None)
        offset, length = range.resolve(found.size) if range is not None else (0, found.size)
        if found.size <= SMALL_FILE_BYTES and (small := metadata.small_file(connection, found.file)) is not None:
            return Read(found, (offset, length), BytesBody(small[offset : offset + length]))
        descriptor = open_file(found.file)
        if length > SMALL_BYTES:
            body: Body = FileBody(descriptor, offset, length)
            whole = os.fstat(descriptor).st_size == found.size
        else:
            try:
                # One byte more shows that there is no more.
                content = read_file(descriptor, length + (offset + length == found.size), offset)
            finally:
                os.close(descriptor)
            body = BytesBody(content)
            whole = len(content) == length
        if not whole:
            body.close()
            _LOG.error("the file %s does not have the length of its object", self._files.path(found.file))
            raise StorageFailure("The object's bytes are damaged.", 500)
        return Read(found, (offset, length), body)

    async def list(
        self,
        *,
        prefix: str = "",
        delimiter: str = "",
        start_after: str | None = None,
        cursor: str | None = None,
        limit: int = 1000,
        include: Collection[str] = (),
    ) -> Page:
        """Up to `limit` objects and delimited prefixes together, in the order of their keys' bytes.

        Metadata not named in `include` (httpMetadata, customMetadata) is left empty.
        """
        self._start()
        start = decode_cursor(cursor) if cursor else b""
        if start_after is not None:
            start = max(start, after_key(start_after.encode()))

        def find(limit: int, connection: apsw.Connection) -> metadata.Found:
            with snapshot(connection):
                return metadata.list_objects(connection, prefix, delimiter, start, limit, include)

        def find_few(connection: apsw.Connection) -> metadata.Found:
            found = find(min(limit, SHORT_LISTING_OBJECTS), connection)
            if found.next_start is not None and limit > SHORT_LISTING_OBJECTS:
                raise NotNow
            return found

        found = await self._database.read(partial(find, limit), at_once=find_few)
        return Page(found.objects, found.prefixes, encode_cursor(found.next_start))

    # Writing

    async def put(
        self,
        key: str,
        value: Payload,
        *,
        attributes: Attributes = Attributes(),  # noqa: B008 - immutable
        conditions: Conditions | None = None,
        checksum: Checksum | None = None,
        size_max: int | None = None,
    ) -> StoredObject | None:
        """Stores an object; None if a condition did not hold. A stream is read to its end and closed.

        Raises what reading the stream raises, and `Failure` if it is shorter or longer than it said; the object that
        was there then stays.
        """
        self._start_with(value)
        hashes = ["md5"] if checksum is None or checksum.hash == "md5" else ["md5", checksum.hash]
        incoming = await self._receive(value, hashes, size_max, self._small_bytes_max)
        digests = {each: incoming.digest(each) for each in hashes}
        if checksum is not None and digests[checksum.hash] != checksum.value:
            self._discard(incoming)
            raise bad_digest(HASHES[checksum.hash], checksum.value, digests[checksum.hash])
        new = self._new(key, incoming, digests["md5"], json.dumps(digests), attributes)

        def store(connection: apsw.Connection) -> Stored:
            stored = metadata.put(connection, new, conditions)
            if stored.stored and isinstance(incoming, SmallFile):
                metadata.put_small_file(connection, incoming.name, incoming.content)
            return stored

        return new if await self._commit(incoming, store) else None

    async def delete(self, keys: Sequence[str]) -> None:
        """Deletes the objects that there are of these, all in one transaction."""
        if not keys:
            return
        self._start()
        self._remove_files(await self._database.write(lambda connection: metadata.delete(connection, keys)))

    # Multipart uploads

    async def create_upload(self, key: str, attributes: Attributes = Attributes()) -> str:  # noqa: B008 - immutable
        """Begins an upload and returns its id."""
        self._start()
        id = secrets.token_hex(32)
        now_ms = self._now_ms()

        def create(connection: apsw.Connection) -> Stored:
            uploads.create(connection, id, key, attributes, now_ms)
            return Stored(True, [])

        await self._database.write(partial(self._within_quota, 0, create))
        return id

    async def upload_part(
        self, key: str, upload_id: str, number: int, value: Payload, *, size_max: int | None = None
    ) -> str:
        """Stores a part, in place of an earlier one of the same number, and returns its etag."""
        self._start_with(value)
        now_ms = self._now_ms()
        try:
            await self._database.read(lambda connection: uploads.check_in_progress(connection, upload_id, key, now_ms))
        except BaseException:
            if isinstance(value, Body):
                value.close()
            raise
        incoming = await self._receive(value, ["md5"], size_max)
        part = Part(number, secrets.token_hex(16), incoming.digest("md5"), incoming.size, incoming.name)
        await self._commit(incoming, lambda connection: uploads.put_part(connection, upload_id, key, part, now_ms))
        return part.etag

    async def complete_upload(self, key: str, upload_id: str, parts: Sequence[NamedPart]) -> StoredObject:
        """Makes one object of the parts."""
        self._start()
        now_ms = self._now_ms()
        plan = await self._database.read(
            lambda connection: uploads.plan(connection, upload_id, key, parts, self._part_bytes_min, now_ms)
        )
        incoming = await self._receiver.create()
        try:
            there = True
            for part in plan.parts:
                # A part can be replaced or the upload aborted meanwhile; the commit below finds out which.
                there = there and await self._run(partial(incoming.append_file, self._files.path(part.file)))
            if there and incoming.size != plan.size:
                _LOG.error("the files of an upload do not have the lengths of its parts")
                raise broken()
            await self._run(incoming.publish)
        except BaseException:
            self._finish(incoming.discard)
            raise
        new = self._new(key, incoming, plan.etag, "{}", plan.attributes)
        await self._commit(incoming, lambda connection: uploads.complete(connection, upload_id, plan, new, now_ms))
        return new

    async def abort_upload(self, key: str, upload_id: str) -> None:
        self._start()
        now_ms = self._now_ms()
        self._remove_files(
            await self._database.write(lambda connection: uploads.abort(connection, upload_id, key, now_ms))
        )

    async def close(self) -> None:
        """Waits for what is under way. Later operations raise `StorageFailure`."""
        if self._closed:
            return
        self._closed = True
        await self._finish_background()
        self._forget_removed()
        await self._database.close()
        # The last commits may have left files to end.
        await asyncio.sleep(0)
        await self._finish_background()
        if self._shared is not None:
            await threads.release()

    async def _receive(
        self, value: Payload, hashes: Sequence[str], size_max: int | None, small_bytes_max: int = -1
    ) -> Incoming:
        quota = self._quota
        if quota is None:
            return await self._receiver.receive(value, hashes, size_max, small_bytes_max)
        limit = quota.limit
        try:
            with quota.receiving(known_size(value) or 0):
                within = limit if size_max is None else min(limit, size_max)
                return await self._receiver.receive(value, hashes, within, small_bytes_max)
        except R2Error as error:
            if error.code == entity_too_large().code and (size_max is None or limit < size_max):
                raise quota.exceeded() from None
            raise
        finally:
            if isinstance(value, Body):
                value.close()

    def _within_quota(
        self, size_bytes: int, operation: Callable[[apsw.Connection], Stored], connection: apsw.Connection
    ) -> Stored:
        stored = operation(connection)
        if stored.stored and self._quota is not None:
            self._quota.take(self._name, size_bytes + metadata.ENTRY_BYTES, connection, written=True)
        return stored

    # Commits

    def _new(
        self, key: str, incoming: Incoming, etag: str, checksums_json: str, attributes: Attributes
    ) -> StoredObject:
        return StoredObject(
            key=key,
            version=secrets.token_hex(16),
            size=incoming.size,
            etag=etag,
            uploaded_ms=self._now_ms(),
            checksums_json=checksums_json,
            storage_class=attributes.storage_class,
            file=incoming.name,
            http_metadata_json=attributes.http_metadata_json,
            custom_metadata_json=attributes.custom_metadata_json,
        )

    async def _commit(self, incoming: Incoming, operation: Callable[[apsw.Connection], Stored]) -> bool:
        """Stores what names the file. Whatever becomes of the caller, the file is kept exactly if it is named."""
        try:
            writing = self._database.write(partial(self._within_quota, incoming.size, operation))
        except BaseException:
            self._discard(incoming)
            raise
        writing.add_done_callback(partial(self._settle, incoming))
        return (await asyncio.shield(writing)).stored

    def _discard(self, incoming: Incoming) -> None:
        if isinstance(incoming, IncomingFile):
            self._finish(incoming.discard)

    def _settle(self, incoming: Incoming, writing: asyncio.Future[Stored]) -> None:
        if isinstance(incoming, SmallFile):
            if not writing.cancelled() and writing.exception() is None:
                self._remove_files(writing.result().garbage)
        elif writing.cancelled() or isinstance(writing.exception(), StorageFailure):
            self._finish(incoming.abandon)
            self._sweep_at = self._clock() + _SWEEP_SECONDS
        elif writing.exception() is not None or not writing.result().stored:
            self._finish(incoming.discard)
        else:
            self._finish(incoming.keep)
            self._remove_files(writing.result().garbage)

    # Files on their way out

    def _remove_files(self, files: Sequence[str]) -> None:
        """Removes files that are on the list of garbage."""
        if not files:
            return
        removing = self._run(partial(self._files.remove, files))
        removing.add_done_callback(partial(self._note_removed, files))
        self._keep(removing)

    def _note_removed(self, files: Sequence[str], removing: asyncio.Future[None]) -> None:
        if not removing.cancelled() and removing.exception() is None:
            self._removed += files
            if len(self._removed) >= _GARBAGE_KEPT:
                self._forget_removed()

    def _forget_removed(self) -> None:
        if self._removed:
            removed, self._removed = self._removed, []
            self._database.write_soon(lambda connection: metadata.forget_garbage(connection, removed))

    async def _sweep(self) -> None:
        """Clears away what crashed writers have left, beside other processes at work on the same bucket."""
        while leftovers := await self._run(lambda: list(islice(self._files.leftovers(), _SWEEP_LEFTOVERS))):
            try:
                names = [leftover.name for leftover in leftovers]
                # Each is locked by now, so whoever wrote it has committed or never will.
                used = await self._database.write(lambda connection: metadata.claim(connection, names))  # noqa: B023
                await self._run(partial(_clear, leftovers, used))
            finally:
                await self._run(partial(_close, leftovers))
        now_ms = self._now_ms()
        while await self._database.read(lambda connection: uploads.any_expired(connection, now_ms)):
            await self._database.write(lambda connection: uploads.expire(connection, now_ms, _SWEEP_FILES))
        while names := await self._database.read(lambda connection: metadata.garbage(connection, _SWEEP_FILES)):
            await self._run(partial(self._files.remove, names))
            await self._database.write(lambda connection: metadata.forget_garbage(connection, names))

    # Threads

    def _start(self) -> None:
        if self._closed:
            raise closed()
        if self._shared is None:
            self._shared = threads.acquire()
        now = self._clock()
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_AGAIN_SECONDS
            self._keep(asyncio.ensure_future(self._sweep()))

    def _start_with(self, value: Payload) -> None:
        try:
            self._start()
        except StorageFailure:
            if isinstance(value, Body):
                value.close()
            raise

    def _run(self, operation: Callable[[], T]) -> asyncio.Future[T]:
        """Runs what blocks on a thread; the system's errors become `StorageFailure`."""
        assert self._shared is not None

        def guarded() -> T:
            try:
                return operation()
            except OSError as error:
                _LOG.error("storage: %s", error)
                raise from_error(error) from error

        return self._shared.copiers.run(guarded)

    def _finish(self, operation: Callable[[], None]) -> None:
        """Runs what nobody waits for but `close`."""
        self._keep(self._run(operation))

    async def _finish_background(self) -> None:
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)

    def _keep(self, future: asyncio.Future[None]) -> None:
        self._background.add(future)
        future.add_done_callback(self._background.discard)
        future.add_done_callback(_log_failure)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _tries() -> range:
    return range(_OPEN_TRIES)


def _clear(leftovers: Sequence[Leftover], used: Collection[str]) -> None:
    for leftover in leftovers:
        leftover.clear(in_use=leftover.name in used)


def _close(leftovers: Sequence[Leftover]) -> None:
    for leftover in leftovers:
        leftover.close()


def _log_failure(future: asyncio.Future[None]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        _LOG.warning("housekeeping failed: %s", error)
