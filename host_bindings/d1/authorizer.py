"""What a tenant's SQL may do: the list that SQLite asks while it prepares a statement.

Everything that is not named here is denied, also whatever a later SQLite may add. The lists follow what D1 allows.
One authorizer serves one connection.
"""

from __future__ import annotations

import re

import apsw

from host_bindings.d1.errors import TRANSACTION_REFUSED, RequestRefused

RESERVED_PREFIX = "_cf_"

MODULES = frozenset({"fts5", "fts5vocab", "rtree", "rtree_i32"})
"""The virtual table modules that a tenant may create tables with."""

# Tables that exist in every connection without being created, and tell of or touch what is not the tenant's.
_HIDDEN_TABLES = frozenset(
    {"bytecode", "carray", "completion", "dbstat", "fsdir", "generate_series", "sqlite_dbdata", "sqlite_dbpage"}
    | {"sqlite_dbptr", "sqlite_stmt", "tables_used", "wholenumber"}
)

# Core, date and time, aggregate and window functions, mathematics, JSON, FTS5, and what SQLite itself calls to carry
# out ALTER TABLE. Not here: load_extension, fts3_tokenizer, and what tells of the host: sqlite_version,
# sqlite_source_id, sqlite_compileoption_*, sqlite_offset.
_FUNCTION_NAMES = """
    abs changes char coalesce concat concat_ws format glob hex if ifnull iif instr last_insert_rowid length like
    likelihood likely lower ltrim max min nullif octet_length printf quote random randomblob replace round rtrim sign
    soundex substr substring total_changes trim typeof unhex unicode unistr unistr_quote unlikely upper zeroblob

    date time datetime julianday unixepoch strftime timediff current_date current_time current_timestamp

    avg count group_concat string_agg sum total median percentile percentile_cont percentile_disc
    row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value

    acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10 log2 mod pi pow power
    radians sin sinh sqrt tan tanh trunc

    json jsonb json_array jsonb_array json_array_insert jsonb_array_insert json_array_length json_error_position
    json_extract jsonb_extract -> ->> json_insert jsonb_insert json_object jsonb_object json_patch jsonb_patch
    json_pretty json_quote json_remove jsonb_remove json_replace jsonb_replace json_set jsonb_set json_type json_valid
    json_group_array jsonb_group_array json_group_object jsonb_group_object json_each json_tree jsonb_each jsonb_tree

    match highlight bm25 snippet fts5_get_locale fts5_locale fts5_insttoken

    sqlite_rename_column sqlite_rename_table sqlite_rename_test sqlite_drop_column sqlite_rename_quotefix
    sqlite_fail sqlite_add_constraint sqlite_drop_constraint sqlite_find_constraint
"""

FUNCTIONS = frozenset(_FUNCTION_NAMES.split())

_SWITCHES = frozenset(
    {"case_sensitive_like", "defer_foreign_keys", "foreign_keys", "ignore_check_constraints", "legacy_alter_table"}
    | {"recursive_triggers", "reverse_unordered_selects"}
)
_READ_ONLY = frozenset({"data_version", "page_size", "table_list"})
_ABOUT_OBJECTS = frozenset(
    {"foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo", "table_info", "table_xinfo"}
)
_SWITCH_VALUE = re.compile(r"on|off|true|false|yes|no|[01]", re.IGNORECASE)
_NUMBER = re.compile(r"(0x[0-9a-f]{1,8}|-?[0-9]{1,9})", re.IGNORECASE)

_SCHEMA_CHANGES = frozenset(
    {apsw.SQLITE_CREATE_TABLE, apsw.SQLITE_CREATE_INDEX, apsw.SQLITE_CREATE_VIEW, apsw.SQLITE_CREATE_TRIGGER}
    | {apsw.SQLITE_DROP_TABLE, apsw.SQLITE_DROP_INDEX, apsw.SQLITE_DROP_VIEW, apsw.SQLITE_DROP_TRIGGER}
    | {apsw.SQLITE_CREATE_VTABLE, apsw.SQLITE_DROP_VTABLE, apsw.SQLITE_ALTER_TABLE}
)
_REWRITES = frozenset({apsw.SQLITE_ANALYZE, apsw.SQLITE_REINDEX})
_ROWS = frozenset({apsw.SQLITE_READ, apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE})
_ALWAYS = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE})


class Authorizer:
    """Decides, and notes what the statements that it let pass will do. `reset` forgets the notes."""

    def __init__(self) -> None:
        self.trusts = False
        """Whatever is prepared now is the host's own, and allowed."""
        self.reset()

    def reset(self) -> None:
        self.changes_schema = False
        """The statement creates, drops or alters something, if it does anything at all."""
        self.rewrites = False
        """The statement is ANALYZE or REINDEX."""
        self.alters = False
        self.switches = False
        """A pragma may have changed a setting of the connection."""

    def __call__(
        self, operation: int, first: str | None, second: str | None, database: str | None, trigger: str | None
    ) -> int:
        """SQLite's callback. Raises `RequestRefused` where D1 has a text of its own."""
        if self.trusts:
            return apsw.SQLITE_OK
        if operation in (apsw.SQLITE_TRANSACTION, apsw.SQLITE_SAVEPOINT):
            raise RequestRefused(TRANSACTION_REFUSED)
        return apsw.SQLITE_OK if self._allows(operation, first or "", second or "", database) else apsw.SQLITE_DENY

    def _allows(self, operation: int, first: str, second: str, database: str | None) -> bool:
        if operation in _ROWS:
            # A temporary schema cannot be filled, but ALTER TABLE looks for its triggers and views in it.
            if database == "temp":
                return operation in (apsw.SQLITE_READ, apsw.SQLITE_UPDATE)
            name = first.lower()
            return database in (None, "main") and not reserved(name) and name not in _HIDDEN_TABLES
        if operation in _ALWAYS:
            return True
        if operation == apsw.SQLITE_FUNCTION:
            return second.lower() in FUNCTIONS
        if operation == apsw.SQLITE_PRAGMA:
            return self._allows_pragma(first.lower(), second, database)
        if operation in _SCHEMA_CHANGES:
            return self._allows_schema_change(operation, first, second, database)
        if operation in _REWRITES:
            self.rewrites = True
            return database in (None, "main") and not reserved(first)
        return False

    def _allows_schema_change(self, operation: int, first: str, second: str, database: str | None) -> bool:
        self.changes_schema = True
        if operation == apsw.SQLITE_ALTER_TABLE:
            # Its first argument is the database. The new name of a renamed table is not told.
            self.alters = True
            return first == "main" and not reserved(second)
        if operation in (apsw.SQLITE_CREATE_VTABLE, apsw.SQLITE_DROP_VTABLE) and second.lower() not in MODULES:
            return False
        return database in (None, "main") and not reserved(first) and not reserved(second)

    def _allows_pragma(self, name: str, argument: str, database: str | None) -> bool:
        if database not in (None, "main"):
            return False
        if name in _SWITCHES:
            self.switches = self.switches or bool(argument)
            return not argument or _SWITCH_VALUE.fullmatch(argument) is not None
        if name in _READ_ONLY:
            return not argument
        if name in _ABOUT_OBJECTS:
            return not reserved(argument) and (bool(argument) or name == "foreign_key_check")
        if name == "quick_check":
            return not reserved(argument)
        if name == "optimize":
            self.rewrites = True
            return not argument or _NUMBER.fullmatch(argument) is not None
        return False


def reserved(name: str) -> bool:
    """Names that D1 keeps for itself."""
    return name[:4].lower() == RESERVED_PREFIX
