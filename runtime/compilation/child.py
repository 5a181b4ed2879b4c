"""The process that compiles one component or core module: `python -m runtime.compilation.child PARENT JOB`.

The compiler works on hostile input and takes time and memory as that input pleases, so it has limits, no secrets and
nothing to do with any tenant but this one, and reaches no file but the component and its own workspace. Started by
`runtime.artifacts.compiler` only.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
from pathlib import Path

import msgspec

from host_bindings.confinement import confine_child, end_with_parent
from runtime.compilation.job import MESSAGE_CHARACTERS_MAX, MESSAGES_MAX, CompileJob, CompileReport

NICENESS = 5
"""Requests go before compiling."""


def main(parent: str, argument: str) -> None:
    """`parent` is the process id of who wants the result: without it nobody does."""
    end_with_parent(int(parent))
    job = msgspec.json.decode(argument, type=CompileJob)
    limit_process(job)
    report = compile_and_check(job)
    if report.verdict != "compiled":
        Path(job.target).unlink(missing_ok=True)
    messages = tuple(message[:MESSAGE_CHARACTERS_MAX] for message in report.messages[:MESSAGES_MAX])
    Path(job.report).write_bytes(msgspec.json.encode(CompileReport(report.verdict, messages)))


def limit_process(job: CompileJob) -> None:
    """Sets the limits of this process; there is no way back."""
    os.nice(NICENESS)
    for kind, limit in (
        (resource.RLIMIT_AS, job.memory_bytes),
        (resource.RLIMIT_FSIZE, job.file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    confine_child([Path(job.source)], [Path(job.target).parent])
    # The soft limit's signal, SIGXCPU, tells the parent why the child died.
    resource.setrlimit(resource.RLIMIT_CPU, (job.cpu_s, job.cpu_s + 5))


def compile_and_check(job: CompileJob) -> CompileReport:
    # Imported here so that wasmtime's library, too, lives under the limits.
    from runtime.engine.compile import CompileError, compile_component, compile_module, contract_problems

    try:
        compile_part = compile_component if job.kind == "component" else compile_module
        machine_code = compile_part(Path(job.source).read_bytes(), parallel=job.parallel)
        target = Path(job.target)
        target.write_bytes(machine_code)
        if job.kind == "component":
            from host_bindings.interfaces import ALL

            problems = contract_problems(target, ALL, job.modules)
            if problems:
                return CompileReport("unfit", tuple(problems))
        return CompileReport("compiled")
    except CompileError as error:
        if f"os error {errno.ENOMEM}" in str(error):
            return CompileReport("memory")
        return CompileReport("invalid", (_one_line(str(error)),))
    except MemoryError:
        return CompileReport("memory")
    except RecursionError:
        return CompileReport("invalid", ("its types are nested too deeply",))
    except OSError as error:
        if error.errno in (errno.EFBIG, errno.ENOMEM):
            return CompileReport("size" if error.errno == errno.EFBIG else "memory")
        raise


def _one_line(message: str) -> str:
    """The cause that the compiler gives, as part of a sentence; it may hold names from the component."""
    cause = " ".join(message.rpartition("Caused by:")[2].split()).rstrip(".")
    return cause.encode("unicode_escape").decode("ascii")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
