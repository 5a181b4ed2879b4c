from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_bindings.body import Body, Payload
from host_bindings.context import GuestContext
from host_bindings.contract import Failure
from host_bindings.r2.binding import INTERFACE
from host_bindings.r2.store import Bucket
from host_bindings.scope import Binding, Scope
from tests.host_bindings.storage.inputs import Clock

NOW = 1_700_000_000
PART_BYTES_MIN = 100


class Guest:
    """Calls R2 as a guest does, through the interface's functions."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock(NOW + 0.5)
        self.bucket = Bucket(directory, clock=self.clock, part_bytes_min=PART_BYTES_MIN)
        bindings = {"R2": Binding("r2_bucket", "R2", "id")}
        self.context = GuestContext(Scope(bindings, {"R2": self.bucket}), lambda level, message: None)
        self._functions = {function.name: function.implementation for function in INTERFACE.functions}
        self._runner = asyncio.Runner()

    def call(self, name: str, *arguments: Any, binding: str = "R2") -> Any:
        async def run() -> Any:
            return await self._functions[name](self.context, binding, *arguments)

        return self._runner.run(run())

    def put(self, key: str, value: Payload, **options: Any) -> dict[str, Any] | None:
        stored = self.call("put", key, value, json.dumps(options))
        return None if stored is None else json.loads(stored)

    def get(self, key: str, **options: Any) -> tuple[dict[str, Any], bytes | None] | None:
        """The info and the bytes; no bytes if a condition did not hold."""
        found = self.call("get", key, json.dumps(options))
        if found is None:
            return None
        info, body = found
        return json.loads(info), None if body is None else self.read(body)

    def head(self, key: str) -> Any:
        found = self.call("head", key)
        return None if found is None else json.loads(found)

    def list(self, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.call("list", json.dumps(options)))
        return found

    def read(self, body: Body) -> bytes:
        try:
            return self._runner.run(body.read_all(10**9))
        finally:
            body.close()

    def failure(self, name: str, *arguments: Any, binding: str = "R2") -> tuple[str, str]:
        """The name and the message of the failure that a call must end with."""
        with pytest.raises(Failure) as caught:
            self.call(name, *arguments, binding=binding)
        return caught.value.name, caught.value.message

    def put_failure(self, **options: Any) -> tuple[str, str]:
        return self.failure("put", "key", "value", json.dumps(options))

    def close(self) -> None:
        self._runner.run(self.bucket.close())
        self._runner.close()


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    guest = Guest(tmp_path / "bucket")
    yield guest
    guest.close()
