"""Whether a history of concurrent operations on one register could have come from a register that is used by one client
at a time: the search of Wing and Gong (1993) with the memory of Lowe (2017)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Value = str | None
"""What a register holds; None: nothing."""


@dataclass(frozen=True)
class Operation:
    """`value` is what was written (None: deleted), or what was read.

    `ended` is infinite if no answer came: then a write may have been done at any later time, or never.
    """

    kind: Literal["read", "write"]
    value: Value
    began: float
    ended: float


@dataclass
class History:
    """Operations by register, recorded by many threads."""

    operations: dict[str, list[Operation]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, key: str, kind: Literal["read", "write"], value: Value, began: float, ended: float) -> None:
        with self._lock:
            self.operations.setdefault(key, []).append(Operation(kind, value, began, ended))

    def read(self, key: str, run: Callable[[], Value]) -> None:
        """Records a read that succeeds. One that raises has told nothing and is left out."""
        began = time.monotonic()
        value = run()
        self.record(key, "read", value, began, time.monotonic())

    def write(self, key: str, value: Value, run: Callable[[], object]) -> None:
        """Records a write, also one that raises."""
        began = time.monotonic()
        ended = float("inf")
        try:
            run()
            ended = time.monotonic()
        finally:
            self.record(key, "write", value, began, ended)


def is_linearizable(operations: Sequence[Operation], initial: Value = None) -> bool:
    """Whether there is an order of the operations that a register would answer so, in which none that had ended before
    another began comes after it. Unanswered writes may be left out."""
    ordered = sorted(operations, key=lambda operation: operation.began)
    count = len(ordered)
    required = sum(1 << i for i, operation in enumerate(ordered) if operation.ended != float("inf"))
    seen: set[tuple[int, Value]] = set()
    stack: list[tuple[int, Value]] = [(0, initial)]
    while stack:
        done, value = state = stack.pop()
        if state in seen:
            continue
        seen.add(state)
        if done & required == required:
            return True
        # Only what began before the first of the rest has ended may come next.
        horizon = min(ordered[i].ended for i in range(count) if not done >> i & 1)
        for i in range(count):
            if done >> i & 1:
                continue
            operation = ordered[i]
            if operation.began > horizon:
                break
            if operation.kind == "write":
                stack.append((done | 1 << i, operation.value))
            elif operation.value == value:
                stack.append((done | 1 << i, value))
    return False
