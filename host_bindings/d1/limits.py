"""Every bound of D1 in one place. The parent and its child processes work with the same values."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, kw_only=True)
class SqlLimits:
    """The figures are D1's where D1 documents one."""

    # Time
    request_ms: int = 30_000
    """How long one request (a batch is one request) may run. Then it is interrupted."""
    kill_grace_ms: int = 500
    """How long the interrupt may take to work. Then the child process is killed: SQLite looks for interrupts between
    its opcodes, and a single opcode can run for half a minute."""
    start_ms: int = 15_000
    """How long a child process may take to start."""
    commit_ms: int = 60_000
    """How long a commit may take before the child is killed. Generous: it waits for the disk, not for the tenant."""

    # Queues
    queue_ms: int = 30_000
    """How long a request may wait for its turn."""
    queue_requests: int = 1_000
    """For one database."""
    queue_bytes: int = 64 * MIB
    """For all databases of one owner."""
    queue_bytes_total: int = 256 * MIB

    # Groups of requests of one database that share a commit
    group_requests: int = 64
    group_bytes: int = MIB
    group_ms: int = 5
    """A group that has run this long commits, so that what is done is answered."""

    # Requests and results
    request_bytes: int = 16 * MIB
    batch_statements: int = 1_000
    result_rows: int = 100_000
    """In all results of one request together; so is `result_bytes`, of JSON text."""
    result_bytes: int = 16 * MIB

    # SQLite
    database_bytes: int = 1024 * MIB
    sql_bytes: int = 100_000
    value_bytes: int = 2_000_000
    parameters: int = 100
    columns: int = 100
    function_arguments: int = 32
    expression_depth: int = 100
    compound_selects: int = 5
    like_pattern_bytes: int = 50
    trigger_depth: int = 10
    vdbe_operations: int = 25_000

    # Import
    import_bytes: int = 1024 * MIB
    """The size of a file."""
    import_statement_characters: int = 5_000_000
    """A statement of an export holds a whole row, with blobs in hexadecimal digits."""

    # Time travel
    history_ms: int = 7 * 24 * 3_600_000
    """How far back a database can be restored."""
    history_interval_ms: int = 60_000
    """To which part of the time: a minute."""
    history_bytes: int = 512 * MIB
    """What a database's history may take on disk, compressed. The oldest goes first."""
    checkpoint_pages: int = 1_000
    """The length of the write-ahead log at which it is brought into the database's file."""
    maintenance_ms: int = 600_000
    """How long an export, an import or a restore may take before the child is killed."""

    # A child process
    heap_bytes: int = 128 * MIB
    """SQLite's heap, temporary tables and sorts included: nothing spills to files."""
    address_space_bytes: int = 1024 * MIB
    connections: int = 32
    """Databases that a child keeps open; the one that was used least recently is closed."""
    cache_bytes: int = MIB
    """Page cache of one connection."""
