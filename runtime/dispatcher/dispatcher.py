"""The dispatcher: takes each request to its tenant, or to the operator's code, and the answer back.

Whatever happens, a request gets exactly one answer, and an error's answer has nothing in it of the host's.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from itertools import count
from time import perf_counter_ns
from typing import TYPE_CHECKING

from host_bindings.body import Body, Payload
from runtime.dispatcher.errors import Refused, WorkerNotFound, answer_of, refusal
from runtime.dispatcher.exchange import Exchange
from runtime.dispatcher.framing import REQUEST_DROPPED, InvalidRequest
from runtime.dispatcher.namespace import DispatchNamespace
from runtime.dispatcher.observation import outcome_of
from runtime.dispatcher.stub import request_id_of_task
from runtime.engine.errors import HostFault
from runtime.settings import NAME_PATTERN
from runtime.telemetry.meters import Meters, RequestTotals
from runtime.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from runtime.dispatcher.operator import Operator
    from runtime.dispatcher.resolver import Resolver
    from runtime.dispatcher.upstream import Upstream
    from runtime.engine.invocation import Invocation
    from runtime.engine.pool import Answer
    from runtime.telemetry.logs import Log

log = logging.getLogger(__name__)

CALLER_LEFT = 499
"""What the access line says where a caller did not wait for a status, as nginx and Cloudflare have it."""

AT_ONCE_BYTES_MAX = 64 * 1024
"""The largest body of an answer that is sent together with others; in characters if it is text."""


@dataclass(slots=True)
class Begun:
    """How far a request has come."""

    request_id: str
    started_ns: int
    script: str = ""
    head: tuple[str, str, str] | None = None
    """Method, address and header text for the worker."""
    body: Payload = None
    invocation: Invocation | None = None
    answer: Answer | None = None
    error: Exception | None = None
    status: int = CALLER_LEFT
    """Of the answer, as soon as there is one."""
    totals: RequestTotals | None = None
    """What its calls came to, if it was not answered at once."""
    forwarded: bool = False
    """Whether it was the server's behind this one."""


class Dispatcher:
    """Handles exchanges: see `runtime.dispatcher.http`.

    Without `operator` every request goes to the `fetch` of the tenant that `resolver` names. `upstream` gets those for
    tenants that are not deployed here. `access` is where each request leaves its line.
    """

    def __init__(
        self,
        namespace: DispatchNamespace,
        resolver: Resolver,
        *,
        body_bytes_max: int,
        operator: Operator | None = None,
        upstream: Upstream | None = None,
        access: Log | None = None,
        meters: Meters | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._namespace = namespace
        self._resolver = resolver
        self._body_bytes_max = body_bytes_max
        self._operator = operator
        self._upstream = upstream
        self._access = access
        self._meters = meters or Meters()
        self._tracing = tracing
        self._identity = resolver.identity_header.lower().encode()
        private = {resolver.credential_header} | ({resolver.identity_header} if resolver.writes_identity else set())
        self._dropped = REQUEST_DROPPED | {name.lower().encode() for name in private if name}
        # Dispatch code may answer a request that names nobody, unless the tenant is not the code's to find.
        self._resolves = operator is None or resolver.verified or resolver.writes_identity
        # Unique in this process's life and, by its random part, among processes.
        self._request_ids = count(1)
        self._request_id_prefix = os.urandom(5).hex()

    def answer_at_once(self, exchange: Exchange) -> bytes | None:
        """The whole answer to a request whose body is there, if an instance is idle and the worker does not wait.

        Costs no task. Otherwise None: what has been begun is in the exchange, and `handle` goes on from there. Never
        raises an `Exception`. Not for the operator's code, which may wait for anything.
        """
        assert self._operator is None
        if not exchange.is_complete:
            return None
        begun = exchange.begun = self._begin(exchange)
        try:
            self._address(exchange, begun)
            if begun.forwarded:
                return None
            begun.body = exchange.body_at_hand(self._body_bytes_max)
            assert begun.head is not None
            invocation = begun.invocation = self._namespace.begin_fetch(
                begun.script, *begun.head, begun.body, request_id=begun.request_id
            )
            if invocation is None or not invocation.settled:
                return None
            answer = begun.answer = invocation.pool.answer(invocation)
            body = answer.body
            # Not by `Body`: to ask an abstract class costs a microsecond.
            if body is not None and (not isinstance(body, str | bytes) or len(body) > AT_ONCE_BYTES_MAX):
                return None
            head, data = exchange.rendered(answer.status, answer.headers, body, begun.request_id)
        except Exception as error:
            begun.error = error
            return None
        self._record(exchange, begun, answer.status, len(head) + len(data))
        return head + data

    async def handle(self, exchange: Exchange) -> Exchange:
        """Answers a request. Never raises an `Exception`.

        Is cancelled when the caller leaves: then whatever the request has begun is ended.
        """
        begun = exchange.begun or self._begin(exchange)
        request_id = begun.request_id
        begun.totals = self._meters.watch(request_id)
        try:
            if begun.error is not None:
                raise begun.error
            if exchange.left:
                self._abandon(begun)
                return exchange
            if begun.head is None:
                self._address(exchange, begun)
            if self._operator is not None and not begun.forwarded:
                await self._operate(self._operator, exchange, begun)
            else:
                answer = begun.answer or await self._fetch(exchange, begun)
                begun.status = answer.status
                await exchange.answer(answer.status, answer.headers, answer.body, request_id)
        except Exception as error:
            begun.error = error
            begun.status = await self._refuse(exchange, error, request_id)
        except asyncio.CancelledError:
            exchange.leave()
            raise
        finally:
            self._meters.end(request_id)
            self._record(exchange, begun, begun.status, exchange.sent_bytes)
            # Its frames know this request: all of it would wait for the garbage collector.
            begun.error = None
        return exchange

    def _begin(self, exchange: Exchange) -> Begun:
        begun = Begun(f"{self._request_id_prefix}-{next(self._request_ids):x}", perf_counter_ns())
        if self._tracing is not None:
            traceparent = exchange.headers.get("traceparent")
            self._tracing.begin(begun.request_id, exchange.method, begun.started_ns, traceparent)
        return begun

    def _abandon(self, begun: Begun) -> None:
        """Ends a request that was begun for a caller who has gone since."""
        if begun.invocation is not None:
            begun.invocation.abandon()
        if begun.answer is not None and isinstance(begun.answer.body, Body):
            begun.answer.body.abandon()

    def _with_identity(self, headers: str, script: str) -> str:
        if not NAME_PATTERN.fullmatch(script):
            raise WorkerNotFound(script)
        return f"{self._identity.decode()}: {script}\n{headers}"

    def _address(self, exchange: Exchange, begun: Begun) -> None:
        """Finds the script that is asked for, and what the call says apart from its body. Raises `Refused`."""
        if exchange.method == "CONNECT":
            exchange.keep_alive = False
            raise Refused(405, "method_not_allowed", "CONNECT is not served here.")
        if exchange.message.version.major != 1:
            raise InvalidRequest("Only HTTP/1.0 and HTTP/1.1 are served here.")
        url = exchange.url()
        headers = exchange.header_text(self._identity, self._dropped)
        if self._resolves:
            begun.script = self._resolver.resolve(exchange)
            if self._resolver.writes_identity:
                headers = self._with_identity(headers, begun.script)
        if self._operator is not None:
            begun.script = begun.script or exchange.headers.get(self._resolver.identity_header, "")
        begun.head = exchange.method, url, headers
        if self._upstream is not None:
            # What cannot be a script's name is nobody's, here or there.
            begun.forwarded = NAME_PATTERN.fullmatch(begun.script) is not None and begun.script not in self._namespace

    async def _fetch(self, exchange: Exchange, begun: Begun) -> Answer:
        if begun.invocation is not None:
            return await begun.invocation.pool.finish_fetch(begun.invocation)
        if begun.body is None:
            begun.body = await exchange.body(self._body_bytes_max)
        assert begun.head is not None
        if self._upstream is not None and begun.forwarded:
            identity = self._resolver.identity_header, begun.script
            return await self._upstream.fetch(*begun.head, begun.body, identity=identity)
        return await self._namespace.fetch(begun.script, *begun.head, begun.body, request_id=begun.request_id)

    def _record(self, exchange: Exchange, begun: Begun, status: int, bytes_out: int) -> None:
        """Books the request to its tenant, and writes its line."""
        wall_ms = (perf_counter_ns() - begun.started_ns) / 1e6
        bytes_in = exchange.received_bytes
        tenant = self._namespace.tenant(begun.script)
        if begun.forwarded:
            self._meters.forwarded += 1
        elif tenant is None:
            self._meters.unknown += 1
        else:
            self._meters.of(tenant.namespace, tenant.script).request(status, wall_ms, bytes_in, bytes_out)
        if self._access is None and self._tracing is None:
            return
        totals = begun.totals
        if totals is None or not totals.calls:
            totals = self._totals_of(begun)
        outcome = "canceled" if exchange.left else totals.outcome
        if self._tracing is not None:
            named = {} if tenant is None else {"cloister.namespace": tenant.namespace, "cloister.tenant": tenant.script}
            self._tracing.end(begun.request_id, status, outcome, named)
        if self._access is None:
            return
        self._access.access(
            tenant=begun.script,
            version=totals.version,
            method=exchange.method,
            status=status,
            outcome=outcome,
            wall_ms=wall_ms,
            cpu_ms=totals.cpu_ns / 1e6,
            host_calls=totals.host_calls,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            cold=totals.cold,
            request_id=begun.request_id,
        )

    def _totals_of(self, begun: Begun) -> RequestTotals:
        """Of a request whose call is not over, was over before anybody asked, or never was."""
        if begun.invocation is None:
            totals = RequestTotals(outcome="forwarded") if begun.forwarded else RequestTotals()
        else:
            invocation = begun.invocation
            observer = invocation.pool.observer
            version = observer.version_number if observer is not None else 0
            outcome = invocation.outcome or "ok"
            totals = RequestTotals(version, 1, invocation.cpu_ns, invocation.host_calls, invocation.cold, outcome)
        if begun.error is not None:
            totals.outcome = outcome_of(begun.error)
        return totals

    async def _operate(self, operator: Operator, exchange: Exchange, begun: Begun) -> None:
        assert begun.head is not None
        body = await exchange.body(self._body_bytes_max)
        request_id_of_task.set(begun.request_id)
        begun.status, answer_headers, answer_body = await operator.fetch(*begun.head, body)
        await exchange.answer(begun.status, answer_headers, answer_body, begun.request_id)

    async def _refuse(self, exchange: Exchange, error: Exception, request_id: str) -> int:
        refused = refusal(error)
        if isinstance(error, InvalidRequest):
            # Where the caller sees this request's end is in doubt as well.
            exchange.keep_alive = False
        if exchange.body_refused:
            refused = Refused(413, "body_too_large", "The request's body is too large.")
        elif refused.code == "internal" and not isinstance(error, HostFault):
            log.error("Request %s failed", request_id, exc_info=error)
        await exchange.refuse(*answer_of(refused), request_id)
        return refused.status
