"""Values between JSON and SQL.

INTEGER is a JSON number without fraction or exponent, REAL one with either; a BLOB is {"$bytes": base64}. Integers
are exact over the whole int64 range, in both directions. JSON has no NaN and no infinities: they come out as null.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from typing import Any

import msgspec

from host_bindings.d1 import script
from host_bindings.d1.errors import RequestRefused

BYTES_KEY = "$bytes"

_AS_THEY_ARE = frozenset({str, int, float, type(None)})
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1

_encode = msgspec.json.Encoder().encode


class StatementRequest(msgspec.Struct):
    sql: str
    params: list[Any] = []


class QueryRequest(msgspec.Struct):
    """In the plain form, `statements`, or in the compact one: `runs` of the texts in `sql`, by their places there."""

    statements: list[StatementRequest] | None = None
    sql: list[str] = []
    runs: list[tuple[int, list[Any]]] | None = None
    bookmark: bool = False


decode_query = msgspec.json.Decoder(QueryRequest).decode

NO_REQUEST = 'The request is not {"statements": [{"sql", "params"}]}.'


def statements(request: QueryRequest) -> tuple[bool, list[tuple[str, list[Any]]]]:
    """Whether the request has the compact form, and the texts to run with their parameters. Raises `RequestRefused`."""
    if request.runs is None:
        if request.statements is None:
            raise RequestRefused(NO_REQUEST)
        return False, [(s.sql, s.params) for s in request.statements if not script.is_left_out(s.sql)]
    texts = dict(enumerate(None if script.is_left_out(sql) else sql for sql in request.sql))
    try:
        found = [(texts[index], parameters) for index, parameters in request.runs]
    except KeyError:
        raise RequestRefused(NO_REQUEST) from None
    return True, [(sql, parameters) for sql, parameters in found if sql is not None]


def parameters(values: list[Any]) -> list[Any]:
    """JSON values as SQLite takes them. Raises `RequestRefused` for what is no SQL value."""
    if not _AS_THEY_ARE.issuperset(map(type, values)):
        values = [_parameter(value) for value in values]
    for value in values:
        if type(value) is int and not _INT64_MIN <= value <= _INT64_MAX:
            raise _unsupported("bigint", str(value)[:40])
    return values


def _parameter(value: Any) -> Any:
    if type(value) in _AS_THEY_ARE:
        return value
    if type(value) is bool:
        return int(value)
    if type(value) is dict and len(value) == 1 and isinstance(value.get(BYTES_KEY), str):
        try:
            return b64decode(value[BYTES_KEY], validate=True)
        except (binascii.Error, ValueError):
            raise RequestRefused(f"The value of {BYTES_KEY} is not base64.") from None
    raise _unsupported("object", "[object Object]" if type(value) is dict else "[object Array]")


def _unsupported(type_name: str, value: str) -> RequestRefused:
    text = f"D1_TYPE_ERROR: Type '{type_name}' not supported for value '{value}'"
    return RequestRefused(text, prefixed=True)


def row_json(row: tuple[Any, ...]) -> bytes:
    """A row of a result as a JSON array."""
    if bytes in map(type, row):
        return _encode([{BYTES_KEY: b64encode(v).decode()} if type(v) is bytes else v for v in row])
    return _encode(row)


def json(value: object) -> bytes:
    return _encode(value)
