"""Request and Response, as workers and the operator's dispatch code see them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Iterable
from http import HTTPMethod
from typing import Any

from workers.content import BodyMixin, Raw, ReadableStream, StreamSource
from workers.forms import Blob, FormData
from workers.headers import Headers, HeadersLike

TEXT = "text/plain;charset=UTF-8"
_TEXT_HEADER = f"content-type: {TEXT}\n"
_JSON_HEADER = "content-type: application/json\n"

_METHODS: dict[str, str] = {method.value: method for method in HTTPMethod}

NULL_BODY_STATUSES = frozenset((101, 204, 205, 304))


class Request(BodyMixin):
    """A request that a worker handles. Its parts are made when they are asked for."""

    def __init__(
        self,
        input: Any = "",
        init: Any = None,
        *,
        method: str | None = None,
        headers: HeadersLike = None,
        body: Any = None,
        cf: Any = None,
        **_options: Any,
    ) -> None:
        options = dict(init or {})
        self.url: str = input.url if isinstance(input, Request) else str(input)
        inherited = input._method if isinstance(input, Request) else "GET"
        self._method: str = str(method or options.get("method") or inherited).upper()
        given = headers if headers is not None else options.get("headers")
        if given is None and isinstance(input, Request):
            given = input.headers
        self._headers = Headers(given)
        content = body if body is not None else options.get("body")
        if content is None and isinstance(input, Request):
            self._raw: Raw = input._take()
        else:
            self._raw, content_type = content_of(content)
            if self._raw is not None and self._method in ("GET", "HEAD"):
                raise TypeError("Request with a GET or HEAD method cannot have a body.")
            if content_type and "content-type" not in self._headers:
                self._headers.set("content-type", content_type)
        self.cf = cf

    @classmethod
    def from_parts(cls, method: str, url: str, headers: str, raw: Raw) -> Request:
        """A request as it comes in: header text as in the contract, parsed only if someone looks."""
        request = cls.__new__(cls)
        request.url = url
        request._method = method
        request._headers = Headers.from_text(headers)
        request._raw = raw
        request.cf = None
        return request

    @property
    def method(self) -> Any:
        """A member of `http.HTTPMethod`, which compares as a string; an unknown method is a plain string."""
        return _METHODS.get(self._method, self._method)

    @property
    def headers(self) -> Headers:
        return self._headers

    @property
    def js_object(self) -> Request:
        """The request itself: there is no JavaScript object behind it here."""
        return self

    _js_request = js_object

    def clone(self) -> Request:
        """A second request with the same content. Raises OSError if it has been used."""
        return Request.from_parts(self._method, self.url, self._headers.to_text(), self._shared())

    def _content_type(self) -> str:
        return str(self._headers.get("content-type", ""))

    def __repr__(self) -> str:
        return f"<Request {self._method} {self.url}>"


class _ClassOrInstance:
    """A name that is one function on the class and another on its instances, as in JavaScript."""

    def __init__(self, on_class: Any, on_instance: Any) -> None:
        self._on_class = on_class
        self._on_instance = on_instance

    def __get__(self, instance: Any, owner: type) -> Any:
        return self._on_class.__get__(None, owner) if instance is None else self._on_instance.__get__(instance, owner)


class Response(BodyMixin):
    """An answer. `body`: str, bytes, None, FormData, Blob, a stream, or an iterable (async or not) of str or bytes."""

    def __init__(
        self,
        body: Any = None,
        status: Any = None,
        status_text: str = "",
        headers: HeadersLike = None,
        web_socket: Any = None,
        **options: Any,
    ) -> None:
        if web_socket is not None or options.get("webSocket") is not None:
            raise NotImplementedError("WebSockets are not available here.")
        self.status = 200 if status is None else int(status)
        if not 200 <= self.status <= 599:
            raise ValueError(
                f"Responses may only be constructed with status codes in the range 200 to 599, not {status}."
            )
        self.status_text = status_text or options.get("statusText", "")
        if body is None:
            self._raw: Raw = None
            content_type = ""
        elif type(body) is str:
            self._raw, content_type = body, TEXT
        else:
            self._raw, content_type = content_of(body)
        if self._raw is not None and self.status in NULL_BODY_STATUSES:
            raise TypeError("Response with null body status (101, 204, 205, or 304) cannot have a body.")
        if headers is None:
            text = _TEXT_HEADER if content_type is TEXT else f"content-type: {content_type}\n" if content_type else ""
            self._headers = Headers.from_text(text)
        else:
            self._headers = Headers(headers)
            if content_type and "content-type" not in self._headers:
                self._headers.set("content-type", content_type)

    @classmethod
    def from_parts(cls, status: int, headers: str, raw: Raw) -> Response:
        """An answer as it comes from elsewhere: header text as in the contract."""
        response = cls.__new__(cls)
        response.status = status
        response.status_text = ""
        response._headers = Headers.from_text(headers)
        response._raw = raw
        return response

    @classmethod
    def from_json(cls, data: Any, status: Any = None, status_text: str = "", headers: HeadersLike = None) -> Response:
        """An answer with `data` as JSON."""
        made = cls(json.dumps(data), status, status_text, headers)
        if headers is None:
            made._headers = Headers.from_text(_JSON_HEADER)
        elif "content-type" not in Headers(headers):
            made._headers.set("content-type", "application/json")
        return made

    json = _ClassOrInstance(from_json, BodyMixin.json)
    """`Response.json(data)` makes an answer; `await response.json()` reads one."""

    @classmethod
    def redirect(cls, url: str, status: Any = 302) -> Response:
        if int(status) not in (301, 302, 303, 307, 308):
            raise ValueError(f"{status} is not a redirect status code.")
        return cls(None, status=status, headers={"location": str(url)})

    @property
    def headers(self) -> Headers:
        return self._headers

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def js_object(self) -> Response:
        return self

    def replace_body(self, body: Any) -> Response:
        """The same answer with another body."""
        raw, _ = content_of(body)
        return Response.from_parts(self.status, self._headers.to_text(), raw)

    def clone(self) -> Response:
        """A second answer with the same content. Raises OSError if it has been used."""
        return Response.from_parts(self.status, self._headers.to_text(), self._shared())

    def _content_type(self) -> str:
        return str(self._headers.get("content-type", ""))

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


class GeneratedSource:
    """A stream that Python code makes piece by piece: a generator or an asynchronous one."""

    length = None

    def __init__(self, pieces: AsyncIterable[Any] | Iterable[Any]) -> None:
        self._pieces = pieces.__aiter__() if hasattr(pieces, "__aiter__") else _asynchronous(pieces)
        self._rest = b""

    async def read(self, limit: int, /) -> bytes:
        while not self._rest:
            try:
                piece = await self._pieces.__anext__()
            except StopAsyncIteration:
                return b""
            self._rest = piece.encode() if isinstance(piece, str) else bytes(piece)
        taken, self._rest = self._rest[:limit], self._rest[limit:]
        return taken


async def _asynchronous(pieces: Any) -> Any:
    for piece in pieces:
        yield piece


def content_of(value: Any) -> tuple[Raw, str]:
    """(content, the content type that it brings along). Raises TypeError for what cannot be a body."""
    if value is None:
        return None, ""
    if isinstance(value, str):
        return value, TEXT
    if isinstance(value, bytes):
        return value, ""
    if isinstance(value, bytearray | memoryview):
        return bytes(value), ""
    if isinstance(value, FormData):
        return value.encode()
    if isinstance(value, Blob):
        return value._raw, value.type
    if isinstance(value, ReadableStream):
        return value.take(), ""
    if isinstance(value, Request | Response):
        return value._take(), value._content_type()
    if isinstance(value, dict | list | tuple | set | int | float):
        raise TypeError(f"Unsupported type in Response: {type(value).__name__}")
    if isinstance(value, StreamSource):
        return value, ""
    if hasattr(value, "__aiter__") or hasattr(value, "__iter__"):
        return GeneratedSource(value), ""
    raise TypeError(f"Unsupported type in Response: {type(value).__name__}")
