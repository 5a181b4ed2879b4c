"""Traces as a collector gets them: OTLP over HTTP, from a real server to a receiver that decodes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from guest_sdk.build import build
from host_bindings import WIT_DIRECTORY
from host_bindings.confinement import available
from tests.components import GUESTS
from tests.e2e.server import Server, start, wait_until

BINDINGS = [{"type": "kv_namespace", "name": "KV", "namespace_id": "cache"}]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PRIVATE = "correct-horse-battery-staple"
PROTOBUF = "google/_upb"
"""Of the exporter's, the one library in machine code."""


class Collector:
    """What has arrived."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.raw: list[bytes] = []

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def of_request(self, request_id: str) -> list[Span]:
        """All spans of the trace of a request, its own first."""
        (root,) = [span for span in self.spans if attributes(span).get("cloister.request_id") == request_id]
        return [root, *(span for span in self.spans if span.trace_id == root.trace_id and span is not root)]


def mapped(server: Server) -> str:
    """The libraries that the server has loaded, and more."""
    return Path(f"/proc/{server.process.pid}/maps").read_text()


def attributes(span: Span) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


@contextmanager
def collecting() -> Iterator[tuple[Collector, int]]:
    """A receiver of OTLP, and its port."""
    collector = Collector()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/x-protobuf"
            collector.raw.append(body)
            collector.headers.append({"path": self.path, **{name.lower(): text for name, text in self.headers.items()}})
            collector.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        thread = threading.Thread(target=receiver.serve_forever)
        thread.start()
        try:
            yield collector, receiver.server_address[1]
        finally:
            receiver.shutdown()
            thread.join()


@contextmanager
def traced_server(
    data: Path, monkeypatch: pytest.MonkeyPatch, **settings: object
) -> Iterator[tuple[Server, Collector]]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with collecting() as (collector, port):
        given = {"traces": "on", "traces_endpoint": f"http://127.0.0.1:{port}/v1/traces"} | settings
        with start(data, **given) as server:  # type: ignore[arg-type]
            component = build(GUESTS / "storage_worker", wit_directory=WIT_DIRECTORY).read_bytes()
            assert server.deploy("acme", component, BINDINGS).status == 200
            yield server, collector


def asked(server: Server, collector: Collector, path: str, spans: int, **options: Any) -> list[Span]:
    """The spans of a request, when there are so many."""
    reply = server.request("GET", path, user="acme", **options)
    request_id = reply.headers["x-request-id"]

    def arrived() -> bool:
        sent = [span for span in collector.spans if attributes(span).get("cloister.request_id") == request_id]
        return bool(sent) and len(collector.of_request(request_id)) >= spans

    wait_until(arrived, f"the trace does not arrive: {[span.name for span in collector.spans]}")
    return collector.of_request(request_id)


def test_a_request_its_cold_start_and_its_host_calls_are_one_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with traced_server(tmp_path / "data", monkeypatch, traces_headers=f"x-key={PRIVATE}") as (server, collector):
        root, *below = asked(server, collector, f"/kv/{PRIVATE}?q={PRIVATE}", 4, headers={"X-Secret": PRIVATE})
        warm = asked(server, collector, "/kv/key", 3)
        missing = server.request("GET", "/", user=PRIVATE)
        assert missing.status == 404
        assert server.stop() == 0

        names = {span.name: span for span in below}
        call = names["worker fetch"]
        assert (root.name, root.kind, root.parent_span_id) == ("GET", Span.SPAN_KIND_SERVER, b"")
        assert call.parent_span_id == root.span_id
        assert {names[name].parent_span_id for name in ("cold start", "kv.get")} == {call.span_id}
        for span in below:
            assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert "cold start" not in {span.name for span in warm}

        found = attributes(call)
        assert (found["cloister.tenant"], found["cloister.version"], found["cloister.cold"]) == ("acme", 1, True)
        assert (found["cloister.outcome"], found["cloister.host_calls"] > 0, found["cloister.cpu_ms"] > 0) == (
            "ok",
            True,
            True,
        )
        assert attributes(root)["http.response.status_code"] == 200
        # The last spans are sent when the server ends.
        assert any(attributes(span).get("http.response.status_code") == 404 for span in collector.spans)
        assert {headers["x-key"] for headers in collector.headers} == {PRIVATE}
        assert {headers["path"] for headers in collector.headers} == {"/v1/traces"}
        resource = collector.requests[0].resource_spans[0].resource
        assert {each.key: each.value.string_value for each in resource.attributes}["service.name"] == "cloister"
        assert not any(PRIVATE.encode() in body for body in collector.raw)


DISPATCH = """
async def fetch(request, env):
    await env.DISPATCHER.get("rpc").echo("argument")
    return await env.DISPATCHER.get("acme").fetch(request)
"""


def test_all_calls_that_dispatch_code_makes_for_a_request_are_in_its_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dispatch.py").write_text(DISPATCH)
    with traced_server(tmp_path / "data", monkeypatch, dispatcher=tmp_path / "dispatch.py") as (server, collector):
        component = build(GUESTS / "rpc_worker", wit_directory=WIT_DIRECTORY).read_bytes()
        assert server.deploy("rpc", component).status == 200

        root, *below = asked(server, collector, "/kv/key", 6)

        calls = {span.name: attributes(span)["cloister.tenant"] for span in below if span.name.startswith("worker")}
        assert calls == {"worker call": "rpc", "worker fetch": "acme"}
        assert {span.parent_span_id for span in below if span.name.startswith("worker")} == {root.span_id}
        assert sum(span.name == "cold start" for span in below) == 2


def test_an_exception_is_an_error_without_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with traced_server(tmp_path / "data", monkeypatch) as (server, collector):
        root, *below = asked(server, collector, f"/r2/{PRIVATE}", 2)

        (call,) = [span for span in below if span.name == "worker fetch"]
        assert {span.status.code for span in (root, call)} == {Status.STATUS_CODE_ERROR}
        assert {attributes(span)["error.type"] for span in (root, call)} == {"exception"}
        assert not any(PRIVATE.encode() in body for body in collector.raw)


@pytest.mark.parametrize("trusted", [True, False])
def test_a_callers_trace_goes_on_only_where_callers_are_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": f"vendor={PRIVATE}"}
    settings = {"traces_trust_callers": "on" if trusted else "off"}
    with traced_server(tmp_path / "data", monkeypatch, **settings) as (server, collector):
        root, *_ = asked(server, collector, "/kv/key", 3, headers=headers)

        assert (root.trace_id.hex() == TRACE) is trusted
        assert (root.parent_span_id.hex() == PARENT) is trusted
        assert not any(PRIVATE.encode() in body for body in collector.raw)


def test_the_standard_variables_say_where_to_and_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as (collector, port):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}/base/")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
        with start(tmp_path / "data", traces="on") as server:
            for _ in range(200):
                server.request("GET", "/", user="nobody")
            assert server.stop() == 0

    assert 50 < len(collector.spans) < 150
    assert {headers["path"] for headers in collector.headers} == {"/base/v1/traces"}
    resource = collector.requests[0].resource_spans[0].resource
    assert {each.key: each.value.string_value for each in resource.attributes}["service.name"] == "shop"


def test_a_confined_process_reaches_the_collectors_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with traced_server(tmp_path / "data", monkeypatch, supervised=True, processes=2) as (server, collector):
        spans = asked(server, collector, "/kv/key", 3)
        assert len(spans) >= 3
        assert {entry["landlock"] for entry in server.logged("confined")} == {available().landlock}


def test_without_a_collector_requests_are_answered_and_the_server_ends(tmp_path: Path) -> None:
    with start(tmp_path / "data", traces="on", traces_endpoint="http://127.0.0.1:9/v1/traces") as server:
        assert server.request("GET", "/", user="nobody").status == 404
        assert PROTOBUF in mapped(server)
        assert server.stop() == 0
    assert "opentelemetry" in server.log.read_text()


def test_nothing_is_sent_unless_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as (collector, port):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        with start(tmp_path / "data") as server:
            assert server.request("GET", "/", user="nobody").status == 404
            assert PROTOBUF not in mapped(server)
            assert server.stop() == 0
    assert collector.requests == []
