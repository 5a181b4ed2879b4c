"""The D1 database before a list of operations: empty, and with the same last row id on both sides."""

import contextlib

from pyodide.ffi import JsException
from workers.d1 import D1DatabaseSession, D1PreparedStatement

# What a virtual table keeps its rows in cannot be dropped alone, and goes with it.
LEFT = """SELECT type, name FROM sqlite_master
  WHERE type IN ('table', 'view') AND substr(name, 1, 7) <> 'sqlite_' AND substr(name, 1, 4) <> '_cf_'"""


def describe(value):
    return {} if isinstance(value, D1PreparedStatement | D1DatabaseSession) else None


async def reset(db):
    tries = 20
    while results := (await db.prepare(LEFT).all()).results:
        tries -= 1
        assert tries, f"cannot drop {results}"
        for row in results:
            await drop(db, row.type, row.name)
    await db.batch(map(db.prepare, ("CREATE TABLE a (b)", "INSERT INTO a VALUES (1)", "DROP TABLE a")))


async def drop(db, kind, name):
    quoted = name.replace('"', '""')
    with contextlib.suppress(JsException):
        await db.batch([db.prepare("PRAGMA defer_foreign_keys = on"), db.prepare(f'DROP {kind} IF EXISTS "{quoted}"')])
