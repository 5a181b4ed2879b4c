"""What a hostile worker may say that its method has returned."""

from __future__ import annotations

import asyncio

import pytest

from runtime.dispatcher.errors import RemoteError
from runtime.dispatcher.stub import RESULT_PARTS_MAX, _decode


def decoded(result: str) -> object:
    return asyncio.run(_decode(result, []))


@pytest.mark.parametrize(
    "result",
    [
        "[" * RESULT_PARTS_MAX + "[]",
        "[1" + ",1" * RESULT_PARTS_MAX + "]",
        "[{}" + ',{"\\\\":","}' * (RESULT_PARTS_MAX // 2) + "]",
        '"' + "x" * (32 << 20) + '"',
    ],
    ids=["deep", "numbers", "objects", "long"],
)
def test_a_value_that_would_take_long_to_build_is_refused(result: str) -> None:
    with pytest.raises(RemoteError, match="too large"):
        decoded(result)


@pytest.mark.parametrize(
    "result", ["[" * 20_000 + "]" * 20_000, '{"$attachment": 0}', '{"$date": 1e999}', "9" * 5_000, "[1,]"]
)
def test_a_value_that_is_none_is_refused(result: str) -> None:
    with pytest.raises(RemoteError, match="not one"):
        decoded(result)


def test_what_is_in_a_text_are_no_parts() -> None:
    table = '\\",[{\\\\' * RESULT_PARTS_MAX

    assert decoded(f'["{table}"]') == ['",[{\\' * RESULT_PARTS_MAX]
