"""docs/security.md names a test for every attack, and every test that it names exists."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if re.match(r"\| [A-Z]\d+ \|", line)]


@cache
def existing_tests() -> frozenset[str]:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    return frozenset(name for source in sources for name in re.findall(r"def (test_\w+)\(", source))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_each_attack_has_a_defence_and_tests_that_exist(row: str) -> None:
    *_, defence, _left, shown_by = [cell.strip() for cell in row.strip("|").split("|")]

    tests, files = re.findall(r"`(test_\w+)`", shown_by), re.findall(r"\btests/[\w/]+\.py", shown_by)
    assert defence
    assert tests or files
    assert [name for name in tests if name not in existing_tests()] == []
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_ids_are_given_once() -> None:
    ids = [row.split("|")[1].strip() for row in ROWS]

    assert len(ids) > 60
    assert len(set(ids)) == len(ids)


def test_each_test_of_an_attack_is_in_the_threat_model() -> None:
    """A new attack of this suite gets its row."""
    suite = [path for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)]
    names = [name for path in suite for name in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8"))]

    assert [name for name in names if f"`{name}`" not in PAGE] == []
