"""WASI's resource types and the value types that several of its interfaces share.

A resource type must be one and the same in every interface that uses it, so all are declared here. Handles exist only
of pollables, streams and the network; of the others no guest can ever hold one.
"""

from __future__ import annotations

from host_bindings.contract import U32, U64, Record, Resource

POLLABLE = Resource("pollable", 100)
ERROR = Resource("error", 101)
INPUT_STREAM = Resource("input-stream", 102)
OUTPUT_STREAM = Resource("output-stream", 103)
TERMINAL_INPUT = Resource("terminal-input", 104)
TERMINAL_OUTPUT = Resource("terminal-output", 105)
DESCRIPTOR = Resource("descriptor", 106)
DIRECTORY_ENTRY_STREAM = Resource("directory-entry-stream", 107)
NETWORK = Resource("network", 108)
RESOLVE_ADDRESS_STREAM = Resource("resolve-address-stream", 109)
TCP_SOCKET = Resource("tcp-socket", 110)
UDP_SOCKET = Resource("udp-socket", 111)
INCOMING_DATAGRAM_STREAM = Resource("incoming-datagram-stream", 112)
OUTGOING_DATAGRAM_STREAM = Resource("outgoing-datagram-stream", 113)

DATETIME = Record((("seconds", U64), ("nanoseconds", U32)))
