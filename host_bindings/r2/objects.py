"""What a bucket knows of an object, and what a caller can ask for when it reads or writes one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from host_bindings.r2.errors import invalid_range

HASHES = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}
"""Names of checksums as options give them, with the names for people."""

_BYTES = re.compile(" *bytes *= *([0-9]{0,20}) *- *([0-9]{0,20}) *", re.IGNORECASE | re.ASCII)


class StoredObject(NamedTuple):
    """An object's metadata. Times are milliseconds since 1970; what ends in `_json` is JSON text of an object."""

    key: str
    version: str
    size: int
    etag: str
    uploaded_ms: int
    checksums_json: str
    storage_class: str
    file: str
    http_metadata_json: str
    custom_metadata_json: str


class Attributes(NamedTuple):
    """What a writer says about an object beside its bytes."""

    http_metadata_json: str = "{}"
    custom_metadata_json: str = "{}"
    storage_class: str = "Standard"


class Checksum(NamedTuple):
    """A checksum that the bytes must have: the name of its hash as in `HASHES`, its value in lower-case hex."""

    hash: str
    value: str


class Etag(NamedTuple):
    """An entity tag of a condition. None as the value is the wildcard."""

    value: str | None
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Conditions:
    """R2's `onlyIf`. Times are milliseconds since 1970; None is a condition that is not set."""

    etag_matches: tuple[Etag, ...] | None = None
    etag_does_not_match: tuple[Etag, ...] | None = None
    uploaded_before_ms: float | None = None
    uploaded_after_ms: float | None = None
    whole_seconds: bool = False

    def hold(self, found: StoredObject | None) -> bool:
        """Whether an operation on `found` may go on. The rules are those of RFC 9110, 13.2.2, as R2 reads them."""
        if found is None:
            return self.etag_matches is None and self.uploaded_after_ms is None
        matches = self.etag_matches is None or _includes(self.etag_matches, found.etag, weakly=False)
        differs = self.etag_does_not_match is None or not _includes(self.etag_does_not_match, found.etag, weakly=True)
        uploaded = self._granular(found.uploaded_ms)
        modified = (
            self.uploaded_after_ms is None
            or self._granular(self.uploaded_after_ms) < uploaded
            or (self.etag_does_not_match is not None and differs)
        )
        unmodified = (
            self.uploaded_before_ms is None
            or uploaded < self._granular(self.uploaded_before_ms)
            or (self.etag_matches is not None and matches)
        )
        return matches and differs and modified and unmodified

    def _granular(self, time_ms: float) -> float:
        return time_ms // 1000 * 1000 if self.whole_seconds else time_ms


def _includes(etags: tuple[Etag, ...], etag: str, *, weakly: bool) -> bool:
    return any(each.value is None or (each.value == etag and (weakly or not each.weak)) for each in etags)


@dataclass(frozen=True, slots=True)
class Range:
    """A part of an object, in bytes: from `offset` on for `length`, or the last `suffix`; or a Range header."""

    offset: int | None = None
    length: int | None = None
    suffix: int | None = None
    header: str | None = None

    def resolve(self, size: int) -> tuple[int, int]:
        """Offset and length within an object of `size` bytes. Raises `R2Error` if there is no such part."""
        if self.header is not None:
            return _resolve_header(self.header, size)
        if self.suffix is not None:
            length = min(self.suffix, size)
            offset = size - length
        else:
            offset = self.offset or 0
            length = size - offset if self.length is None else min(self.length, size - offset)
        if length <= 0:
            raise invalid_range()
        return offset, length


def _resolve_header(header: str, size: int) -> tuple[int, int]:
    """A header that is not one satisfiable range means the whole object, as in R2's binding."""
    match = _BYTES.fullmatch(header)
    if match is None:
        return 0, size
    first, last = match.groups()
    if first:
        offset = int(first)
        end = int(last) if last else size - 1
        if offset < size and offset <= end:
            return offset, min(end, size - 1) - offset + 1
    elif last and 0 < int(last) < size:
        return size - int(last), int(last)
    return 0, size
