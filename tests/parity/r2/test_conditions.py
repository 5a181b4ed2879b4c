"""Reading and writing under conditions."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import pytest

from tests.parity.calls import NAN, Operation, call, date, headers
from tests.parity.sides import Parity

CONTENT = "0123456789"
ETAG = hashlib.md5(CONTENT.encode()).hexdigest()
BEFORE, AFTER = 1_000_000_000_000, 4_000_000_000_000
"""Long before and long after now. Fixed, since they are in tests' names."""


def tried(condition: Any) -> list[Operation]:
    """Reads and writes of an object that is there and of one that is not."""
    given = {"onlyIf": condition}
    return [
        call("put", "here", CONTENT),
        *(call("get", key, given) for key in ("here", "none")),
        *(call("put", key, "new", given) for key in ("here", "none")),
        call("list"),
    ]


ETAGS: list[Any] = [ETAG, ETAG.upper(), "x", "*", "", f'"{ETAG}"', '"', f'W/"{ETAG}"', "**", 5, ["a"], "é"]


@pytest.mark.parametrize("name", ["etagMatches", "etagDoesNotMatch"])
@pytest.mark.parametrize("etag", ETAGS, ids=repr)
def test_an_etag(r2: Parity, name: str, etag: Any) -> None:
    r2(tried({name: etag}))


TIMES: list[Any] = [date(0), date(BEFORE), date(AFTER), AFTER, 0, "soon", NAN, "", True, AFTER + 0.5]


@pytest.mark.parametrize("name", ["uploadedBefore", "uploadedAfter"])
@pytest.mark.parametrize("moment", TIMES, ids=lambda moment: repr(moment)[:14])
def test_a_time(r2: Parity, name: str, moment: Any) -> None:
    r2(tried({name: moment, "secondsGranularity": True}))
    r2(tried({name: moment}))


def test_all_conditions_together(r2: Parity) -> None:
    etags = (None, ETAG, "x", "*")
    times = (None, BEFORE, AFTER)
    operations = []
    for matches, differs, before, after in itertools.product(etags, etags, times, times):
        given = {"etagMatches": matches, "etagDoesNotMatch": differs}
        given |= {name: date(at) for name, at in (("uploadedBefore", before), ("uploadedAfter", after)) if at}
        condition = {name: value for name, value in given.items() if value is not None}
        operations += [call("get", key, {"onlyIf": condition}) for key in ("here", "none")]
        operations += [call("put", "none", "", {"onlyIf": condition}), call("delete", "none")]

    results = r2([call("put", "here", CONTENT), *operations])

    assert len(results) == 577


@pytest.mark.parametrize("condition", [{}, None, "x", 5, {"other": 1}, {"secondsGranularity": "x"}], ids=repr)
def test_other_conditions(r2: Parity, condition: Any) -> None:
    r2(tried(condition))


LISTS = [
    f'"{ETAG}"', f'W/"{ETAG}"', "*", '"x"', f'"x", "{ETAG}"', f'"x","{ETAG}"', f'"x" "{ETAG}"', ETAG, "", '"', '"x',
    '"x",*', '"x" *', "W/x", 'W/"x', '"x" W/"y"', f', "{ETAG}"', f'"x",, "{ETAG}"', f'x"{ETAG}"', f'"{ETAG}"x',
    f'"{ETAG}"x"y"', "**", 'W/"x", "y"', '""', "W", 'w/"x"', f'\t"{ETAG}"',
]  # fmt: skip


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("value", LISTS)
def test_a_header_of_etags(r2: Parity, name: str, value: str) -> None:
    r2(tried(headers((name, value))))


DATES = ["Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2115 07:28:00 GMT"]


@pytest.mark.parametrize("name", ["If-Modified-Since", "If-Unmodified-Since", "If-Range", "X-Other"])
@pytest.mark.parametrize("value", DATES)
def test_a_header_of_a_date(r2: Parity, name: str, value: str) -> None:
    r2(tried(headers((name, value))))


def test_headers_together(r2: Parity) -> None:
    later = ("If-Modified-Since", DATES[1])

    r2(tried(headers(("If-Match", '"x"'), ("if-match", f'"{ETAG}"'))))
    r2(tried(headers(("If-None-Match", '"x"'), later)))
    r2(tried(headers(("If-None-Match", f'"{ETAG}"'), later)))
    r2(tried(headers(("If-Match", f'"{ETAG}"'), ("If-Unmodified-Since", DATES[0]))))
    r2(tried(headers()))
