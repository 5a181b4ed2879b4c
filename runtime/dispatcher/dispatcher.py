"""The dispatcher: takes each request to its tenant, or to the operator's code, and the answer back.

Whatever happens, a request gets exactly one answer, and an error's answer has nothing in it of the host's.
"""

from __future__ import annotations

import logging
import os
from itertools import count
from time import perf_counter_ns
from typing import TYPE_CHECKING

from runtime.dispatcher.errors import Refused, WorkerNotFound, answer_of, refusal
from runtime.dispatcher.exchange import Exchange
from runtime.dispatcher.framing import REQUEST_DROPPED
from runtime.dispatcher.namespace import DispatchNamespace
from runtime.dispatcher.stub import request_id_of_task
from runtime.engine.errors import HostFault
from runtime.settings import NAME_PATTERN

if TYPE_CHECKING:
    from host_bindings.body import Payload
    from runtime.dispatcher.operator import Operator
    from runtime.dispatcher.resolver import Resolver
    from runtime.telemetry.logs import Log

log = logging.getLogger(__name__)


class Dispatcher:
    """Handles exchanges: see `runtime.dispatcher.http`.

    Without `operator` every request goes to the `fetch` of the tenant that `resolver` names. `access` is where each
    request leaves its line.
    """

    def __init__(
        self,
        namespace: DispatchNamespace,
        resolver: Resolver,
        *,
        body_bytes_max: int,
        operator: Operator | None = None,
        access: Log | None = None,
    ) -> None:
        self._namespace = namespace
        self._resolver = resolver
        self._body_bytes_max = body_bytes_max
        self._operator = operator
        self._access = access
        self._identity = resolver.identity_header.lower().encode()
        private = {resolver.credential_header} | ({resolver.identity_header} if resolver.writes_identity else set())
        self._dropped = REQUEST_DROPPED | {name.lower().encode() for name in private if name}
        # Dispatch code may answer a request that names nobody, unless the tenant is not the code's to find.
        self._resolves = operator is None or resolver.verified or resolver.writes_identity
        # Unique in this process's life and, by its random part, among processes.
        self._request_ids = count(1)
        self._request_id_prefix = os.urandom(5).hex()

    async def handle(self, exchange: Exchange) -> Exchange:
        """Answers a request. Never raises an `Exception`."""
        started_ns = perf_counter_ns()
        request_id = f"{self._request_id_prefix}-{next(self._request_ids):x}"
        script, cpu_ms = "", 0.0
        try:
            if exchange.method == "CONNECT":
                exchange.keep_alive = False
                raise Refused(405, "method_not_allowed", "CONNECT is not served here.")
            url = exchange.url()
            headers = exchange.header_text(self._identity, self._dropped)
            if self._resolves:
                script = self._resolver.resolve(exchange)
                if self._resolver.writes_identity:
                    headers = self._with_identity(headers, script)
            if self._operator is not None:
                script = script or exchange.headers.get(self._resolver.identity_header, "")
                status = await self._operate(self._operator, exchange, url, headers, request_id)
            else:
                body = await exchange.body(self._body_bytes_max)
                answer = await self._namespace.fetch(script, exchange.method, url, headers, body, request_id=request_id)
                status, cpu_ms = answer.status, answer.cpu_ms
                await exchange.answer(status, answer.headers, answer.body, request_id)
        except Exception as error:
            status = await self._refuse(exchange, error, request_id)
        if self._access is not None:
            wall_ms = (perf_counter_ns() - started_ns) / 1e6
            self._access.access(tenant=script, status=status, wall_ms=wall_ms, cpu_ms=cpu_ms, request_id=request_id)
        return exchange

    def _with_identity(self, headers: str, script: str) -> str:
        if not NAME_PATTERN.fullmatch(script):
            raise WorkerNotFound(script)
        return f"{self._identity.decode()}: {script}\n{headers}"

    async def _operate(self, operator: Operator, exchange: Exchange, url: str, headers: str, request_id: str) -> int:
        body: Payload = await exchange.body(self._body_bytes_max)
        request_id_of_task.set(request_id)
        status, answer_headers, answer_body = await operator.fetch(exchange.method, url, headers, body)
        await exchange.answer(status, answer_headers, answer_body, request_id)
        return status

    async def _refuse(self, exchange: Exchange, error: Exception, request_id: str) -> int:
        refused = refusal(error)
        if exchange.body_refused:
            refused = Refused(413, "body_too_large", "The request's body is too large.")
        elif refused.code == "internal" and not isinstance(error, HostFault):
            log.error("Request %s failed", request_id, exc_info=error)
        await exchange.refuse(*answer_of(refused), request_id)
        return refused.status
