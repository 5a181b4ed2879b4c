"""What the tests of several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def artifacts_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for the artifact stores of many tests: what one has compiled the others find."""
    return tmp_path_factory.mktemp("artifacts")
