"""`GET /metrics`: the platform's figures in Prometheus' text format, summed over all server processes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from runtime.control.guard import ACCESS
from runtime.control.parts import Parts
from runtime.telemetry.ledger import PROCESS, Total
from runtime.telemetry.meters import WALL_MS_BOUNDS, TenantKey

PATH = "/metrics"

TENANTS_MAX = 1_000
"""How many tenants have figures of their own, those with the most requests; the others are summed up as `_other`."""

OTHER = TenantKey("", "_other")

_COUNTERS = {
    "requests": ("cloister_requests", "HTTP requests by the hundreds of their status", "status", 1.0),
    "calls": ("cloister_calls", "Calls of workers by what became of them", "outcome", 1.0),
    "limits": ("cloister_limits_hit", "Limits that calls hit or were refused by", "limit", 1.0),
    "cpu_ns": ("cloister_cpu_seconds", "CPU time of workers", "", 1e-9),
    "host_calls": ("cloister_host_calls", "Calls of KV, R2, D1 and the like by workers", "", 1.0),
    "cold_starts": ("cloister_cold_starts", "Instances that were made for a call", "", 1.0),
    "bytes_in": ("cloister_request_bytes", "Bytes of requests' bodies", "", 1.0),
    "bytes_out": ("cloister_response_bytes", "Bytes of answers", "", 1.0),
}
_GAUGES = {
    "instances": ("cloister_instances", "Live instances"),
    "running": ("cloister_calls_running", "Calls that have an instance or wait for one"),
    "queued": ("cloister_calls_queued", "Calls that wait for an instance"),
    "storage_bytes": ("cloister_storage_bytes", "What tenants keep on disk"),
}
_PROCESS_GAUGES = {
    "process_resident_bytes": ("cloister_process_resident_bytes", "Resident memory of a server process"),
    "process_open_files": ("cloister_process_open_files", "Open files of a server process"),
    "process_threads": ("cloister_process_threads", "Threads of a server process"),
    "unknown_requests": ("cloister_unknown_tenant_requests", "Requests since the start for tenants that do not exist"),
    "forwarded_requests": ("cloister_forwarded_requests", "Requests since the start for tenants of the server behind"),
}


async def answer(parts: Parts, request: web.Request) -> web.Response:
    """For a token that may read the whole platform."""
    request[ACCESS].check("read", "platform", None)
    await parts.survey.look()
    today = datetime.now(UTC).date().isoformat()
    totals, gauges, processes, usage = await parts.observatory.recorder.read(
        lambda ledger: (ledger.totals(), ledger.gauges(), ledger.processes(), ledger.usage(today, today))
    )
    for day in usage:
        gauges.setdefault(TenantKey(day.namespace, day.script), {})["storage_bytes"] = day.storage_bytes
    registry = CollectorRegistry()
    shown = parts.observatory.shown
    choose(shown, totals)
    registry.register(_Collector(totals, gauges, processes, shown))
    return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Collector:
    def __init__(
        self,
        totals: Sequence[Total],
        gauges: Mapping[TenantKey, Mapping[str, float]],
        processes: Mapping[int, Mapping[str, float]],
        shown: Container[TenantKey],
    ) -> None:
        self._totals = totals
        self._gauges = gauges
        self._processes = processes
        self._shown = shown

    def collect(self) -> Iterator[Metric]:
        by_name: dict[str, dict[tuple[TenantKey, str], float]] = defaultdict(lambda: defaultdict(float))
        for total in self._totals:
            by_name[total.name][self._key(TenantKey(total.namespace, total.script)), total.label] += total.value
        for name, (metric, text, label, factor) in _COUNTERS.items():
            family = CounterMetricFamily(metric, text, labels=["namespace", "tenant", *([label] if label else [])])
            for (key, value_label), value in by_name[name].items():
                family.add_metric([*key, *([value_label] if label else [])], value * factor)
            yield family
        yield self._latencies(by_name)
        for name, (metric, text) in _GAUGES.items():
            gauge = GaugeMetricFamily(metric, text, labels=["namespace", "tenant"])
            sums: dict[TenantKey, float] = defaultdict(float)
            for key, values in self._gauges.items():
                if key != PROCESS and name in values:
                    sums[self._key(key)] += values[name]
            for key, value in sums.items():
                gauge.add_metric([*key], value)
            yield gauge
        yield from self._process_metrics()

    def _latencies(self, by_name: Mapping[str, Mapping[tuple[TenantKey, str], float]]) -> Metric:
        family = HistogramMetricFamily(
            "cloister_request_duration_seconds",
            "From a request's head to the end of its answer",
            labels=["namespace", "tenant"],
        )
        buckets: dict[TenantKey, list[float]] = {}
        for (key, index), value in by_name["wall_bucket"].items():
            buckets.setdefault(key, [0.0] * (len(WALL_MS_BOUNDS) + 1))[int(index)] += value
        for key, counts in buckets.items():
            total, cumulative = 0.0, []
            for bound, count in zip([*WALL_MS_BOUNDS, None], counts, strict=True):
                total += count
                cumulative.append(("+Inf" if bound is None else f"{bound / 1000:g}", total))
            family.add_metric([*key], cumulative, by_name["wall_ms"].get((key, ""), 0.0) / 1000)
        return family

    def _process_metrics(self) -> Iterator[Metric]:
        cpu = CounterMetricFamily("cloister_process_cpu_seconds", "CPU time of a server process", labels=["process"])
        for process, values in self._processes.items():
            cpu.add_metric([str(process)], values.get("process_cpu_seconds", 0.0))
        yield cpu
        for name, (metric, text) in _PROCESS_GAUGES.items():
            gauge = GaugeMetricFamily(metric, text, labels=["process"])
            for process, values in self._processes.items():
                if name in values:
                    gauge.add_metric([str(process)], values[name])
            yield gauge

    def _key(self, key: TenantKey) -> TenantKey:
        return key if key in self._shown else OTHER


def choose(shown: set[TenantKey], totals: Sequence[Total]) -> None:
    """Fills up the tenants that have figures of their own with those of the rest that have the most requests.

    Nobody has to give way to a busier one: what it has counted would leave the sum of all others, and a counter that
    falls is taken for one that has begun anew.
    """
    requests: dict[TenantKey, float] = defaultdict(float)
    for total in totals:
        requests[TenantKey(total.namespace, total.script)] += total.value if total.name in ("requests", "calls") else 0
    shown.intersection_update(requests)
    rest = sorted(requests.keys() - shown, key=lambda key: -requests[key])
    shown.update(rest[: TENANTS_MAX - len(shown)])
