from __future__ import annotations

import pytest

from host_bindings.context import GuestContext
from host_bindings.scope import Binding, Scope

BINDINGS = {
    "KV": Binding("kv_namespace", "KV", "the-hosts-secret-id"),
    "GREETING": Binding("plain_text", "GREETING", value="hello"),
    "SETTINGS": Binding("json", "SETTINGS", value={"colour": ["red"]}),
}


class Guest:
    """A guest's context, and what reached its tenant's log."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []
        self.context = GuestContext(Scope(BINDINGS, {}), self.log)

    def log(self, level: str, message: str) -> None:
        self.entries.append((level, message))


@pytest.fixture
def guest() -> Guest:
    return Guest()
