from __future__ import annotations

import pytest

from tests.parity.sides import Parity, Sides


@pytest.fixture
def d1(sides: Sides) -> Parity:
    return sides.parity("d1")


@pytest.fixture
def d1_js(sides: Sides) -> Parity:
    """Cloister with the compatibility flag d1_js_types."""
    return sides.parity("d1", js_types=True)
