"""The server behind this one: it gets the requests for tenants that are not deployed here.

So tenants can run in groups, by how far they are trusted: each group is a server of its own, with its processes, its
data directory and its key, perhaps as another user. One of them faces the callers. It passes on what is not its own,
and the one behind may do so in turn. Who calls has been settled here; the server behind takes this one's word for it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector
from aiohttp.cookiejar import DummyCookieJar
from multidict import CIMultiDict
from yarl import URL

from host_bindings.body import CHUNK_BYTES, Body, Payload
from host_bindings.contract import Failure
from runtime.dispatcher.errors import Refused
from runtime.dispatcher.framing import RESPONSE_HEADER_BYTES_MAX, RESPONSE_HEADERS_MAX, InvalidRequest
from runtime.engine.pool import Answer

CONNECT_S = 5.0

SILENCE_S = 3_700.0
"""How long the server behind may say nothing: a little longer than the longest wall-clock limit of a worker."""

KEEP_ALIVE_S = 30.0
"""How long an idle connection is kept: less than the server behind would, so that none is closed as it is used."""

HOPS_MAX = 8
"""How many servers a request may have come through."""

RETRY_AFTER_S = 1

_PSEUDONYM = "cloister"
_HOP = re.compile(rf"(?:^|,)\s*1\.1 {_PSEUDONYM}\s*(?=,|$)")
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Upstream:
    """Passes requests on. Made on the event loop; `close` it."""

    def __init__(self, address: str) -> None:
        """`address` is of the form http://127.0.0.1:8797."""
        self._address = address
        self._session = ClientSession(
            connector=TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S),
            skip_auto_headers=_NOT_ADDED,
            # What is compressed stays so.
            auto_decompress=False,
            read_bufsize=CHUNK_BYTES,
            max_field_size=RESPONSE_HEADER_BYTES_MAX,
            max_headers=2 * RESPONSE_HEADERS_MAX,
        )

    async def close(self) -> None:
        await self._session.close()

    async def fetch(self, method: str, url: str, headers: str, body: Payload, *, identity: tuple[str, str]) -> Answer:
        """The answer of the server behind, whatever it says. `identity` is the header that names the tenant.

        Raises `Refused` where there is none, and `InvalidRequest`.
        """
        authority, _, rest = url.removeprefix("http://").partition("/")
        content = _Content(body) if isinstance(body, Body) else body
        try:
            response = await self._session.request(
                method,
                # Not a character of it may be changed; the first slash ends the authority, which is ours.
                URL(f"{self._address}/{rest}", encoded=True),
                headers=_sent_headers(headers, authority, identity),
                data=content,
                allow_redirects=False,
            )
        except ClientConnectorError:
            raise Refused(
                503,
                "upstream_unavailable",
                "The server that has this worker cannot be reached.",
                headers=f"retry-after: {RETRY_AFTER_S}\n",
            ) from None
        except TimeoutError:
            raise Refused(504, "upstream_timeout", "The server that has this worker does not answer.") from None
        except UnicodeError:
            raise InvalidRequest("The request's target is not text.") from None
        except (ClientError, OSError):
            if isinstance(content, _Content) and content.failure is not None:
                raise Refused(408, "request_timeout", content.failure.message) from None
            raise Refused(502, "upstream_failed", "The server that has this worker broke the request off.") from None
        return Answer(response.status, _received_headers(response), _AnswerBody(response), 0.0, False)


def _sent_headers(text: str, authority: str, identity: tuple[str, str]) -> CIMultiDict[str]:
    lines = [line.partition(": ") for line in text.split("\n")[:-1]]
    headers = CIMultiDict((name, value) for name, _, value in lines)
    headers["Host"] = authority
    headers[identity[0]] = identity[1]
    # RFC 9110, section 7.6.3.
    via = ", ".join(headers.popall("Via", ()))
    if len(_HOP.findall(via)) >= HOPS_MAX:
        raise Refused(508, "upstream_loop", f"The request has come through {HOPS_MAX} servers: they go in a circle.")
    headers["Via"] = f"{via}, 1.1 {_PSEUDONYM}" if via else f"1.1 {_PSEUDONYM}"
    return headers


def _received_headers(response: ClientResponse) -> str:
    return "".join(
        f"{name.decode('latin-1')}: {value.decode('utf-8', 'replace')}\n" for name, value in response.raw_headers
    )


class _Content:
    """A request's body for aiohttp's client: once, since what has been sent is not there to be sent again."""

    def __init__(self, body: Body) -> None:
        self.failure: Failure | None = None
        self._body: Body | None = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        # aiohttp tries a PUT again when a connection that was idle turns out to be closed. It would send nothing.
        body, self._body = self._body, None
        if body is None:
            raise ClientError("The body has been sent.")
        return self._pieces(body)

    async def _pieces(self, body: Body) -> AsyncIterator[bytes]:
        try:
            async for piece in body.chunks():
                yield piece
        except Failure as failure:
            self.failure = failure
            raise ClientError(failure.message) from failure


class _AnswerBody(Body):
    """The answer's body as it arrives."""

    def __init__(self, response: ClientResponse) -> None:
        self.length = response.content_length
        self._response = response

    async def read(self, limit: int) -> bytes:
        try:
            return await self._response.content.read(limit)
        except (ClientError, OSError, TimeoutError):
            raise Failure("Error", "The answer of the server that has this worker broke off.") from None

    def close(self) -> None:
        # One that has been read to its end has given its connection back.
        if not self._response.content.at_eof():
            self._response.close()
