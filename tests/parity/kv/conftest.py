from __future__ import annotations

import pytest

from tests.parity.sides import Parity, Sides


@pytest.fixture
def kv(sides: Sides) -> Parity:
    return sides.parity("kv")
