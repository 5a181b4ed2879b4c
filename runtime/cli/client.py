"""A client of the management API, on the standard library alone, so that a short command starts quickly."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from runtime.cli.errors import CommandError, ExitCode
from runtime.settings import ServerSettings

ACCOUNT = "local"

_CONNECT_S = 10.0
_ANSWER_S = 300.0
"""An upload is answered when it has been compiled."""

_CHUNK_BYTES = 256 * 1024


class ApiError(CommandError):
    """The server said no. `code` is the API's error code, `status` HTTP's."""

    def __init__(self, status: int, code: int, message: str) -> None:
        denied = status in (401, 403)
        super().__init__(
            "The server does not let this client in." if denied else "The server refused this.",
            f"{message} (code {code})",
            "Use the token of the server's data directory (--data), or set CLOISTER_ADMIN_TOKEN." if denied else "",
            ExitCode.UNREACHABLE if denied else ExitCode.FAILED,
        )
        self.status = status
        self.code = code


class AdminClient:
    """Talks to the management API of a server on this machine."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token

    def create_namespace(self, name: str) -> Any:
        return self._call("POST", "", content={"name": name})

    def scripts(self, namespace: str) -> list[dict[str, Any]]:
        """All scripts of a namespace, by name."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            envelope = self._envelope("GET", f"/{quote(namespace, safe='')}/scripts?{urlencode({'cursor': cursor})}")
            found += envelope["result"]
            cursor = envelope["result_info"]["cursor"]
            if not cursor:
                return found

    def script(self, namespace: str, name: str) -> dict[str, Any] | None:
        try:
            result: dict[str, Any] = self._call("GET", _script_path(namespace, name))["script"]
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return result

    def delete_script(self, namespace: str, name: str, *, purge_data: bool) -> dict[str, Any]:
        query = "?purge_data=true" if purge_data else ""
        result: dict[str, Any] = self._call("DELETE", _script_path(namespace, name) + query)
        return result

    def start_script(self, namespace: str, name: str) -> dict[str, Any]:
        result: dict[str, Any] = self._call("POST", _script_path(namespace, name) + "/start")
        return result

    def put_script(self, namespace: str, name: str, metadata: dict[str, Any], component: Path) -> dict[str, Any]:
        """Uploads; `metadata` needs no main_module."""
        boundary = secrets.token_hex(16)
        document = json.dumps({**metadata, "main_module": "worker.wasm"})
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="metadata"\r\n'
            f"Content-Type: application/json\r\n\r\n{document}\r\n"
            f'--{boundary}\r\nContent-Disposition: form-data; name="worker.wasm"; filename="worker.wasm"\r\n'
            "Content-Type: application/wasm\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        length = len(head) + component.stat().st_size + len(tail)

        def body() -> Iterator[bytes]:
            yield head
            with component.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
            yield tail

        content_type = f"multipart/form-data; boundary={boundary}"
        path = _script_path(namespace, name)
        result: dict[str, Any] = self._call("PUT", path, body=body(), length=length, content_type=content_type)
        return result

    def create_token(self, body: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = self._call("POST", "", under="tokens", content=body)
        return result

    def tokens(self) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self._call("GET", "", under="tokens")
        return result

    def token(self, id: str) -> dict[str, Any]:
        result: dict[str, Any] = self._call("GET", f"/{quote(id, safe='')}", under="tokens")
        return result

    def update_token(self, id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Replaces all that the token says, but its value."""
        result: dict[str, Any] = self._call("PUT", f"/{quote(id, safe='')}", under="tokens", content=body)
        return result

    def delete_token(self, id: str) -> None:
        self._call("DELETE", f"/{quote(id, safe='')}", under="tokens")

    def call(self, method: str, path: str, *, under: str, **options: Any) -> Any:
        """The result of a request below the account; `under` is where `path` begins.

        What is sent is `content` as JSON, or `body` of `length` bytes and `content_type`.
        """
        return self._call(method, path, under=under, **options)

    def page(self, path: str, *, under: str) -> dict[str, Any]:
        """A page of a listing: {result, result_info} and what else an answer has."""
        return self._envelope("GET", path, under=under)

    def call_script(self, method: str, namespace: str, name: str, path: str, **options: Any) -> Any:
        """As `call`, below a script."""
        return self._call(method, _script_path(namespace, name) + path, **options)

    @property
    def port(self) -> int:
        return self._port

    def _call(self, method: str, path: str, **options: Any) -> Any:
        return self._envelope(method, path, **options)["result"]

    def download(self, path: str, *, under: str, target: BinaryIO) -> None:
        """Writes what a request is answered with, as it is, to a file."""
        with self._answer("GET", path, under=under) as response:
            if response.status == 200:
                shutil.copyfileobj(response, target, _CHUNK_BYTES)
            else:
                _read(response.status, response.read())

    def _envelope(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        with self._answer(method, path, **options) as response:
            return _read(response.status, response.read())

    @contextlib.contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        *,
        content: object = None,
        body: bytes | Iterator[bytes] | None = None,
        length: int | None = None,
        content_type: str | None = None,
        under: str = "workers/dispatch/namespaces",
    ) -> Iterator[http.client.HTTPResponse]:
        headers = {"Authorization": f"Bearer {self._token}"}
        if content is not None:
            body, content_type = json.dumps(content).encode(), "application/json"
        if content_type is not None:
            headers["Content-Type"] = content_type
        if length is not None:
            headers["Content-Length"] = str(length)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_CONNECT_S)
        try:
            connection.connect()
            connection.sock.settimeout(_ANSWER_S)
            try:
                url = f"/client/v4/accounts/{ACCOUNT}/{under}{path}"
                connection.request(method, url, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                pass  # The server answered before it had all of the body: the answer says why.
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._silent(error) from error
        try:
            yield response
        except (http.client.HTTPException, TimeoutError, ConnectionResetError) as error:
            raise self._silent(error) from error
        finally:
            connection.close()

    def _silent(self, error: Exception) -> CommandError:
        return CommandError(
            f"The server does not answer on 127.0.0.1:{self._port}.",
            str(error) or type(error).__name__,
            "Start it with `cloister serve`, or name its port with --admin-port or CLOISTER_ADMIN_PORT.",
            ExitCode.UNREACHABLE,
        )


def connect(settings: ServerSettings) -> AdminClient:
    """A client with the token of the settings or of the data directory."""
    return AdminClient(settings.admin_port, settings.admin_token or _stored_token(settings))


def _stored_token(settings: ServerSettings) -> str:
    path = settings.admin_token_path
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "it holds no token"
        raise CommandError(
            "There is no admin token.",
            f"{path}: {reason}",
            "Name the server's data directory with --data or CLOISTER_DATA, or set CLOISTER_ADMIN_TOKEN.",
            ExitCode.UNREACHABLE,
        ) from error


def _read(status: int, body: bytes) -> dict[str, Any]:
    try:
        envelope: dict[str, Any] = json.loads(body)
        if envelope["success"]:
            return envelope
        (error, *_) = envelope["errors"]
        code, message = int(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        raise CommandError(
            "What answers is not Cloister's management API.",
            f"HTTP {status}, {len(body)} bytes",
            "Check the port (--admin-port).",
            ExitCode.UNREACHABLE,
        ) from None
    raise ApiError(status, code, message)


def _script_path(namespace: str, name: str) -> str:
    return f"/{quote(namespace, safe='')}/scripts/{quote(name, safe='')}"
