"""Compiles in child processes that have limits, a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import msgspec

from runtime.artifacts.errors import CompilerFailed, RejectedUpload
from runtime.artifacts.limits import MIB, UploadLimits
from runtime.compilation.job import REPORT_BYTES_MAX, CompileJob, CompileReport

logger = logging.getLogger(__name__)

_IMPORT_ROOT = Path(__file__).resolve().parents[2]
"""Where the child finds this package, however the parent found it."""

_OUT_OF_MEMORY = (b"memory allocation of", b"out of memory", b"Cannot allocate memory", b"MemoryError")
"""What Rust, C and Python say on stderr when they end for want of memory."""


class InvalidComponent(RejectedUpload):
    """wasmtime's validator refused it."""


class Compiler:
    def __init__(self, limits: UploadLimits) -> None:
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.compiles_max)

    async def component(self, source: Path, target: Path, modules: Collection[str]) -> None:
        """Compiles the component and compares it with the contract; it may import the core modules `modules`.

        Raises `RejectedUpload` (`InvalidComponent` if wasmtime refuses it) or `CompilerFailed`; then there is no
        `target`. The same goes for `module`.
        """
        await self._compile("component", source, target, modules)

    async def module(self, source: Path, target: Path) -> None:
        """Compiles a core module."""
        await self._compile("module", source, target, ())

    async def _compile(
        self, kind: Literal["component", "module"], source: Path, target: Path, modules: Collection[str]
    ) -> None:
        limits = self._limits
        report, errors = target.with_suffix(".report"), target.with_suffix(".stderr")
        job = CompileJob(
            kind=kind,
            source=str(source),
            target=str(target),
            report=str(report),
            modules=tuple(modules),
            cpu_s=limits.compile_cpu_s,
            memory_bytes=limits.compile_memory_bytes,
            file_bytes=limits.compiled_bytes_max,
            parallel=limits.compile_parallel,
        )
        done = False
        try:
            async with self._slots:
                status = await self._run(job, errors)
            await asyncio.to_thread(self._judge, status, report, errors)
            done = True
        finally:
            for path in (report, errors) if done else (report, errors, target):
                path.unlink(missing_ok=True)

    async def _run(self, job: CompileJob, errors: Path) -> int:
        """The child's exit status, negative for a signal."""
        with errors.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-s", "-P", "-m", "runtime.compilation.child", str(os.getpid())),
                msgspec.json.encode(job).decode(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=stderr,
                env={"PYTHONPATH": str(_IMPORT_ROOT), "LC_ALL": "C.UTF-8"},
                cwd=errors.parent,
                start_new_session=True,
            )
        try:
            return await asyncio.wait_for(process.wait(), self._limits.compile_wall_s)
        except TimeoutError:
            raise self._took_too_long() from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    def _judge(self, status: int, report_path: Path, errors: Path) -> None:
        """Raises unless the child has compiled."""
        if status == 0:
            with report_path.open("rb") as file:
                report = msgspec.json.decode(file.read(REPORT_BYTES_MAX), type=CompileReport)
            return self._judge_report(report)
        if status == -signal.SIGXCPU:
            raise self._took_too_long()
        with errors.open("rb") as file:
            said = file.read(REPORT_BYTES_MAX)
        # The kernel ends a process by SIGKILL when the machine or its cgroup has no memory left.
        if status == -signal.SIGKILL or any(words in said for words in _OUT_OF_MEMORY):
            raise self._took_too_much_memory()
        logger.error("the compile child ended with status %d: %s", status, said[-4096:].decode("utf-8", "replace"))
        if status < 0:
            raise RejectedUpload("The compiler breaks down over this component. Build it with another toolchain.")
        raise CompilerFailed("The component could not be compiled because of a fault of the host; see its log.")

    def _judge_report(self, report: CompileReport) -> None:
        match report.verdict:
            case "compiled":
                return
            case "invalid":
                raise InvalidComponent(f"The component is not valid: {' '.join(report.messages)}.")
            case "unfit":
                raise RejectedUpload(" ".join(report.messages))
            case "memory":
                raise self._took_too_much_memory()
            case "size":
                raise RejectedUpload("The component's machine code is too large. Leave out what is not needed.")

    def _took_too_long(self) -> RejectedUpload:
        limits = self._limits
        return RejectedUpload(
            f"The component takes too long to compile (limit: {limits.compile_cpu_s} s of CPU time, "
            f"{limits.compile_wall_s:g} s in all). Make it smaller: leave out what the worker does not need."
        )

    def _took_too_much_memory(self) -> RejectedUpload:
        return RejectedUpload(
            f"The component takes too much memory to compile (limit: {self._limits.compile_memory_bytes // MIB} MiB). "
            "Make it smaller: leave out what the worker does not need."
        )
