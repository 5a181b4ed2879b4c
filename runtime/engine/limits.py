"""What one tenant's worker may use: the one table of a tenant's limits, and what the operator makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from host_bindings.allowance import D1_STORAGE, KV_STORAGE, R2_STORAGE, SQL_ROWS, SQL_TIME, Allowance
from runtime.settings import ServerSettings, SettingsError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB


def _limit(ge: int, le: int, code: str) -> Meta:
    """Bounds, and the code of the error that says that the limit was hit."""
    return Meta(ge=ge, le=le, extra={"code": code})


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of a worker version, per request unless it says otherwise. The annotations are the bounds, and the code
    that answers, the tenant's log and the documentation give for each."""

    cpu_ms: Annotated[int, _limit(1, 300_000, "limit.cpu")] = 5_000
    """Thread CPU time of the guest and of the host functions that it calls."""
    wall_ms: Annotated[int, _limit(1, 3_600_000, "limit.wall")] = 30_000
    """From the start of the call to its end, work after the answer included."""
    memory_bytes: Annotated[int, _limit(16 * MIB, 4096 * MIB, "limit.memory")] = 128 * MIB
    """The guest's linear memory, for each instance."""
    instances_max: Annotated[int, _limit(1, 10_000, "limit.queue")] = 32
    """Instances, and so requests that run at the same time, in each server process."""
    queue_max: Annotated[int, _limit(0, 100_000, "limit.queue")] = 1_000
    """Requests that may wait for an instance; one more is refused."""
    requests_per_s: Annotated[int, _limit(1, 1_000_000, "limit.requests")] = 100_000
    """Requests in a second, in all server processes together; a second's worth may come at once."""
    host_calls_max: Annotated[int, _limit(1, 1_000_000, "limit.host_calls")] = 10_000
    """Calls of the contract's functions (not WASI's)."""
    request_body_bytes_max: Annotated[int, _limit(0, TIB, "limit.request_body")] = 5 * GIB
    """The request's body. The server's own bound (`request_body_bytes_max` of its settings) holds besides."""
    response_body_bytes_max: Annotated[int, _limit(0, TIB, "limit.response_body")] = 5 * GIB
    """The answer's body, streamed or not."""
    response_header_bytes_max: Annotated[int, _limit(256, 64 * KIB, "limit.response_headers")] = 64 * KIB
    """The answer's headers, as header text."""
    log_bytes_max: Annotated[int, _limit(KIB, 64 * MIB, "limit.log")] = 256 * KIB
    """What a request may log; what is beyond is left out, and a line says so."""
    log_bytes_per_s: Annotated[int, _limit(KIB, 64 * MIB, "limit.log")] = 256 * KIB
    """What all requests together may log in a second; four seconds' worth may come at once."""
    kv_bytes_max: Annotated[int, _limit(0, TIB, KV_STORAGE)] = GIB
    """What all KV namespaces of the tenant hold together."""
    r2_bytes_max: Annotated[int, _limit(0, 1024 * TIB, R2_STORAGE)] = 10 * GIB
    """What all R2 buckets of the tenant hold together."""
    d1_bytes_max: Annotated[int, _limit(0, TIB, D1_STORAGE)] = GIB
    """What all D1 databases of the tenant hold together; a single one is bounded by `SqlLimits` besides."""
    sql_ms: Annotated[int, _limit(1, 30_000, SQL_TIME)] = 30_000
    """Of one request to a database; a batch is one request."""
    sql_rows_max: Annotated[int, _limit(1, 100_000, SQL_ROWS)] = 100_000
    """In all results of one request to a database together."""
    isolation: Literal["reuse", "request"] = "reuse"
    """`reuse`: an instance serves one request after another; `request`: every request gets a fresh one."""
    clock: Literal["coarse", "frozen"] = "coarse"
    """`coarse`: the guest's clocks go in steps of a millisecond; `frozen`: they stand still while it computes."""


def allowance(limits: Limits) -> Allowance:
    """The part of the limits that the stores keep to."""
    return Allowance(**{field.name: getattr(limits, field.name) for field in fields(Allowance)})


class InvalidLimits(ValueError):
    """Says what a limit may be. `name` is the limit's, "" if there is none of that name."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(f"{name}: {sentence}" if name else sentence)
        self.name = name
        self.sentence = sentence


def limit_codes() -> dict[str, str]:
    """By limit, the code of the error that says that it was hit."""
    found = {}
    for name, kind in get_type_hints(Limits, include_extras=True).items():
        for meta in getattr(kind, "__metadata__", ()):
            found[name] = meta.extra["code"]
    return found


def limit_bounds(name: str) -> tuple[int, int] | None:
    """The least and the most that a limit may be; None for those that are not numbers."""
    for meta in getattr(get_type_hints(Limits, include_extras=True)[name], "__metadata__", ()):
        return meta.ge, meta.le
    return None


class LimitPolicy:
    """The operator's defaults and maxima: what a tenant gets that asks for nothing, and the most that it can ask for.

    Raises `InvalidLimits` if the operator's own values cannot be.
    """

    def __init__(
        self, default: Mapping[str, int | str] | None = None, maximum: Mapping[str, int | str] | None = None
    ) -> None:
        self.maximum: dict[str, int] = {}
        for name, value in (maximum or {}).items():
            checked = getattr(_convert({name: value}), name, None)
            if not isinstance(checked, int):
                raise InvalidLimits(name, "has no maximum, it is a choice")
            self.maximum[name] = checked
        self.default = self.clamp(_convert(dict(default or {})))

    @classmethod
    def of(cls, settings: ServerSettings) -> LimitPolicy:
        """The operator's, from the settings. Raises `SettingsError` if they cannot be."""
        setting = "limits_default"
        try:
            cls(settings.limits_default)
            setting = "limits_max"
            return cls(settings.limits_default, settings.limits_max)
        except InvalidLimits as error:
            raise SettingsError(f"{setting}: {error}") from None

    def read(self, given: Mapping[str, Any]) -> Limits:
        """What a deployment asks for. Raises `InvalidLimits` if it is not valid, or above the operator's maximum."""
        limits = _convert({**msgspec.structs.asdict(self.default), **given})
        for name, most in self.maximum.items():
            if getattr(limits, name) > most:
                raise InvalidLimits(name, f"expected int <= {most}, the operator's maximum")
        return limits

    def clamp(self, limits: Limits) -> Limits:
        """The limits with which a version runs: what was deployed under a higher maximum comes under the present
        one."""
        lowered = {name: most for name, most in self.maximum.items() if getattr(limits, name) > most}
        return msgspec.structs.replace(limits, **lowered) if lowered else limits


def _convert(values: Mapping[str, Any]) -> Limits:
    try:
        return msgspec.convert(values, Limits)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None


def _invalid(error: str) -> InvalidLimits:
    """msgspec says "Expected `int` >= 1 - at `$.cpu_ms`" or "Object contains unknown field `x`"."""
    if "unknown field" in error:
        name = ascii(error.partition("`")[2].rpartition("`")[0])
        shown = name if len(name) <= 80 else name[:77] + "..."
        return InvalidLimits("", f"there is no limit {shown}; the limits are {', '.join(Limits.__struct_fields__)}")
    expected, _, path = error.partition(" - at `$.")
    return InvalidLimits(path.rstrip("`"), f"{expected[:1].lower()}{expected[1:].replace('`', '')}")
