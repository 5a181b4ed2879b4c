"""The types of `cloister:worker/handler`, which every worker exports: see host_bindings/wit/worker.wit."""

from __future__ import annotations

from host_bindings.contract import U16, ListOf, Record, ResultOf, String, Type
from host_bindings.payload import PAYLOAD

RESPONSE = Record((("status", U16), ("headers", String), ("body", PAYLOAD)))
EXCEPTION = Record((("name", String), ("message", String), ("traceback", String)))
OUTCOME = Record((("value", String), ("attachments", ListOf(PAYLOAD))))

FETCH: tuple[tuple[Type, ...], Type] = ((String, String, String, PAYLOAD), ResultOf(RESPONSE, EXCEPTION))
CALL: tuple[tuple[Type, ...], Type] = ((String, String, ListOf(PAYLOAD)), ResultOf(OUTCOME, EXCEPTION))

EXPORTS = {"fetch": FETCH, "call": CALL}
