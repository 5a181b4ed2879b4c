"""The reference worker on the engine: its methods, as a dispatcher calls them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from host_bindings.body import BytesBody
from runtime.engine.errors import GuestException
from tests.guest_sdk.laboratory import Laboratory, content, in_laboratory
from workers import ReadableStream, Response

TENANTS = Path(__file__).parents[2] / "tenants"

Experiment = Callable[[Callable[[Laboratory], Awaitable[None]]], None]


@pytest.fixture
def tenant(tmp_path: Path) -> Experiment:
    """Runs an async test body with the first tenant's worker and stores of its own."""
    return lambda body: in_laboratory(tmp_path / "stores", body, TENANTS / "customer-worker-1")


async def get_file(worker: Laboratory, headers: dict[str, str] | None = None, method: str = "GET") -> Response:
    answer = await worker.call("get_file", "key", method, headers or {})
    assert isinstance(answer, Response)
    return answer


def test_data(tenant: Experiment) -> None:
    async def body(worker: Laboratory) -> None:
        values: list[Any] = ["ü", "", 0, False, 1.5, [None], {"$a": {"b": 1}}]
        for value in values:
            await worker.call("set_data", "key", value)
            assert await worker.call("get_data", "key") == value
        await worker.call("delete_data", "key")
        assert await worker.call("get_data", "key") is None

    tenant(body)


def test_a_file_passes_through_unread(tenant: Experiment) -> None:
    async def body(worker: Laboratory) -> None:
        data = b"\x00\xff" * 200_000
        stored = await worker.call("upload_file", "key", ReadableStream(BytesBody(data)), "image/png")
        assert stored == {"success": True, "key": "key", "size": 400_000}

        answer = await get_file(worker)
        assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
        assert await content(answer._take()) == data

        part = await get_file(worker, {"Range": "bytes=-3"})
        assert (part.status, part.headers["content-range"]) == (206, "bytes 399997-399999/400000")
        assert await content(part._take()) == data[-3:]

    tenant(body)


@pytest.mark.parametrize(
    "headers",
    [
        {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 -0000"},
        {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00"},
        {"If-Modified-Since": "nonsense"},
        {"If-Modified-Since": ""},
        {"If-Modified-Since": "Thu, 99 Jan 99999999999999999999 00:00:00 GMT"},
        {"If-Unmodified-Since": "Fri, 31 Dec 2100 00:00:00 -0000"},
        {"If-None-Match": ""},
        {"If-None-Match": '"'},
        {"Range": f"bytes={'9' * 5000}-"},
        {"Range": f"bytes=0-{'9' * 5000}"},
        {"Range": f"bytes=-{'9' * 5000}"},
        {"Range": "bytes=٣-"},
        {"If-Range": "nonsense", "Range": "bytes=0-0"},
    ],
)
def test_strange_headers_are_not_heeded(tenant: Experiment, headers: dict[str, str]) -> None:
    async def body(worker: Laboratory) -> None:
        await worker.call("upload_file", "key", b"content")
        answer = await get_file(worker, headers)
        assert (answer.status, await content(answer._take())) == (200, b"content")

    tenant(body)


def test_sql(tenant: Experiment) -> None:
    async def body(worker: Laboratory) -> None:
        answer = await worker.call("query_database", "SELECT ? AS a", ["x"])
        assert answer["results"] == [{"a": "x"}]
        with pytest.raises(GuestException, match="no such table: activity"):
            await worker.call("query_database", "SELECT * FROM activity", [])

    tenant(body)


def test_figures_are_exact_under_concurrency(tenant: Experiment) -> None:
    async def body(worker: Laboratory) -> None:
        await asyncio.gather(
            *[worker.call("upload_file", f"file-{n}", bytes(n)) for n in range(40)],
            *[worker.call("upload_file", "same", b"1234") for _ in range(10)],
            *[worker.call("set_data", f"key-{n}", n) for n in range(30)],
        )
        await asyncio.gather(*[worker.call("delete_file", f"file-{n}") for n in range(10)])
        await asyncio.gather(*[worker.call("delete_data", f"key-{n}") for n in range(10)])

        stats = await worker.call("get_stats")

        assert stats["files"] == {"count": 31, "totalSize": sum(range(10, 40)) + 4}
        assert stats["storage"] == {"kvKeys": 20, "r2Objects": 31}
        assert stats["activity"]["totalOperations"] == 100
        assert len(await worker.call("list_files")) == 31
        assert len(await worker.call("list_data")) == 20

    tenant(body)
