from __future__ import annotations

import pytest

from host_bindings.context import GuestContext
from host_bindings.scope import Scope


class Guest:
    """A guest's context, and what reached its tenant's log."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []
        self.context = GuestContext(Scope({}, {}), self.log)

    def log(self, level: str, message: str) -> None:
        self.entries.append((level, message))

    @property
    def messages(self) -> list[str]:
        return [message for _, message in self.entries]


@pytest.fixture
def guest() -> Guest:
    return Guest()
