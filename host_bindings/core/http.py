"""`http`: the early answer, given before `fetch` returns, and work that does not end with the caller's waiting."""

from __future__ import annotations

from host_bindings.body import Body, Payload
from host_bindings.context import GuestContext
from host_bindings.contract import FAILURE, U16, Failure, HostFunction, Interface, Record, ResultOf, String
from host_bindings.payload import PAYLOAD

RESPONSE = Record((("status", U16), ("headers", String), ("body", PAYLOAD)))
"""WIT's `http.response`. In Python: (status, headers, body)."""


def respond(context: GuestContext, response: tuple[int, str, Payload]) -> None:
    """Hands the answer to the call that is being handled. Raises `Failure` if there is none or it has been answered."""
    status, headers, body = response
    try:
        if not 200 <= status <= 599:
            # The message that workerd gives for the same mistake.
            raise Failure(
                "RangeError",
                "Responses may only be constructed with status codes in the range 200 to 599, inclusive.",
            )
        if context.invocation is None:
            raise Failure("Error", "No request is being handled.")
        context.invocation.respond(status, headers, body)
    except BaseException:
        # The guest has given the body away; nobody else will close it.
        if isinstance(body, Body):
            body.close()
        raise


def wait_until(context: GuestContext) -> None:
    """Lets the call that is being handled go on when its caller leaves."""
    if context.invocation is not None:
        context.invocation.wait_until()


INTERFACE = Interface(
    "cloister:worker/http@0.1.0",
    functions=(
        HostFunction("respond", (RESPONSE,), ResultOf(None, FAILURE), respond),
        HostFunction("wait-until", (), None, wait_until),
    ),
)
