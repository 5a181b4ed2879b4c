"""The log's set-up and its three sorts of lines: the server's own, one for each request, and the tenants'."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import Literal, TextIO

from runtime.telemetry.text import harmless, harmless_lines
from runtime.telemetry.writer import LineWriter

_LEVEL_NAMES = {"DEBUG": "debug", "INFO": "info", "WARNING": "warn", "ERROR": "error", "CRITICAL": "error"}
TENANT_LEVELS = {"debug": 10, "info": 20, "warn": 30, "error": 40}
"""The levels at which a tenant writes, with their numbers in `logging`."""


class Log:
    """Where lines go. Made by `open_log`; `close` writes out what is left and takes the set-up back."""

    def __init__(self, writer: LineWriter, pretty: bool, level: int, access: bool) -> None:
        self.pretty = pretty
        self.level = level
        self._writer = writer
        self._access = access
        self._handler: logging.Handler | None = None

    def access(
        self,
        *,
        tenant: str,
        status: int,
        wall_ms: float,
        cpu_ms: float,
        request_id: str,
        version: int = 0,
        method: str = "",
        outcome: str = "ok",
        host_calls: int = 0,
        bytes_in: int = 0,
        bytes_out: int = 0,
        cold: bool = False,
    ) -> None:
        """One request, answered. `tenant` may be whatever the caller claimed to be; `version` 0 is none."""
        if not self._access or self.level > logging.INFO:
            return
        if self.pretty:
            start = "cold" if cold else "warm"
            self._writer.write(
                f"{_clock()} {status} {harmless(method[:16])} tenant={harmless(tenant[:64])}, version={version}, "
                f"{outcome}, {start}, wall_ms={wall_ms:.1f}, cpu_ms={cpu_ms:.1f}, host_calls={host_calls}, "
                f"in={bytes_in}, out={bytes_out}, request={harmless(request_id)}"
            )
        else:
            self._writer.write(
                f'{{"time":"{_timestamp()}","level":"info","logger":"access","tenant":'
                f'{encode_basestring_ascii(tenant[:64])},"version":{version},"method":'
                f'{encode_basestring_ascii(method[:16])},"status":{status},"outcome":"{outcome}","wall_ms":{wall_ms:.3f},'
                f'"cpu_ms":{cpu_ms:.3f},"host_calls":{host_calls},"bytes_in":{bytes_in},"bytes_out":{bytes_out},'
                f'"cold":{"true" if cold else "false"},"request":{encode_basestring_ascii(request_id)}}}'
            )

    def tenant(self, tenant: str, request_id: str, level: str, message: str) -> None:
        """A line that a tenant's code wrote. Unbounded: use a `TenantLog`."""
        if self.level > TENANT_LEVELS.get(level, logging.INFO):
            return
        if self.pretty:
            self._writer.write(
                f"tenant={harmless(tenant)}, request={harmless(request_id)}, level={level}, "
                f"message={harmless_lines(message)}"
            )
        else:
            entry = {"time": _timestamp(), "level": level, "logger": "tenant", "tenant": tenant}
            self._writer.write(json.dumps(entry | {"request": request_id, "message": message}, separators=(",", ":")))

    def install(self) -> None:
        """Sends what the server's modules log through `logging` here."""
        handler = _WriterHandler(self._writer)
        handler.setFormatter(_PrettyFormatter() if self.pretty else _JsonFormatter())
        root = logging.getLogger()
        root.addHandler(handler)
        root.setLevel(self.level)
        self._handler = handler

    def close(self) -> None:
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            self._handler = None
        self._writer.close()


def open_log(
    form: Literal["auto", "json", "pretty"] = "auto",
    level: str = "info",
    *,
    access: bool = True,
    stream: TextIO | None = None,
) -> Log:
    """Sets the process's logging up and gives the log. `stream` is standard error unless given."""
    stream = sys.stderr if stream is None else stream
    pretty = form == "pretty" or (form == "auto" and stream.isatty())
    log = Log(LineWriter(stream), pretty, logging.getLevelNamesMapping()[level.upper()], access)
    log.install()
    return log


@dataclass(frozen=True)
class TenantLogLimits:
    """How much a tenant may write. Message bytes are counted as UTF-8."""

    entry_bytes_max: int = 16 * 1024
    request_bytes_max: int = 256 * 1024
    second_bytes_max: int = 256 * 1024
    burst_bytes_max: int = 1024 * 1024


_REQUESTS_REMEMBERED = 1024
_ENTRY_OVERHEAD_BYTES = 128


Listener = Callable[[str, str, str], None]
"""Is told of each entry that passes: a request id, a level and a message."""


class TenantLog:
    """One tenant's way into the log, bounded by bytes a request and a second: the `log` of a worker pool.

    What is beyond the bounds is dropped, and one line says so. An entry is charged its text and a little for its line,
    so that a flood of empty entries is bounded too.
    """

    def __init__(
        self,
        log: Log,
        tenant: str,
        limits: TenantLogLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        listener: Listener | None = None,
    ) -> None:
        self._log = log
        self._listener = listener
        self._tenant = tenant
        self._limits = limits or TenantLogLimits()
        self._clock = clock
        self._requests: OrderedDict[str, int] = OrderedDict()
        self._credit_bytes = float(self._limits.burst_bytes_max)
        self._refilled = clock()
        self._dropped = 0

    def __call__(self, request_id: str, level: str, message: str) -> None:
        """Writes an entry: level is debug, info, warn or error."""
        limits = self._limits
        # A cut before encoding keeps the work for a huge message small; a character has at least one byte.
        message = _cut(message, limits.entry_bytes_max)
        size = len(message.encode("utf-8", "surrogatepass")) + _ENTRY_OVERHEAD_BYTES
        used = self._requests.pop(request_id, 0)
        self._requests[request_id] = used + size
        if len(self._requests) > _REQUESTS_REMEMBERED:
            self._requests.popitem(last=False)
        if used + size > limits.request_bytes_max:
            if used <= limits.request_bytes_max:
                self._requests[request_id] = limits.request_bytes_max + 1
                self._notice(
                    request_id,
                    f"This request has logged {limits.request_bytes_max} bytes; the rest is left out.",
                )
            return
        if not self._spend(size):
            self._dropped += 1
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._notice(request_id, f"{dropped} entries were left out: this worker logs too much a second.")
        level = level if level in TENANT_LEVELS else "info"
        if self._listener is not None:
            self._listener(request_id, level, message)
        self._log.tenant(self._tenant, request_id, level, message)

    def _spend(self, size: int) -> bool:
        now = self._clock()
        limits = self._limits
        earned = (now - self._refilled) * limits.second_bytes_max
        self._credit_bytes = min(limits.burst_bytes_max, self._credit_bytes + earned)
        self._refilled = now
        if size > self._credit_bytes:
            return False
        self._credit_bytes -= size
        return True

    def _notice(self, request_id: str, message: str) -> None:
        self._log.tenant(self._tenant, request_id, "warn", f"{message} [limit.log]")


def _cut(message: str, bytes_max: int) -> str:
    if len(message) <= bytes_max // 4:
        return message
    encoded = message[:bytes_max].encode("utf-8", "replace")
    if len(encoded) <= bytes_max and len(message) <= bytes_max:
        return message
    return encoded[:bytes_max].decode("utf-8", "ignore") + f" [cut: {len(message)} characters]"


class _WriterHandler(logging.Handler):
    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(self.format(record))
        except Exception:
            self.handleError(record)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _timestamp(record.created),
            "level": _LEVEL_NAMES.get(record.levelname, record.levelname.lower()),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= getattr(record, "fields", {})
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, separators=(",", ":"), default=str)


class _PrettyFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = _LEVEL_NAMES.get(record.levelname, record.levelname.lower())
        fields = "".join(f", {name}={harmless(str(value))}" for name, value in getattr(record, "fields", {}).items())
        text = f"{_clock()} {level} {record.name}: {harmless_lines(record.getMessage())}{fields}"
        if record.exc_info:
            text += "\n    " + harmless_lines(self.formatException(record.exc_info))
        return text


_formatted = (-1, "")


def _timestamp(moment: float | None = None) -> str:
    """RFC 3339 in UTC, with milliseconds. Formats each second once: a busy server asks thousands of times in one."""
    global _formatted
    second, ms = divmod(int((time.time() if moment is None else moment) * 1000), 1000)
    formatted = _formatted
    if formatted[0] != second:
        formatted = _formatted = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
    return f"{formatted[1]}.{ms:03d}Z"


def _clock() -> str:
    return time.strftime("%H:%M:%S")
