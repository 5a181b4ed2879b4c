from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_bindings.body import Payload
from host_bindings.context import GuestContext
from host_bindings.contract import Failure
from host_bindings.kv.binding import INTERFACE
from host_bindings.kv.store import KVNamespace
from host_bindings.scope import Binding, Scope
from tests.host_bindings.storage.inputs import Clock

NOW = 1_700_000_000


class Guest:
    """Calls KV as a guest does, through the interface's functions."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock(NOW)
        self.namespace = KVNamespace(directory, clock=self.clock)
        bindings = {"KV": Binding("kv_namespace", "KV", "id")}
        self.context = GuestContext(Scope(bindings, {"KV": self.namespace}), lambda level, message: None)
        self._functions = {function.name: function.implementation for function in INTERFACE.functions}
        self._runner = asyncio.Runner()

    def call(self, name: str, *arguments: Any, binding: str = "KV") -> Any:
        async def run() -> Any:
            return await self._functions[name](self.context, binding, *arguments)

        return self._runner.run(run())

    def put(self, key: str, value: Payload, options: str = "") -> None:
        self.call("put", key, value, options)

    def get(self, key: str, options: str = "") -> Any:
        return self.call("get", key, options)

    def failure(self, name: str, *arguments: Any, binding: str = "KV") -> tuple[str, str]:
        """The name and the message of the failure that a call must end with."""
        with pytest.raises(Failure) as caught:
            self.call(name, *arguments, binding=binding)
        return caught.value.name, caught.value.message

    def close(self) -> None:
        self._runner.run(self.namespace.close())
        self._runner.close()


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    guest = Guest(tmp_path / "namespace")
    yield guest
    guest.close()
