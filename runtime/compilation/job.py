"""What the parent tells the compile child, and what the child tells the parent."""

from __future__ import annotations

from typing import Literal

import msgspec

MESSAGES_MAX = 10
MESSAGE_CHARACTERS_MAX = 1_000
REPORT_BYTES_MAX = 64 * 1024


class CompileJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Compile `source` into `target` and say in `report` what came of it."""

    kind: Literal["component", "module"]
    source: str
    target: str
    report: str
    modules: tuple[str, ...]
    """Names of core modules that the component may import."""
    cpu_s: int
    memory_bytes: int
    file_bytes: int
    parallel: bool


class CompileReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """invalid: not valid WebAssembly; unfit: valid, but against the contract; memory, size: over a limit."""

    verdict: Literal["compiled", "invalid", "unfit", "memory", "size"]
    messages: tuple[str, ...] = ()
