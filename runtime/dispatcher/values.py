"""Between the dispatcher's payloads and the `workers` package's objects, as the operator's code uses them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from host_bindings.body import Body, BytesBody, Payload
from host_bindings.contract import Failure
from runtime.dispatcher.forms import FilePart, read_form
from runtime.dispatcher.framing import InvalidAnswer
from runtime.dispatcher.request_body import BYTES_VALUE_MAX, WHOLE_BYTES_MAX
from workers import File, FormData, ReadableStream, Request, Response
from workers.content import Raw, StreamSource

log = logging.getLogger(__name__)


class SourceBody(Body):
    """A stream that the operator's code makes, as a body."""

    def __init__(self, source: StreamSource) -> None:
        self.length = source.length
        self._source: StreamSource | None = source

    async def read(self, limit: int) -> bytes:
        if self._source is None:
            raise Failure("TypeError", "The body has been closed.")
        try:
            return await self._source.read(limit)
        except Failure:
            raise
        except Exception as error:
            log.error("A stream of the dispatch code failed", exc_info=error)
            raise Failure("Error", "The source of this body failed.") from None

    def close(self) -> None:
        self._source = None


class SpooledFile(File):
    """A file of a form that is on disk: it can be read any number of times."""

    def __init__(self, part: FilePart) -> None:
        self.name = part.filename
        self.type = part.content_type
        self._part = part

    @property
    def _raw(self) -> Raw:  # type: ignore[override]
        return self._part.body()

    @property
    def size(self) -> int:
        return self._part.size

    def stream(self) -> ReadableStream:
        return ReadableStream(self._part.body())


class HostRequest(Request):
    """A request as the operator's code gets it: large files of a form that it reads go to disk, not to memory."""

    spool_directory: Path

    async def form_data(self) -> FormData:
        """The form's fields. Raises `FormError`, a ValueError, if the body is not a form or too much of one."""
        form = await read_form(self._content_type(), payload_of(self._take()), self.spool_directory)
        return FormData([(name, value if isinstance(value, str) else _file(value)) for name, value in form])

    formData = form_data


def _file(part: FilePart) -> File:
    if isinstance(part.content, bytes):
        return File(part.content, part.filename, part.content_type)
    return SpooledFile(part)


def host_request(method: str, url: str, headers: str, body: Payload, spool_directory: Path) -> HostRequest:
    request = HostRequest.from_parts(method, url, headers, body)
    assert isinstance(request, HostRequest)
    request.spool_directory = spool_directory
    return request


def payload_of(raw: Raw) -> Payload:
    """Content for a caller, as it is."""
    if raw is None or isinstance(raw, str | bytes | Body):
        return raw
    return SourceBody(raw)


def guest_payload_of(raw: Raw) -> Payload:
    """Content for a worker, in the form that is cheapest to hand over."""
    if not isinstance(raw, bytes):
        return payload_of(raw)
    if len(raw) <= WHOLE_BYTES_MAX:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            pass
    return raw if len(raw) <= BYTES_VALUE_MAX else BytesBody(raw)


def request_parts(request: Request) -> tuple[str, str, str, Payload]:
    """Method, address, header text and body of a request for a worker. The request's body is used up."""
    return str(request.method), request.url, request.headers.to_text(), guest_payload_of(request._take())


def response_parts(response: Response) -> tuple[int, str, Payload]:
    """Status, header text and body of an answer. The response's body is used up. Raises `InvalidAnswer`."""
    try:
        headers = response.headers.to_text()
    except ValueError as error:
        raise InvalidAnswer(str(error)) from None
    return response.status, headers, payload_of(response._take())


def close_payloads(payloads: list[Any]) -> None:
    for payload in payloads:
        if isinstance(payload, Body):
            payload.close()
