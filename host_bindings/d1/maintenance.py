"""What the host itself asks of a database: export, import, time travel. In the child, like a tenant's SQL."""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

import msgspec

from host_bindings.d1 import script, values
from host_bindings.d1.connection import Connection
from host_bindings.d1.dump import dump
from host_bindings.d1.errors import RequestRefused
from host_bindings.d1.limits import SqlLimits
from host_bindings.d1.requests import Export, Import, Imported, Moment
from host_bindings.d1.wire import Request


def perform(request: Request, connection: Connection, limits: SqlLimits) -> bytes:
    """The JSON answer. Raises `RequestRefused`, and `apsw.BusyError` if another process was in the way."""
    decode = msgspec.json.decode
    if request.kind == "export":
        return values.json(_export(decode(request.body, type=Export), connection, limits))
    if request.kind == "import":
        return values.json(_import(decode(request.body, type=Import), connection, limits))
    moment = decode(request.body, type=Moment)
    if request.kind == "find":
        return values.json(connection.traveller().find(moment))
    return values.json(connection.restore(moment))


def _export(export: Export, connection: Connection, limits: SqlLimits) -> dict[str, Any]:
    connection.begin()
    try:
        connection.begin_request(limit_ms=limits.maintenance_ms)
        descriptor = os.open(export.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
            for statement in dump(connection.rows, export.options):
                file.write(statement)
                file.write("\n")
        connection.end_request(succeeded=True)
        return {"bookmark": connection.bookmark()}
    except OSError as error:
        raise RequestRefused(f"The export cannot be written: {os.strerror(error.errno or 0)}.") from None
    finally:
        connection.rollback()


def _import(given: Import, connection: Connection, limits: SqlLimits) -> Imported:
    started = time.perf_counter()
    count = written = size = 0
    connection.begin(immediate=True)
    try:
        connection.begin_request(limit_ms=limits.maintenance_ms)
        with (
            connection.long_statements(),
            open(given.path, encoding="utf-8-sig", errors="strict", newline="") as file,
        ):
            statements = script.statements(file, limits.import_statement_characters)
            requests = (values.StatementRequest(sql) for sql in statements if not script.is_blank(sql))
            for request in itertools.chain(requests, given.last):
                result = connection.execute(request.sql, values.parameters(request.params), connection.budget())
                count, written, size = count + 1, written + result.changes, result.size_after
        connection.end_request(succeeded=True)
        connection.commit()
    except UnicodeDecodeError:
        raise RequestRefused("The SQL text is not UTF-8.") from None
    finally:
        connection.rollback()
    return Imported(count, written, round((time.perf_counter() - started) * 1000, 4), size)
