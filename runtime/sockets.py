"""The sockets on which a server listens. A leaf: imports no room but the settings."""

from __future__ import annotations

import errno
import socket

from runtime.settings import SettingsError

BACKLOG = 1024
"""Connections that may wait to be accepted. The kernel's bound (net.core.somaxconn) holds too."""


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A bound socket that does not listen yet. `setting` is what gave the port. Raises `SettingsError`."""
    family, kind, protocol, address = _address(host, port)
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise SettingsError(_explain(error, host, port, setting)) from None
    return listening


def bind_group(host: str, port: int, setting: str, count: int) -> list[socket.socket]:
    """As many sockets for the same port, among which the kernel spreads new connections. Raises `SettingsError`."""
    # Alone first: a port that another group listens on could be joined, and would be shared with strangers.
    with bind(host, port, setting) as probe:
        port = probe.getsockname()[1]
    family, kind, protocol, address = _address(host, port)
    group: list[socket.socket] = []
    try:
        for _ in range(count):
            listening = socket.socket(family, kind, protocol)
            group.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.setblocking(False)
            listening.bind(address)
    except OSError as error:
        for listening in group:
            listening.close()
        raise SettingsError(_explain(error, host, port, setting)) from None
    return group


def _address(host: str, port: int) -> tuple[int, int, int, tuple[object, ...]]:
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise SettingsError(f"host: {host} is not an address of this machine: {error.strerror}") from None
    # `localhost` has two addresses; one port number serves one of them.
    family, kind, protocol, _, address = min(addresses, key=lambda found: found[0] != socket.AF_INET)
    return family, kind, protocol, address


def _explain(error: OSError, host: str, port: int, setting: str) -> str:
    option = setting.replace("_", "-")
    reasons = {
        errno.EADDRINUSE: f"{port} on {host} is taken by another program: stop it, or choose another port",
        errno.EACCES: f"{port} may not be used by this user: choose a port above 1023",
        errno.EADDRNOTAVAIL: f"{host} is not an address of this machine",
    }
    reason = reasons.get(error.errno or 0, f"{host}:{port} cannot be used: {error.strerror}")
    return f"{setting}: {reason} (--{option} or CLOISTER_{setting.upper()})"
