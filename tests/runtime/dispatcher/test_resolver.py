"""Who is asked for when the caller only says so: by a header, a host name or a path."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from runtime.dispatcher.errors import Refused
from runtime.dispatcher.resolver import HeaderResolver, HostResolver, PathResolver


@dataclass
class Head:
    path: str = "/"
    pairs: tuple[tuple[str, str], ...] = ()
    peer: str | None = "192.0.2.1"
    method: str = "GET"
    headers: CIMultiDictProxy[str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = CIMultiDictProxy(CIMultiDict(self.pairs))


def refused(resolver: HeaderResolver | HostResolver | PathResolver, head: Head) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        resolver.resolve(head)
    return caught.value.status, caught.value.code


# The header


def test_the_header_names_the_tenant() -> None:
    assert HeaderResolver().resolve(Head(pairs=(("x-user-id", "acme"),))) == "acme"


@pytest.mark.parametrize("pairs", [(), (("X-User-ID", ""),)])
def test_without_the_header_nobody_is_asked_for(pairs: tuple[tuple[str, str], ...]) -> None:
    assert refused(HeaderResolver(), Head(pairs=pairs)) == (400, "missing_user")


def test_two_names_are_none() -> None:
    head = Head(pairs=(("X-User-ID", "a"), ("X-User-ID", "b")))

    assert refused(HeaderResolver(), head) == (400, "invalid_request")


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"])
def test_a_proxy_of_the_platform_may_set_the_header(peer: str) -> None:
    resolver = HeaderResolver(proxies=[ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")])

    assert resolver.verified
    assert resolver.resolve(Head(pairs=(("X-User-ID", "acme"),), peer=peer)) == "acme"


@pytest.mark.parametrize("peer", ["11.0.0.1", "::ffff:11.0.0.1", "2001:db9::1", "fe80::1%eth0", "", None])
def test_nobody_else_may(peer: str | None) -> None:
    resolver = HeaderResolver(proxies=[ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")])

    assert refused(resolver, Head(pairs=(("X-User-ID", "acme"),), peer=peer)) == (403, "untrusted_caller")


# The host


@pytest.mark.parametrize(
    "host", ["acme.workers.example", "ACME.Workers.Example:8787", "acme.workers.example.", "acme.workers.example:"]
)
def test_the_first_label_names_the_tenant(host: str) -> None:
    assert HostResolver("workers.example").resolve(Head(pairs=(("Host", host),))) == "acme"


def test_the_address_in_the_request_line_counts_and_not_the_host_header() -> None:
    head = Head("http://acme.workers.example:80/x?y", pairs=(("Host", "evil.workers.example"),))

    assert HostResolver("Workers.Example.").resolve(head) == "acme"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "workers.example",
        ".workers.example",
        "a.b.workers.example",
        "acme.workers.example.evil",
        "acmeworkers.example",
        "[::1]:8787",
        "127.0.0.1",
    ],
)
def test_another_host_names_no_tenant(host: str) -> None:
    assert refused(HostResolver("workers.example"), Head(pairs=(("Host", host),))) == (400, "missing_user")


# The path


@pytest.mark.parametrize("path", ["/acme", "/acme/", "/acme/files?x=1", "/acme?x=/other", "http://h/acme/x"])
def test_the_first_segment_names_the_tenant(path: str) -> None:
    assert PathResolver().resolve(Head(path)) == "acme"


@pytest.mark.parametrize("path", ["/", "//acme", "/?acme", "http://h", "http://h/"])
def test_a_path_without_a_segment_names_no_tenant(path: str) -> None:
    assert refused(PathResolver(), Head(path)) == (400, "missing_user")
