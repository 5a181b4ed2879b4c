"""The reference platform: a dispatcher that calls two tenants' methods, with KV and R2 behind, beside Miniflare."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from http.client import HTTPConnection
from urllib.parse import urlsplit

from benchmarks.cloister import DEMO_TENANTS, Cloister, cloister
from benchmarks.load import Request
from benchmarks.measure import CLOISTER, Contender, Goal, Plan, Row, compare, row
from benchmarks.peers import Server, miniflare_platform

USERS = ("user1", "user2")
CONNECTIONS = (1, 8, 32)
SIZES = {"1KiB": 1024, "100KiB": 100 * 1024}
GREETING = {"text": "hello", "times": 3}
DURABILITY = "writes are on disk when answered; Miniflare's are not"


def platform(plan: Plan) -> Iterator[Row]:
    """Each route at 1, 8 and 32 connections."""
    with ExitStack() as stack:
        server = start_platform(stack)
        peer = plan.start(stack, "miniflare", miniflare_platform)
        present: dict[str, Server] = {CLOISTER: server} | ({} if peer is None else {"miniflare": peer})
        for each in present.values():
            seed(each, SIZES)
        is_right = answers()
        for route, requests in routes().items():
            contenders: dict[str, Contender | None] = {
                n: Contender(s, requests, is_right[route]) for n, s in present.items()
            }
            for connections in plan.some(CONNECTIONS):
                yield from _rows(plan, route, contenders, connections)


def _rows(plan: Plan, route: str, contenders: dict[str, Contender | None], connections: int) -> Iterator[Row]:
    samples = compare(plan, contenders, connections=connections)
    case = f"platform/{route}/{connections}"
    note = DURABILITY if route in ("POST-data", "GET-data") else ""
    if route == "GET-root":
        yield row(case, samples, goal=Goal(0.8, "miniflare"))
        return
    yield row(case, samples, goal=Goal(2 if connections == 1 else 4, "miniflare"), note=note)
    yield row(f"{case}/p99", samples, "p99_ms", goal=Goal(0.1, "miniflare", at_most=True))


def routes() -> dict[str, Sequence[Request]]:
    """What is asked, for both users in turn."""
    body = json.dumps({"key": "greeting", "value": GREETING})
    kind = {"Content-Type": "application/json"}
    asked: dict[str, Sequence[Request]] = {
        "GET-root": [Request("/", headers=as_user(user)) for user in USERS],
        "GET-data": [Request("/data?key=greeting", headers=as_user(user)) for user in USERS],
        "POST-data": [Request("/data", "POST", as_user(user) | kind, body) for user in USERS],
        "GET-stats": [Request("/stats", headers=as_user(user)) for user in USERS],
    }
    for size in SIZES:
        asked[f"GET-files-{size}"] = [Request(f"/files?key={size}", headers=as_user(user)) for user in USERS]
    return asked


def answers() -> dict[str, Callable[[bytes], bool]]:
    """Whether an answer is right, by route."""
    files = {"count": len(SIZES), "totalSize": sum(SIZES.values())}
    right: dict[str, Callable[[bytes], bool]] = {
        "GET-root": lambda answer: b"user" in answer,
        "GET-data": lambda answer: json.loads(answer) == {"key": "greeting", "value": GREETING},
        "POST-data": lambda answer: json.loads(answer) == {"success": True, "key": "greeting"},
        "GET-stats": lambda answer: json.loads(answer)["files"] == files,
    }
    for name, size in SIZES.items():
        right[f"GET-files-{name}"] = partial(_has_length, size)
    return right


def _has_length(size: int, answer: bytes) -> bool:
    return len(answer) == size


def as_user(user: str) -> dict[str, str]:
    return {"X-User-ID": user}


def start_platform(stack: ExitStack) -> Cloister:
    """The reference platform with its two tenants."""
    server = stack.enter_context(cloister(dispatcher=True))
    for directory in DEMO_TENANTS:
        server.deploy_directory(directory)
    return server


def seed(server: Server, sizes: dict[str, int]) -> None:
    """Gives each user a value and a file of each size, under the size's name, by the platform's own routes."""
    for user in USERS:
        (data,) = (request for request in routes()["POST-data"] if request.headers["X-User-ID"] == user)
        send(server, "POST", "/data", data.headers, (data.body or "").encode())
        for name, size in sizes.items():
            body, content_type = form(name, secrets.token_bytes(size))
            send(server, "POST", "/files", as_user(user) | {"Content-Type": content_type}, body)


def form(key: str, content: bytes) -> tuple[bytes, str]:
    """The body of an upload and its content type."""
    boundary = "benchmark-" + secrets.token_hex(8)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="key"\r\n\r\n{key}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode() + content + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def send(server: Server, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
    """One request. Raises RuntimeError for an error."""
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status >= 400:
        raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]!r}")
    return content
