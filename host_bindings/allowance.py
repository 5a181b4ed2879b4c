"""What one tenant may take of storage and SQL: the part of its limits that the stores keep to."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1024 * 1024 * 1024

KV_STORAGE = "limit.kv_storage"
R2_STORAGE = "limit.r2_storage"
D1_STORAGE = "limit.d1_storage"
SQL_TIME = "limit.sql_time"
SQL_ROWS = "limit.sql_rows"

STATUS = {KV_STORAGE: 507, R2_STORAGE: 507, D1_STORAGE: 507, SQL_TIME: 503, SQL_ROWS: 503}
"""The HTTP status that says so, by the code of the limit."""


@dataclass(frozen=True)
class Allowance:
    """Bytes are for all of a tenant's stores of a kind together."""

    kv_bytes_max: int = GIB
    r2_bytes_max: int = 10 * GIB
    d1_bytes_max: int = GIB
    sql_ms: int = 30_000
    """Of one request to a database; a batch is one request."""
    sql_rows_max: int = 100_000
    """In all results of one request together."""


class Account:
    """A tenant's allowance as it is now: a new version of its worker may bring another one."""

    def __init__(self, allowance: Allowance | None = None) -> None:
        self.allowance = allowance or Allowance()
