"""Every method, value, error and limit of D1, on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parity.d1 import Operation, batch, exec, run
from tests.parity.sides import Parity

TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b, u UNIQUE, c CHECK (c > 0), n NOT NULL DEFAULT 1)"
ROWS = "INSERT INTO t (id, a, b, u) VALUES (1, 'x', 2.5, 'p'), (2, 'y', x'0102', 'q'), (3, NULL, NULL, NULL)"
NUMBER = {"$number": "NaN"}

METHODS: dict[str, list[Operation]] = {
    "all, run, first, raw": [run("SELECT * FROM t", method=method) for method in ("all", "run", "first", "raw")],
    "first of a column": [
        run("SELECT id, a FROM t", method="first", options=["a"]),
        run("SELECT id, a FROM t WHERE a IS NULL", method="first", options=["a"]),
        run("SELECT id FROM t", method="first", options=["A"]),
        run("SELECT id FROM t", method="first", options=[""]),
        run("SELECT id FROM t WHERE 0", method="first", options=["zzz"]),
        run("SELECT id FROM t WHERE 0", method="first"),
        run("INSERT INTO t (a) VALUES ('z')", method="first"),
        run("INSERT INTO t (a) VALUES ('z') RETURNING id", method="first", options=["id"]),
    ],
    "raw": [
        run("SELECT id, a FROM t", method="raw", options=[{"columnNames": True}]),
        run("SELECT id, a FROM t WHERE 0", method="raw", options=[{"columnNames": True}]),
        run("SELECT id, a FROM t WHERE 0", method="raw", options=[{"columnNames": False}]),
        run("SELECT 1 AS a, 2 AS a, 3 AS b", method="raw", options=[{"columnNames": True}]),
        run("SELECT 1 AS a, 2 AS a, 3 AS b"),
        run("SELECT 1 AS a, 2 AS a", method="first", options=["a"]),
        run("INSERT INTO t (a) VALUES ('z')", method="raw", options=[{"columnNames": True}]),
        run("DELETE FROM t RETURNING a, id", method="raw", options=[{"columnNames": True}]),
    ],
    "bind": [
        {"calls": [["prepare", "SELECT ? AS a"], ["bind", "x"], ["bind", "y"], ["all"]]},
        {"calls": [["prepare", "SELECT 1"], [".statement"]]},
        {"calls": [["prepare", "SELECT ?"], ["bind", 1, "a", None, [1, 2], True, 1.5], [".params"]]},
        *[run(f"SELECT {names}", 1, 2, 3) for names in ("?, ?, ?", "?1, ?2, ?3", "?3, ?1, ?2", ":a, @b, $c", "?3")],
        run("SELECT ?2, ?1", "one", "two"),
        run("SELECT ?, ?", 1),
        run("SELECT ?", 1, 2),
        run("SELECT 1", 1),
        run("SELECT ?"),
        run("SELECT ?101", 1),
        run("SELECT ?0", 1),
        run("SELECT " + ", ".join("?" * 100), *range(100)),
        run("SELECT " + ", ".join("?" * 101), *range(101)),
    ],
    "several statements in one text": [
        run("SELECT 1; SELECT 2"),
        run("INSERT INTO t (a) VALUES ('m1'); SELECT count(*) FROM t"),
        run("SELECT 1; SELECT ?", "x"),
        run("SELECT ?; SELECT 2", "x"),
        run("INSERT INTO t (a) VALUES ('m2'); SELECT nope"),
        run("SELECT 1; SELEKT 2"),
        run("SELECT count(*) FROM t WHERE a LIKE 'm%'"),
        run("SELECT 1;"),
        run("SELECT 1 ; \n\t"),
    ],
    "texts without a statement": [
        run(text)
        for text in (
            "",
            " ",
            "\n",
            "-- x",
            " -- x",
            "\n-- x",
            "\n\n  -- x\n -- y",
            ";",
            " ; ",
            "/* x */",
            "/* x",
            "-- a\n-- b",
        )
    ],
    "comments around a statement": [
        run(text)
        for text in ("\n-- x\nSELECT 1", "-- x\nSELECT 1", "/* x */ SELECT 1", "SELECT 1 /* x", "SELECT 1 -- x")
    ],
    "text that is not ASCII": [
        run("SELECT 'é' || ?, length(?1), hex(?1)", "ü😀"),
        run("\ufeffSELECT 1"),
        run('SELECT 1 AS "spaltenname é"'),
        run("SELECT char(0) || 'b', length('a' || char(0) || 'b')"),
        run("SELECT ?", "a\0b"),
        run("SELECT 'a\0b'"),
    ],
    "numbers": [
        run("SELECT 9007199254740993, 9223372036854775807, -9223372036854775808, 1e300, 2.0, -0.0, 1e999, 5e-324"),
        run("SELECT 1e21, 123456789012345680000.0, 0.1 + 0.2, 7 / 2, 7 % 3, 7.0 / 2, 1 / 0, 5 % 0"),
        run("SELECT CAST('9999999999999999999' AS INTEGER), CAST(1e19 AS INTEGER), 9223372036854775807 + 1"),
        run("SELECT true, false, NULL, 'x' IS NULL, 0x10, 1_000"),
        run("SELECT abs(-9223372036854775808)"),
        run("SELECT sum(a) FROM (SELECT 9223372036854775807 AS a UNION ALL SELECT 1)"),
        run("SELECT ?", NUMBER),
        run("SELECT ?", {"$number": "Infinity"}),
    ],
    "blobs": [
        run("SELECT x'00ff', x'', zeroblob(3), typeof(?)", {"$bytes": "AAEC"}),
        run("SELECT ?", {"$bytes": ""}),
        run("SELECT ?", {"$buffer": "AP8="}),
        run("SELECT ?, hex(?1)", [0, 1, 255]),
        run("SELECT ?", []),
        run("SELECT ?", [1.5, 2]),
        run("INSERT INTO t (b) VALUES (?) RETURNING b", {"$fill": [7, 1000]}),
    ],
    "values that are none": [
        run("SELECT ?", value)
        for value in (
            {"a": 1},
            [1, 256],
            [1, "a"],
            [-1],
            [None],
            [True],
            [[1]],
            {"$date": 1000},
            {"$date": -62135596800000},
        )
    ],
    "batch": [
        *batch(
            0,
            ("INSERT INTO t (a) VALUES (?)", "b1"),
            ("SELECT count(*) AS n FROM t",),
            ("DELETE FROM t WHERE a = ?", "b1"),
        ),
        *batch(4, ("INSERT INTO t (a) VALUES ('b2')",), ("INSERT INTO t (id) VALUES (1)",), ("SELECT 1",)),
        run("SELECT count(*) FROM t WHERE a = 'b2'"),
        *batch(9, ("SELECT 1",), (" -- left out",), ("SELECT 2",)),
        *batch(13, ("SELECT 1",), ("-- not left out",)),
        {"calls": [["batch", []]]},
        *batch(17, ("PRAGMA defer_foreign_keys = on",), ("PRAGMA defer_foreign_keys",)),
        run("PRAGMA defer_foreign_keys"),
    ],
    "exec": [
        exec("CREATE TABLE e (a)\nINSERT INTO e VALUES (1)\nINSERT INTO e VALUES (2); INSERT INTO e VALUES (3)\n"),
        run("SELECT * FROM e"),
        exec("INSERT INTO e VALUES (4)\nINSERT INTO nope VALUES (5)"),
        run("SELECT count(*) FROM e"),
        exec("INSERT INTO e VALUES (?)"),
        exec("SELECT 1\n\nSELECT 2"),
        exec("  SELECT 1  \n  -- c\n\n\tSELECT 2 "),
        exec(""),
        exec("\n \n"),
        exec("-- a\nSELECT 2"),
        exec("SELECT 2\n -- a"),
        exec("SELECT\n1"),
        exec("SELECT 1\nSELEKT 2"),
        exec("BEGIN"),
    ],
    "sessions": [
        *[
            {"calls": [["withSession", *given], ["getBookmark"]]}
            for given in ([], ["first-primary"], ["abc"], [" "], [" x "], ["first-unconstrained"])
        ],
        {"calls": [["withSession"]]},
        {"on": {"$result": [6]}, "calls": [["prepare", "SELECT id FROM t"], ["all"]]},
        {"on": {"$result": [6]}, "calls": [["getBookmark"]]},
        {"on": {"$result": [6]}, "calls": [["prepare", "INSERT INTO t (a) VALUES (?)"], ["bind", "s"], ["run"]]},
        {"on": {"$result": [6]}, "calls": [["prepare", "SELECT a FROM t ORDER BY id DESC"], ["first", "a"]]},
        {"on": {"$result": [6]}, "calls": [["prepare", "SELECT nope"], ["all"]]},
        {"on": {"$result": [6]}, "calls": [["getBookmark"]]},
        {"calls": [["withSession", "zzzz"], ["prepare", "SELECT 1"], ["all"]]},
    ],
    "dump": [{"calls": [["dump"]]}],
}

LIMITS = [
    "SELECT " + ", ".join(["1"] * 100),
    "SELECT " + ", ".join(["1"] * 101),
    "CREATE TABLE big (" + ", ".join(f"c{i}" for i in range(101)) + ")",
    " UNION ALL ".join(["SELECT 1"] * 5),
    " UNION ALL ".join(["SELECT 1"] * 6),
    "SELECT " + "+".join(["1"] * 101),
    "SELECT " + "(" * 101 + "1" + ")" * 101,
    "SELECT char(" + ", ".join(["65"] * 32) + ")",
    "SELECT char(" + ", ".join(["65"] * 128) + ")",
    "SELECT 'a' LIKE '" + "x" * 51 + "'",
    "SELECT 'a' GLOB '" + "x" * 50 + "'",
    "SELECT length(zeroblob(1999000))",
    "SELECT length(zeroblob(5000000))",
    "SELECT 1 -- " + "x" * 99_988,
    "SELECT 1 -- " + "x" * 99_990,
]


def sections() -> dict[str, list[str]]:
    """The statements of statements.sql, by the heading before them."""
    text = (Path(__file__).parent / "statements.sql").read_text()
    parts = [part.strip().split("\n") for part in ("\n" + text).split("\n-- ")[1:]]
    return {heading: statements for heading, *statements in parts}


SQL = sections() | {"limits": LIMITS}
CASES = METHODS | {name: [run(sql) for sql in texts] for name, texts in SQL.items()}


@pytest.mark.parametrize("case", CASES)
def test_the_same_with_javascripts_types(case: str, d1_js: Parity) -> None:
    d1_js([run(TABLE), run(ROWS), *_shifted(CASES[case], 2)])


@pytest.mark.parametrize("case", [case for case in CASES if case != "bind"])
def test_the_same_with_pythons_types(case: str, d1: Parity) -> None:
    d1([run(TABLE), run(ROWS), *_shifted(CASES[case], 2)])


def _shifted(value: object, by: int) -> list[Operation]:
    """Operations with what they say of earlier results put right for `by` more before them."""

    def shift(part: object) -> object:
        if isinstance(part, list):
            return [shift(member) for member in part]
        if isinstance(part, dict):
            if "$result" in part:
                return {"$result": [part["$result"][0] + by, *part["$result"][1:]]}
            return {name: shift(member) for name, member in part.items()}
        return part

    shifted = shift(value)
    assert isinstance(shifted, list)
    return shifted


def test_int_and_bytes_keep_their_types_here(d1: Parity) -> None:
    results = d1.cloister([run("SELECT ?1, typeof(?1), ?2, 2.0 AS real", 2**53 + 1, {"$bytes": "AP8="})])

    row = results[0]["value"]["results"][0]
    assert row == {"?1": 2**53 + 1, "typeof(?1)": "integer", "?2": {"$bytes": "AP8="}, "real": 2.0}
    assert isinstance(row["real"], float)
