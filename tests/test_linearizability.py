"""The checker itself: it takes what a register may answer, and nothing else."""

from __future__ import annotations

import pytest

from tests.linearizability import Operation, is_linearizable

NEVER = float("inf")


def write(value: str | None, began: float, ended: float) -> Operation:
    return Operation("write", value, began, ended)


def read(value: str | None, began: float, ended: float) -> Operation:
    return Operation("read", value, began, ended)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [read(None, 0, 1)],
        [write("a", 0, 1), read("a", 2, 3)],
        # A read beside a write may see either.
        [write("a", 0, 1), write("b", 2, 5), read("a", 3, 4)],
        [write("a", 0, 1), write("b", 2, 5), read("b", 3, 4)],
        [write("a", 0, 3), write("b", 0, 3), read("b", 4, 5), read("b", 6, 7)],
        # A write without an answer may have been done, later too, or not.
        [write("a", 0, NEVER), read(None, 1, 2), read("a", 3, 4)],
        [write("a", 0, 1), write(None, 2, NEVER), read("a", 3, 4)],
    ],
)
def test_what_a_register_may_answer_is_taken(history: list[Operation]) -> None:
    assert is_linearizable(history)


@pytest.mark.parametrize(
    "history",
    [
        [read("a", 0, 1)],
        # A stale read.
        [write("a", 0, 1), write("b", 2, 3), read("a", 4, 5)],
        # A lost write.
        [write("a", 0, 1), read(None, 2, 3)],
        # Two readers that see two writes in different orders.
        [write("a", 0, 3), write("b", 0, 3), read("a", 4, 5), read("b", 6, 7)],
        # A value that comes, goes and comes again.
        [write("a", 0, 1), write("b", 2, 9), read("b", 3, 4), read("a", 5, 6)],
        # A deleted value that is back.
        [write("a", 0, 1), write(None, 2, 3), read("a", 4, 5)],
    ],
)
def test_what_no_register_answers_is_refused(history: list[Operation]) -> None:
    assert not is_linearizable(history)
