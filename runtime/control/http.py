"""The HTTP server of the admin port: aiohttp's, whose own errors are envelopes, too.

What goes wrong before there is a request (a malformed head, one that is too large, lengths that contradict each other)
never reaches a handler or a middleware. Such faults are logged at debug level only.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from runtime.control.envelope import Code, ControlError, failure
from runtime.http_bounds import BoundedHandler

log = logging.getLogger(__name__)


class _Protocol(BoundedHandler):
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """aiohttp's answer to what no handler has seen; closes the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("An answer has been begun; another one cannot be sent.")
        if status < 500:
            log.debug("A malformed management request", exc_info=exc)
            # The parser's message quotes the caller's bytes with a marker below them; its first line is enough.
            reason = (message or "").strip().partition("\n")[0].rstrip(":") or HTTPStatus(status).phrase
            error = ControlError(status, Code.INVALID, f"The request is malformed: {reason[:200]}")
        else:
            log.error("A management request failed", exc_info=exc)
            error = ControlError(status, Code.INTERNAL, "An internal error; the server's log has the details.")
        answer = failure(error)
        answer.force_close()
        return answer


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class ManagementRunner(web.AppRunner):
    """`AppRunner` whose server answers as the management API does, whatever happens."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, loop=made._loop, **made._kwargs)
