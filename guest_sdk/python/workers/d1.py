"""D1 databases: https://developers.cloudflare.com/d1/worker-api/ with Python's calling conventions.

Values keep Python's types: int is INTEGER, bytes is BLOB. With the compatibility flag `d1_js_types` they go through
JavaScript's, as on Cloudflare: every number is a double, a BLOB comes back as a list of integers.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import repeat
from typing import Any, NoReturn

from workers import host
from workers.values import JsDict, javascript_text, key_text, load, well_formed

_PREFIXES = ("D1_ERROR: ", "D1_EXEC_ERROR: ", "D1_TYPE_ERROR: ", "D1_DUMP_ERROR: ")
_FIRST_UNCONSTRAINED = "first-unconstrained"
_CONSTRAINTS = (_FIRST_UNCONSTRAINED, "first-primary")
_INT64 = range(-(2**63), 2**63)
_JAVASCRIPT_INTEGERS = range(-(2**53) + 1, 2**53)
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().decode
_ONE_COPY = {"served_by_primary": True, "timings": None, "total_attempts": 1}
"""What Cloudflare tells besides: of one copy that is always the primary one, and was asked once."""
_QUERY_REFUSED = (
    "D1Database.query() requires the d1_binding_jsrpc compatibility flag. Enable d1_binding_jsrpc before calling "
    "query()."
)


class D1PreparedStatement:
    """An SQL statement and its parameters. Runs nothing until it is asked to."""

    __slots__ = ("_source", "encoded", "statement")

    def __init__(self, source: _Source, statement: str, encoded: Sequence[Any] = ()) -> None:
        self._source = source
        self.statement = statement
        self.encoded = encoded  # the parameters, as the contract has them

    @property
    def params(self) -> list[Any]:
        return [self._source.types.to_python(value) for value in self.encoded]

    def bind(self, *values: Any) -> D1PreparedStatement:
        """The statement with these parameters instead."""
        to_sql = self._source.types.to_sql
        encoded = [value if type(value) is str and value.isascii() else to_sql(value) for value in values]
        return D1PreparedStatement(self._source, self.statement, encoded)

    async def all(self) -> JsDict:
        """{success, meta, results: [row …]}."""
        return self._source.run_together([self])[0]

    run = all

    async def first(self, column: str | None = None) -> Any:
        """The first row, or one column of it; None if there is no row."""
        columns, rows = self._rows()
        if not rows:
            return None
        row = self._source.row(columns, rows[0])
        if column is None:
            return row
        if column not in row:
            _raise(f"D1_COLUMN_NOTFOUND: Column not found ({column})", "Column not found")
        return row[column]

    async def raw(self, options: Any = None, **more: Any) -> list[list[Any]]:
        """The rows as lists; with `columnNames` the first is the names."""
        columns, found = self._rows()
        to_python = self._source.types.to_python
        rows = [[to_python(value) for value in row] for row in found]
        wanted = {**dict(options or {}), **more}
        return [columns, *rows] if wanted.get("columnNames") or wanted.get("column_names") else rows

    def _rows(self) -> tuple[list[str], list[list[Any]]]:
        """The columns' names, and the rows as the contract has them."""
        answer = self._source.ask([self])
        rows = answer["rows"]
        return answer["columns"][answer["which"]], rows[0] if rows else []


class _Source:
    """Where statements are run: the database, or a session of it."""

    def __init__(self, name: str, types: _Types) -> None:
        self._name = name
        self.types = types

    def prepare(self, sql: Any) -> D1PreparedStatement:
        return D1PreparedStatement(self, sql if type(sql) is str and sql.isascii() else key_text(sql))

    async def batch(self, statements: Iterable[D1PreparedStatement]) -> list[JsDict]:
        """Runs statements as one transaction; the result of each, as `all` gives it."""
        listed = list(statements)
        if not all(isinstance(statement, D1PreparedStatement) for statement in listed):
            raise TypeError("batch() takes statements, as prepare() and bind() give them.")
        return self.run_together(listed)

    def run_together(self, statements: list[D1PreparedStatement]) -> list[JsDict]:
        answer = self.ask(statements)
        count, columns, meta = answer["count"], answer["columns"], answer["meta"]
        common = {"served_by": answer["served_by"], **meta, **_ONE_COPY}
        varied = [name for name, value in meta.items() if type(value) is list]
        metas = [JsDict(common) for _ in range(count)]
        for name in varied:
            for its_meta, value in zip(metas, meta[name], strict=True):
                its_meta[name] = value
        for its_meta in metas:
            its_meta["timings"] = JsDict(sql_duration_ms=its_meta["duration"])
        if answer["rows"] is None:
            return [JsDict(success=True, meta=its_meta, results=[]) for its_meta in metas]
        each = zip(metas, _each(answer["which"], count), answer["rows"], strict=True)
        return [
            JsDict(success=True, meta=its_meta, results=[self.row(columns[position], row) for row in rows])
            for its_meta, position, rows in each
        ]

    def ask(self, statements: list[D1PreparedStatement]) -> Any:
        """The contract's compact answer. Each text goes to the host once, however often the statements have it."""
        places: dict[str, int] = {}
        runs = [(places.setdefault(s.statement, len(places)), s.encoded) for s in statements]
        return self._send({"sql": list(places), "runs": runs})

    def _send(self, request: dict[str, Any]) -> Any:
        try:
            return _decode(host.d1.query(self._name, _encode(request)))
        except host.Err as error:
            _fail(error)

    def row(self, columns: list[str], row: list[Any]) -> JsDict:
        to_python = self.types.to_python
        return JsDict((name, to_python(value)) for name, value in zip(columns, row, strict=True))


class D1Database(_Source):
    """A D1 database."""

    def __init__(self, name: str, javascript_types: bool = False) -> None:
        super().__init__(name, _JavaScriptTypes() if javascript_types else _Types())

    async def exec(self, sql: Any) -> JsDict:
        """Runs a script, one statement a line: {count, duration}."""
        try:
            return load(host.d1.exec(self._name, well_formed(javascript_text(sql))))  # type: ignore[no-any-return]
        except host.Err as error:
            _fail(error)

    def with_session(self, constraint: str | None = None) -> D1DatabaseSession:
        """A session that begins at "first-unconstrained" (default), "first-primary" or a bookmark: it reads what is
        at least as new as that. There is one copy of a database, so every session reads the newest state."""
        return D1DatabaseSession(self._name, self.types, (constraint or "").strip() or _FIRST_UNCONSTRAINED)

    withSession = with_session

    async def dump(self) -> NoReturn:
        """Not there any more, as on Cloudflare."""
        _raise("D1_DUMP_ERROR: Status + 404", "Status 404")

    async def query(self, _request: Any = None) -> NoReturn:
        """Cloudflare's `query`, which its compatibility flag d1_binding_jsrpc enables. The flag is not known here."""
        raise host.JsException(f"D1_ERROR: {_QUERY_REFUSED}")


class D1DatabaseSession(_Source):
    """Statements that are to see what earlier ones of the session wrote, wherever they run."""

    def __init__(self, name: str, types: _Types, constraint: str) -> None:
        super().__init__(name, types)
        self._bookmark = constraint

    def get_bookmark(self) -> str | None:
        """The newest state that the session has seen; None before its first answer."""
        return None if self._bookmark in _CONSTRAINTS else self._bookmark

    getBookmark = get_bookmark

    def _send(self, request: dict[str, Any]) -> Any:
        answer = super()._send({**request, "bookmark": True})
        seen = answer["bookmark"]
        if self._bookmark in _CONSTRAINTS or self._bookmark < seen:
            self._bookmark = seen
        return answer


class _Types:
    """Python's values as the contract's JSON has them, and back."""

    def to_sql(self, value: Any) -> Any:
        """Raises `JsException` (D1_TYPE_ERROR) for what is no SQL value."""
        if value is None or (type(value) is str and value.isascii()):
            return value
        if isinstance(value, str):
            return well_formed(value)
        if isinstance(value, int):
            return self._integer(int(value))
        if isinstance(value, float):
            return value if value - value == 0 else None
        if isinstance(value, bytes | bytearray | memoryview):
            return _blob(bytes(value))
        if isinstance(value, list | tuple) and all(map(_is_byte, value)):
            return _blob(bytes(int(byte) for byte in value))
        _refuse("function" if callable(value) else "object", value)

    def _integer(self, value: int) -> Any:
        return value if value in _INT64 else _refuse("bigint", value)

    def to_python(self, value: Any) -> Any:
        return base64.b64decode(value["$bytes"]) if isinstance(value, dict) else value


class _JavaScriptTypes(_Types):
    """As JavaScript has them."""

    def _integer(self, value: int) -> Any:
        return float(value) if value in _JAVASCRIPT_INTEGERS else _refuse("bigint", value)

    def to_python(self, value: Any) -> Any:
        if isinstance(value, dict):
            return list(base64.b64decode(value["$bytes"]))
        if isinstance(value, int | float):
            whole = value == int(value) and int(value) in _JAVASCRIPT_INTEGERS
            return int(value) if whole else float(value)
        return value


def _each(value: Any, count: int) -> Any:
    """A value for each result, where the contract has a list of them or the one that all have."""
    return value if type(value) is list else repeat(value, count)


def _is_byte(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 256


def _blob(value: bytes) -> dict[str, str]:
    return {"$bytes": base64.b64encode(value).decode()}


def _refuse(kind: str, value: Any) -> NoReturn:
    _raise(f"D1_TYPE_ERROR: Type '{kind}' not supported for value '{_shown(value)[:1000]}'")


def _shown(value: Any) -> str:
    """JavaScript's String(value)."""
    if isinstance(value, list | tuple):
        return ",".join("" if item is None else _shown(item) for item in value)
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%a %b %d %Y %H:%M:%S} GMT+0000 (Coordinated Universal Time)"
    return "[object Object]" if isinstance(value, Mapping) else javascript_text(value)


def _fail(error: Any) -> NoReturn:
    if error.value.name != "Error":
        host.fail(error)
    _raise(error.value.message)


def _raise(message: str, cause: str | None = None) -> NoReturn:
    """Raises D1's error. `cause` is the text without its prefix."""
    if cause is None:
        prefix = next((prefix for prefix in _PREFIXES if message.startswith(prefix)), "")
        cause = message[len(prefix) :]
    error = host.JsException(message)
    error.cause = host.JsException(cause)
    raise error from None
