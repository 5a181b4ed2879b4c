"""The types that every capability shares: bodies, sinks and payloads, as in the contract's `types` interface."""

from __future__ import annotations

from host_bindings.body import Payload
from host_bindings.contract import Bytes, Own, Resource, String, Variant

BODY = Resource("body", 1, per_call=True)
"""Handles of `host_bindings.body.Body` objects."""

SINK = Resource("sink", 2, per_call=True)
"""Handles of `host_bindings.body.Sink` objects."""


def _payload_case(value: Payload) -> str:
    if value is None:
        return "empty"
    if isinstance(value, str):
        return "text"
    if isinstance(value, bytes):
        return "bytes"
    return "stream"


PAYLOAD = Variant(
    (("empty", None), ("text", String), ("bytes", Bytes), ("stream", Own(BODY))),
    choose=_payload_case,
)
"""WIT's `types.payload`. In Python: None, str, bytes or a `Body`."""
