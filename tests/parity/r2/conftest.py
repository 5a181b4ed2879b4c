from __future__ import annotations

import pytest

from tests.parity.sides import Parity, Sides


@pytest.fixture
def r2(sides: Sides) -> Parity:
    return sides.parity("r2")
