"""`wasi:sockets`: there is no network.

Making a socket and looking up a name fail with `access-denied`, which the guest's C library turns into an error that
a program can handle (EACCES). So nobody can hold a socket, and every function that takes one is refused.
"""

from __future__ import annotations

from host_bindings.context import GuestContext
from host_bindings.contract import Borrow, Enum, Err, HostFunction, Interface, Own, ResultOf, String
from host_bindings.wasi.resources import (
    INCOMING_DATAGRAM_STREAM,
    INPUT_STREAM,
    NETWORK,
    OUTGOING_DATAGRAM_STREAM,
    OUTPUT_STREAM,
    POLLABLE,
    RESOLVE_ADDRESS_STREAM,
    TCP_SOCKET,
    UDP_SOCKET,
)

ERROR_CODE = Enum(
    (
        "unknown",
        "access-denied",
        "not-supported",
        "invalid-argument",
        "out-of-memory",
        "timeout",
        "concurrency-conflict",
        "not-in-progress",
        "would-block",
        "invalid-state",
        "new-socket-limit",
        "address-not-bindable",
        "address-in-use",
        "remote-unreachable",
        "connection-refused",
        "connection-reset",
        "connection-aborted",
        "datagram-too-large",
        "name-unresolvable",
        "temporary-resolver-failure",
        "permanent-resolver-failure",
    )
)
ADDRESS_FAMILY = Enum(("ipv4", "ipv6"))


class Network:
    """What `instance-network` hands out, since it cannot fail. It leads nowhere."""


def instance_network(_: GuestContext) -> Network:
    return Network()


def resolve_addresses(_: GuestContext, network: Network, name: str) -> Err:
    return Err("access-denied")


def create_socket(_: GuestContext, family: str) -> Err:
    return Err("access-denied")


def _methods(resource: str, *names: str) -> tuple[str, ...]:
    return tuple(f"[method]{resource}.{name}" for name in names)


_TCP = _methods(
    "tcp-socket",
    "start-bind",
    "finish-bind",
    "start-connect",
    "finish-connect",
    "start-listen",
    "finish-listen",
    "accept",
    "local-address",
    "remote-address",
    "is-listening",
    "address-family",
    "set-listen-backlog-size",
    "keep-alive-enabled",
    "set-keep-alive-enabled",
    "keep-alive-idle-time",
    "set-keep-alive-idle-time",
    "keep-alive-interval",
    "set-keep-alive-interval",
    "keep-alive-count",
    "set-keep-alive-count",
    "hop-limit",
    "set-hop-limit",
    "receive-buffer-size",
    "set-receive-buffer-size",
    "send-buffer-size",
    "set-send-buffer-size",
    "subscribe",
    "shutdown",
)

_UDP = (
    *_methods(
        "udp-socket",
        "start-bind",
        "finish-bind",
        "stream",
        "local-address",
        "remote-address",
        "address-family",
        "unicast-hop-limit",
        "set-unicast-hop-limit",
        "receive-buffer-size",
        "set-receive-buffer-size",
        "send-buffer-size",
        "set-send-buffer-size",
        "subscribe",
    ),
    *_methods("incoming-datagram-stream", "receive", "subscribe"),
    *_methods("outgoing-datagram-stream", "check-send", "send", "subscribe"),
)

INTERFACES = (
    Interface("wasi:sockets/network@0.2.0", resources=(NETWORK,)),
    Interface(
        "wasi:sockets/instance-network@0.2.0",
        functions=(HostFunction("instance-network", (), Own(NETWORK), instance_network),),
        resources=(NETWORK,),
    ),
    Interface(
        "wasi:sockets/ip-name-lookup@0.2.0",
        functions=(
            HostFunction(
                "resolve-addresses",
                (Borrow(NETWORK), String),
                ResultOf(Own(RESOLVE_ADDRESS_STREAM), ERROR_CODE),
                resolve_addresses,
            ),
        ),
        resources=(RESOLVE_ADDRESS_STREAM, POLLABLE, NETWORK),
        refused=_methods("resolve-address-stream", "resolve-next-address", "subscribe"),
    ),
    Interface(
        "wasi:sockets/tcp@0.2.0",
        resources=(TCP_SOCKET, NETWORK, INPUT_STREAM, OUTPUT_STREAM, POLLABLE),
        refused=_TCP,
    ),
    Interface(
        "wasi:sockets/tcp-create-socket@0.2.0",
        functions=(
            HostFunction("create-tcp-socket", (ADDRESS_FAMILY,), ResultOf(Own(TCP_SOCKET), ERROR_CODE), create_socket),
        ),
        resources=(NETWORK, TCP_SOCKET),
    ),
    Interface(
        "wasi:sockets/udp@0.2.0",
        resources=(UDP_SOCKET, INCOMING_DATAGRAM_STREAM, OUTGOING_DATAGRAM_STREAM, NETWORK, POLLABLE),
        refused=_UDP,
    ),
    Interface(
        "wasi:sockets/udp-create-socket@0.2.0",
        functions=(
            HostFunction("create-udp-socket", (ADDRESS_FAMILY,), ResultOf(Own(UDP_SOCKET), ERROR_CODE), create_socket),
        ),
        resources=(NETWORK, UDP_SOCKET),
    ),
)
