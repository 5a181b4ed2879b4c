"""HTTP headers: case-insensitive, repeated where HTTP allows it, parsed only when someone looks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Union

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_VALUES = re.compile("[\0\r\n\ud800-\udfff]")

HeadersLike = Union["Headers", Mapping[str, Any], Iterable[tuple[str, Any]], None]


class Headers:
    """Headers of a request or a response.

    Reads like `http.client.HTTPMessage` (which Cloudflare's Python Workers give): `headers["Content-Type"]` is None
    when the header is missing, `get_all` gives every value. Writes like JavaScript's Headers: `set`, `append`,
    `delete`. Several values of one name are joined with ", " where one is asked for. Raises TypeError for a name or a
    value that HTTP does not allow.
    """

    __slots__ = ("_pairs", "_text")

    def __init__(self, init: HeadersLike = None) -> None:
        self._text: str | None = None
        self._pairs: list[tuple[str, str]] | None = []
        if init is None:
            return
        if isinstance(init, Headers):
            pairs: Iterable[tuple[str, Any]] = init.pairs()
        else:
            pairs = init.items() if hasattr(init, "items") else init
        self._pairs = [_checked(name, value) for name, value in pairs]

    @classmethod
    def from_text(cls, text: str) -> Headers:
        """Headers from the contract's form: lines `name: value\\n`."""
        made = cls.__new__(cls)
        made._text = text
        made._pairs = None
        return made

    def to_text(self) -> str:
        """The contract's form."""
        if self._text is None:
            self._text = "".join([f"{name}: {value}\n" for name, value in self.pairs()])
        return self._text

    def pairs(self) -> list[tuple[str, str]]:
        """(name in lower case, value), in order."""
        if self._pairs is None:
            assert self._text is not None
            self._pairs = []
            for line in self._text.split("\n"):
                if line:
                    name, _, value = line.partition(":")
                    self._pairs.append((name.lower(), value.strip(" \t")))
        return self._pairs

    def _changing(self) -> list[tuple[str, str]]:
        pairs = self.pairs()
        self._text = None
        return pairs

    def get(self, name: str, default: Any = None) -> Any:
        wanted = name.lower()
        found = [value for key, value in self.pairs() if key == wanted]
        if not found:
            return default
        return found[0] if len(found) == 1 else ", ".join(found)

    def get_all(self, name: str, default: Any = None) -> Any:
        """Every value of the header, or `default`."""
        wanted = name.lower()
        return [value for key, value in self.pairs() if key == wanted] or default

    getAll = get_all

    def set(self, name: str, value: Any) -> None:
        added = _checked(name, value)
        pairs = self._changing()
        pairs[:] = [pair for pair in pairs if pair[0] != added[0]] + [added]

    def append(self, name: str, value: Any) -> None:
        added = _checked(name, value)
        self._changing().append(added)

    def delete(self, name: str) -> None:
        pairs, wanted = self._changing(), name.lower()
        pairs[:] = [pair for pair in pairs if pair[0] != wanted]

    def has(self, name: str) -> bool:
        return name in self

    def keys(self) -> list[str]:
        return list(dict(self.pairs()))

    def values(self) -> list[str]:
        return [value for _, value in self.items()]

    def get_set_cookie(self) -> list[str]:
        """Every Set-Cookie header."""
        return list(self.get_all("set-cookie", []))

    getSetCookie = get_set_cookie

    def items(self) -> list[tuple[str, str]]:
        """(name, values joined); Set-Cookie, which cannot be joined, once for each value."""
        pairs = self.pairs()
        joined = dict(pairs)
        if len(joined) == len(pairs):
            return list(pairs)
        found = []
        for name in joined:
            if name == "set-cookie":
                found += [(name, value) for value in self.get_all(name)]
            else:
                found.append((name, self.get(name)))
        return found

    entries = items

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        self.delete(name)

    def __contains__(self, name: object) -> bool:
        wanted = name.lower() if isinstance(name, str) else None
        for key, _ in self.pairs():  # noqa: SIM110 (without the cost of a generator)
            if key == wanted:
                return True
        return False

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and sorted(self.pairs()) == sorted(other.pairs())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({dict(self.items())!r})"


def _checked(name: Any, value: Any) -> tuple[str, str]:
    text = (value if type(value) is str else str(value)).strip(" \t\r\n")
    lower = _USUAL.get(name) if type(name) is str else None
    if lower is None:
        name = str(name)
        if _NAME.fullmatch(name) is None:
            raise TypeError(f"Invalid header name: {name[:100]!r}")
        lower = name.lower()
    # What is printable has no line break and no NUL; to ask that is much cheaper than to search.
    if not text.isprintable() and _NOT_IN_VALUES.search(text):
        raise TypeError(f"Invalid value of the header {name[:100]!r}: it has a line break or a NUL.")
    return lower, text


_USUAL = {
    spelling: name
    for name in (
        *("accept-ranges", "cache-control", "content-disposition", "content-encoding", "content-language"),
        *("content-length", "content-range", "content-type", "etag", "last-modified", "location", "set-cookie", "vary"),
    )
    for spelling in (name, name.title())
}
"""Names that need no check, as they are mostly written."""
