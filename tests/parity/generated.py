"""Random lists of operations: how many, how they refer to earlier results, and how they are run.

In a generated operation {"$latest": [kind, back, field …]} stands for a field of the result of an earlier operation of
the kind (`back` 0 is the last one), and {"$ahead": seconds} for a time so many seconds from now on, in seconds since
1970; {"$ahead_ms": seconds} is the same in milliseconds.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.parity.calls import UNDEFINED, Operation, result
from tests.parity.sides import Parity

LIST_LENGTH = 40
OPERATIONS = int(os.environ.get("PARITY_OPERATIONS") or 2000)
"""For each binding. The short form takes the same ones every time, the long form (`just parity`) others each time."""


COMPARED: dict[str, int] = {}
"""How many operations have been compared, by binding: for the summary."""


class Generated(NamedTuple):
    """An operation and its kind; operations that later ones refer to have one."""

    operation: Operation
    kind: str = ""


def check(parity: Parity, groups: st.SearchStrategy[Sequence[Generated]]) -> int:
    """Runs at least `OPERATIONS` operations on both sides and compares; how many it were."""
    COMPARED[parity.binding] = 0
    lists = st.lists(groups, min_size=LIST_LENGTH, max_size=LIST_LENGTH)

    @given(lists)
    @settings(
        max_examples=-(-OPERATIONS // LIST_LENGTH),
        derandomize="PARITY_OPERATIONS" not in os.environ,
        database=None,
        deadline=timedelta(minutes=5),
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    def run(groups: list[Sequence[Generated]]) -> None:
        operations = resolved([each for group in groups for each in group])
        note(json.dumps(operations))
        parity(operations)
        COMPARED[parity.binding] += len(operations)

    run()
    return COMPARED[parity.binding]


def resolved(generated: Sequence[Generated]) -> list[Operation]:
    """The operations with what stands for earlier results and for times replaced."""
    now = int(time.time())
    indexes: dict[str, list[int]] = {}
    operations = []
    for index, (operation, kind) in enumerate(generated):
        operations.append(_resolve(operation, indexes, now))
        if kind:
            indexes.setdefault(kind, []).append(index)
    return operations


def _resolve(value: Any, indexes: dict[str, list[int]], now: int) -> Any:
    if isinstance(value, list):
        return [_resolve(element, indexes, now) for element in value]
    if not isinstance(value, dict):
        return value
    if "$ahead" in value:
        return now + value["$ahead"]
    if "$ahead_ms" in value:
        return (now + value["$ahead_ms"]) * 1000
    if "$latest" in value:
        kind, back, *path = value["$latest"]
        found = indexes.get(kind, [])
        return result(found[-1 - back], *path) if back < len(found) else UNDEFINED
    return {name: _resolve(member, indexes, now) for name, member in value.items()}


def latest(kind: str, *path: Any) -> st.SearchStrategy[Any]:
    """A field of one of the latest results of the kind."""
    return st.integers(0, 3).map(lambda back: {"$latest": [kind, back, *path]})


def options(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Options, each of which may be missing."""
    return st.fixed_dictionaries({}, optional=members)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), max_size=12)
"""Text without byte order marks and halves of surrogate pairs: see the differences in docs/bindings.md."""

NUMBERS = st.one_of(
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, 1, -1, 0.5, 2**31 - 1, 2**31, -(2**31), 1e-7, 1e21]),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        # A name with a dollar would be one of the special values.
        st.dictionaries(TEXT.filter(lambda name: not name.startswith("$")), inner, max_size=3),
    ),
    max_leaves=6,
)
