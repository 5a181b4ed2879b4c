"""How large, how intricate and how dear to compile an upload may be, and what the store may take on disk."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True)
class UploadLimits:
    """The defaults leave a worker with CPython and its libraries room to grow to about four times its size."""

    upload_bytes_max: int = 64 * MIB

    # What is counted before anything expensive runs: a component of many small parts costs more than its size tells.
    depth_max: int = 16
    """Components within components."""
    sections_max: int = 20_000
    core_modules_max: int = 200
    functions_max: int = 100_000
    """Functions that core modules define, all together."""
    items_max: int = 400_000
    """Everything else that is counted in a section: types, imports, exports, aliases, segments."""
    imports_max: int = 1_000
    """What the component itself imports."""
    globals_max: int = 100_000

    # One compile. The limits hold for the child process that compiles.
    compile_cpu_s: int = 60
    compile_wall_s: float = 60.0
    compile_memory_bytes: int = 2 * GIB
    """Address space (RLIMIT_AS). A Python worker of 22 MB takes 0.5 GiB."""
    compiled_bytes_max: int = 512 * MIB
    compiles_max: int = 2
    """How many child processes compile at the same time."""
    uploads_max: int = 16
    """How many uploads may be under way at the same time, waiting ones included."""
    compile_parallel: bool = True
    """Whether one compile may use all processor cores."""

    code_cache_bytes: int = 4 * GIB
    """Machine code ready to be mapped; the least recently used goes first."""
    code_just_used_s: float = 60.0
    """Machine code that was asked for so recently stays, whatever the bound."""
