"""Every method, option, error and limit of KV."""

from __future__ import annotations

from tests.parity.sides import Parity


def test_a_value_that_was_put_is_got(kv: Parity) -> None:
    results = kv(
        [
            {"calls": [["put", "key", "value", {"metadata": {"a": [1, None]}}]]},
            {"calls": [["get", "key"]]},
            {"calls": [["getWithMetadata", "key"]]},
        ]
    )

    assert results[1] == {"value": "value"}
    assert results[2] == {"value": {"value": "value", "metadata": {"a": [1, None]}, "cacheStatus": None}}


def test_a_refusal_is_a_result(kv: Parity) -> None:
    results = kv([{"calls": [["get", ""]]}])

    assert results == [{"error": "Key name cannot be empty.", "type": "TypeError"}]
