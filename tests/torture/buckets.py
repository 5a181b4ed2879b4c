"""Whether a bucket's files and its metadata agree."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path


def assert_no_orphans(data: Path, seconds: float = 60) -> None:
    """Under a data directory every file of a bucket belongs to an object or a part, and each of these has its file.

    What crashes have left is cleared away when a bucket is first used, soon after its answer.
    """
    deadline = time.monotonic() + seconds
    while complaints := [complaint for path in data.rglob("r2.sqlite") for complaint in disagreements(path.parent)]:
        assert time.monotonic() < deadline, complaints
        time.sleep(0.1)


def disagreements(bucket: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{bucket / 'r2.sqlite'}?mode=ro", uri=True)) as connection:
        named = dict(connection.execute("SELECT file, size FROM objects UNION ALL SELECT file, size FROM parts"))
        # Small ones are kept in the database itself.
        small = dict(connection.execute("SELECT file, length(content) FROM small_files"))
    found = small | {path.name: path.stat().st_size for path in bucket.glob("objects/*/*")}
    complaints = [f"the file {name} is no object's" for name in found.keys() - named.keys()]
    complaints += [f"the file {name} of an object is missing" for name in named.keys() - found.keys()]
    complaints += [
        f"the file {name} has another length" for name in found if named.get(name, found[name]) != found[name]
    ]
    return complaints + [f"{path.name} is still incoming" for path in bucket.glob("incoming/*")]
