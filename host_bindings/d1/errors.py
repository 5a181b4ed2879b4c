"""What a caller of D1 gets to see when something fails: the texts that Cloudflare's D1 gives.

D1Error           in the parent: a request failed; the message is the tenant's to read
RequestRefused    in a child: the same, on its way there
"""

from __future__ import annotations

CPU_LIMIT = "D1 DB exceeded its CPU time limit and was reset."
STORAGE_LIMIT = "Exceeded maximum DB size."
MEMORY_LIMIT = "D1 DB's isolate exceeded its memory limit and was reset."
CONNECTION_LOST = "Network connection lost."
QUEUE_FULL = "D1 DB is overloaded. Too many requests queued."
QUEUE_TIMEOUT = "D1 DB is overloaded. Requests queued for too long."
CLOSED = "The database has been closed."
NO_STATEMENTS = "No SQL statements detected."
NO_STATEMENT = "SQL code did not contain a statement."
WRONG_PARAMETER_COUNT = "Wrong number of parameter bindings for SQL query."
ONLY_LAST_HAS_PARAMETERS = (
    "When executing multiple SQL statements in a single call, only the last statement can have parameters."
)
TRANSACTION_REFUSED = (
    "To execute a transaction, please use the state.storage.transaction() or state.storage.transactionSync() APIs "
    "instead of the SQL BEGIN TRANSACTION or SAVEPOINT statements. The JavaScript API is safer because it will "
    "automatically roll back on exceptions, and because it interacts correctly with Durable Objects' automatic atomic "
    "write coalescing."
)


class D1Error(Exception):
    """A request to a database failed. `message` begins with D1's prefix ("D1_ERROR: ") and names nothing of the
    host's. `code` names the tenant's limit that was hit, if one was."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class RequestRefused(Exception):
    """A statement failed or broke a rule. `prefixed` if the text already has its prefix (D1_TYPE_ERROR)."""

    def __init__(self, text: str, *, prefixed: bool = False, code: str = "") -> None:
        super().__init__(text)
        self.text = text if prefixed else f"D1_ERROR: {text}"
        self.bare = text
        self.code = code
