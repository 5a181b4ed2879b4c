"""Who is asked for: from a request to the name of a script.

A header, a host name and a path are claims: whoever can connect can make them. They are right where callers are
trusted, where a proxy authenticates and says who calls, or where everybody may call everybody. What proves itself is
in `runtime.dispatcher.credentials`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Protocol

from multidict import CIMultiDictProxy

from runtime.dispatcher.errors import Refused

USER_HEADER = "X-User-ID"

_PORT = re.compile(r":[0-9]*$")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class RequestHead(Protocol):
    """What a resolver may look at: a request without its body."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str:
        """As it came: path and query, or an absolute address."""

    @property
    def headers(self) -> CIMultiDictProxy[str]: ...
    @property
    def peer(self) -> str | None:
        """The address at the other end of the connection, without its port."""


class Resolver(Protocol):
    """Finds the script that a request is for."""

    verified: bool
    """Whether a caller can only get where it may: if not, the server must not listen for strangers."""

    identity_header: str
    """The request header that names the tenant. Dispatch code reads the tenant from it."""

    writes_identity: bool
    """Whether the tenant is found elsewhere, so that the header is the dispatcher's to write, not the caller's."""

    credential_header: str | None
    """The request header with the caller's credential. It is the platform's to see, and no worker's."""

    def resolve(self, head: RequestHead) -> str:
        """The script's name, deployed or not. Raises `Refused` if the request does not name exactly one."""


class HeaderResolver:
    """Takes the name from a header: from anybody, or only from proxies at the given addresses."""

    writes_identity = False
    credential_header: str | None = None

    def __init__(self, header: str = USER_HEADER, proxies: Sequence[Network] = ()) -> None:
        self.identity_header = header
        self.verified = bool(proxies)
        self._header = header
        self._proxies = tuple(proxies)
        self._missing = f"Missing {header} header"

    def resolve(self, head: RequestHead) -> str:
        if self._proxies and not self._is_proxy(head.peer):
            raise Refused(403, "untrusted_caller", "Requests are taken from the platform's own proxies only.")
        names = head.headers.getall(self._header, ())
        if len(names) != 1:
            if names:
                raise Refused(400, "invalid_request", f"The request has more than one {self._header} header.")
            raise Refused(400, "missing_user", self._missing, plain=True)
        if not (name := names[0]):
            raise Refused(400, "missing_user", self._missing, plain=True)
        return name

    def _is_proxy(self, peer: str | None) -> bool:
        if peer is None:
            return False
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        # A socket that serves both families gives IPv4 callers as ::ffff:a.b.c.d.
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._proxies)


class HostResolver:
    """Takes the name from the host: `acme.workers.example` under the domain `workers.example` is acme."""

    verified = False
    identity_header = USER_HEADER
    writes_identity = True
    credential_header: str | None = None

    def __init__(self, domain: str) -> None:
        self._suffix = "." + domain.lower().strip(".")

    def resolve(self, head: RequestHead) -> str:
        host = _PORT.sub("", _host(head)).lower().removesuffix(".")
        name = host.removesuffix(self._suffix)
        if name == host or not name or "." in name:
            raise Refused(400, "missing_user", f"The request's host names no tenant: call NAME{self._suffix}.")
        return name


class PathResolver:
    """Takes the name from the first segment of the path. The path reaches the worker as it came."""

    verified = False
    identity_header = USER_HEADER
    writes_identity = True
    credential_header: str | None = None

    def resolve(self, head: RequestHead) -> str:
        path = head.path
        if not path.startswith("/"):
            path = "/" + path.partition("://")[2].partition("/")[2]
        name = path[1:].partition("?")[0].partition("/")[0]
        if not name:
            raise Refused(400, "missing_user", "The request's path names no tenant: call /NAME/...")
        return name


def _host(head: RequestHead) -> str:
    """The host that is called: of the request line where it has one (RFC 9112, section 3.2.2), else of Host."""
    if not head.path.startswith("/"):
        return head.path.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")[2]
    return head.headers.get("Host", "")
