"""SQLite's and Python's errors as the texts that D1 gives for them."""

from __future__ import annotations

import apsw

from host_bindings.d1 import errors
from host_bindings.d1.errors import RequestRefused

_CONNECTION_SPOILT = (
    apsw.NoMemError,
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.CantOpenError,
    MemoryError,
)


def refusal(error: Exception) -> RequestRefused:
    """What the tenant is told of an error that a statement of theirs caused. Raises what is no such error."""
    if isinstance(error, RequestRefused):
        return error
    if isinstance(error, (apsw.NoMemError, MemoryError)):
        return RequestRefused(errors.MEMORY_LIMIT)
    if isinstance(error, apsw.BindingsError):
        return RequestRefused(errors.WRONG_PARAMETER_COUNT)
    if isinstance(error, UnicodeDecodeError):
        return RequestRefused("A TEXT value is not valid UTF-8. Read it as CAST(… AS BLOB) or with hex().")
    if isinstance(error, apsw.Error) and hasattr(error, "result"):
        return RequestRefused(_sqlite_text(error, error.result, getattr(error, "extendedresult", error.result)))
    if isinstance(error, OSError):
        return RequestRefused("The database cannot be opened.")
    if isinstance(error, ValueError):  # NUL in the SQL text
        return RequestRefused("The SQL text holds a NUL character: SQLITE_ERROR")
    raise error


def spoils_connection(error: Exception) -> bool:
    """After such an error nothing that the connection remembers is to be trusted."""
    return isinstance(error, _CONNECTION_SPOILT)


def _sqlite_text(error: apsw.Error, result: int, extended_result: int) -> str:
    offset = getattr(error, "error_offset", -1)
    primary = _name(apsw.mapping_result_codes, result)
    extended = _name(apsw.mapping_extended_result_codes, extended_result)
    text = str(error)
    if offset is not None and offset >= 0:
        text += f" at offset {offset}"
    text += f": {primary}"
    if extended is not None and extended != primary:
        text += f" (extended: {extended})"
    return text


def _name(mapping: dict[str | int, str | int], code: int) -> str | None:
    name = mapping.get(code)
    return name if isinstance(name, str) else None
