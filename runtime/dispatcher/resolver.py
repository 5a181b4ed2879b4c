"""Who is asked for: from a request to the name of a script.

The default takes a header at its word, which is right only where callers are trusted or a proxy sets the header.
A resolver for host names, paths or verified tokens has the same one method.
"""

from __future__ import annotations

from typing import Protocol

from multidict import CIMultiDictProxy

from runtime.dispatcher.errors import Refused

USER_HEADER = "X-User-ID"


class RequestHead(Protocol):
    """What a resolver may look at: a request without its body."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str:
        """As it came: path and query, or an absolute address."""

    @property
    def headers(self) -> CIMultiDictProxy[str]: ...


class Resolver(Protocol):
    """Finds the script that a request is for."""

    verified: bool
    """Whether a caller can only get where it may: if not, the server must not listen for strangers."""

    identity_header: str | None
    """The request header that names the tenant, if one does."""

    def resolve(self, head: RequestHead) -> str:
        """The script's name, deployed or not. Raises `Refused` if the request does not name exactly one."""


class HeaderResolver:
    """Takes the name from a header, as it stands."""

    verified = False

    def __init__(self, header: str = USER_HEADER) -> None:
        self.identity_header: str | None = header
        self._header = header
        self._missing = f"Missing {header} header"

    def resolve(self, head: RequestHead) -> str:
        names = head.headers.getall(self._header, ())
        if len(names) != 1:
            if names:
                raise Refused(400, "invalid_request", f"The request has more than one {self._header} header.")
            raise Refused(400, "missing_user", self._missing, plain=True)
        if not (name := names[0]):
            raise Refused(400, "missing_user", self._missing, plain=True)
        return name
