"""D1. Operations are built with the functions below."""

from __future__ import annotations

from typing import Any

Operation = dict[str, Any]


def run(sql: Any, *values: Any, method: str = "all", options: list[Any] | None = None) -> Operation:
    """One statement, run with `method` and its `options`."""
    bind = [["bind", *values]] if values else []
    return {"calls": [["prepare", sql], *bind, [method, *(options or [])]]}


def prepared(*statements: tuple[Any, ...]) -> list[Operation]:
    """Operations that only prepare and bind: (sql, value, …)."""
    return [{"calls": [["prepare", sql], *([["bind", *values]] if values else [])]} for sql, *values in statements]


def batch(first: int, *statements: tuple[Any, ...]) -> list[Operation]:
    """Operations that prepare statements and run them as a batch. `first` is the number of the first of them."""
    results = [{"$result": [first + index]} for index in range(len(statements))]
    return [*prepared(*statements), {"calls": [["batch", results]]}]


def exec(script: str) -> Operation:
    return {"calls": [["exec", script]]}
