"""Makes the component: stages the sources, loads them into the base in a process of its own, caches by content."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from guest_sdk.build.base import LIBRARIES, MARK, Base, add_files, is_provided, provide
from guest_sdk.build.configuration import ConfigurationError, read_configuration
from guest_sdk.build.dependencies import install, read_dependencies
from guest_sdk.build.errors import BuildError
from guest_sdk.build.imports import Imports, find_import, imports_of, module_names, source_files
from guest_sdk.build.load_job import NO_BINDINGS, LoadJob

__all__ = ["BuildError", "build", "default_cache"]

LOAD_S_MAX = 300.0

_IMPORT_ROOT = Path(__file__).parents[2]
"""Where the loading process finds this package."""


@dataclass(frozen=True)
class _Sources:
    """What goes into a component."""

    root: Path
    main: str
    files: tuple[Path, ...]
    packages: Path | None


def default_cache() -> Path:
    """The user's cache folder; safe to delete."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cloister"


def build(
    project: Path,
    *,
    wit_directory: Path,
    output: Path | None = None,
    cache: Path | None = None,
    bases: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """The component of the worker in a folder.

    Its code is loaded into a base (see `base`), which is made first if the folder `bases` does not have it for this
    SDK, contract and toolchain; that takes some seconds. A component with the same sources, packages and base comes
    from the cache. With `output` it is copied there. `progress` is told what is going on, a phrase at a time. Raises
    `BuildError` and `ConfigurationError`.
    """
    tell = progress or (lambda _phrase: None)
    configuration = read_configuration(project)
    cache = cache or default_cache()
    dependencies = read_dependencies(project)
    if dependencies:
        tell("installing packages")
    packages = install(dependencies, cache)
    main = configuration.main.resolve()
    if not main.stem.isidentifier():
        raise ConfigurationError(f"{main.name}: the main file's name must be a Python identifier.")
    sources = _Sources(main.parent, main.stem, tuple(source_files(main.parent)), packages)
    bases = bases or default_cache() / "bases"
    if not is_provided(wit_directory, bases):
        tell("making the base of all workers")
    base = provide(wit_directory, bases)
    built = cache / "components" / f"{_key(sources, base)}.wasm"
    if not built.is_file():
        tell("compiling to WebAssembly")
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=built.parent) as scratch:
            made = Path(scratch) / "component.wasm"
            _load(sources, base, Path(scratch) / "stage", made)
            made.replace(built)
    if output is None:
        return built
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        copy = Path(scratch) / output.name
        shutil.copyfile(built, copy)
        copy.replace(output)
    return output


def _key(sources: _Sources, base: Base) -> str:
    """Names everything that the component depends on."""
    state = hashlib.sha256(f"{base.identity} {sources.main} ".encode())
    add_files(state, sources.root, sources.files)
    if sources.packages is not None:
        add_files(state, sources.packages, source_files(sources.packages))
    return state.hexdigest()[:40]


def _stage(sources: _Sources, stage: Path) -> dict[str, Path]:
    """Lays out what the worker's code may write to, by the guest's folder."""
    own, packages = stage / "worker", stage / "packages"
    packages.mkdir(parents=True)
    if sources.packages is not None:
        # A copy: the worker's code can write to what it is given, and the cache is shared.
        shutil.copytree(sources.packages, packages, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for path in sources.files:
        target = own / path.relative_to(sources.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return {"1": own, "2": packages}


def _wanted(sources: _Sources) -> str:
    """What the base's application has to load."""
    own_imports = imports_of(sources.files)
    package_files = source_files(sources.packages) if sources.packages else []
    package_imports = imports_of(package_files)
    optional = {*own_imports.optional, *package_imports.required, *package_imports.optional}
    if sources.packages is not None:
        optional.update(module_names(sources.packages, package_files))
    required = [*module_names(sources.root, sources.files), *sorted(_absolute(own_imports))]
    return json.dumps({"main": sources.main, "required": required, "optional": sorted(optional)})


def _absolute(found: Imports) -> set[str]:
    return {name for name in found.required if not name.startswith(("wit_world", "componentize_py"))}


def _load(sources: _Sources, base: Base, stage: Path, output: Path) -> None:
    """Loads the worker into its base. Raises `BuildError` with the worker's own traceback if its code does not load."""
    folders = _stage(sources, stage)
    said = (stage / "stderr", stage / "stdout")
    job = LoadJob(
        base=str(base.component),
        machine_code=str(base.machine_code),
        code=str(base.code),
        folders={name: str(base.library(name)) for name in LIBRARIES} | {"0": str(base.sdk)},
        writable={name: str(folder) for name, folder in folders.items()},
        wanted=_wanted(sources),
        output=str(output),
        stdout=str(said[1]),
        stderr=str(said[0]),
    )
    command = [sys.executable, "-s", "-P", "-m", "guest_sdk.build.load_child", str(os.getpid())]
    command.append(msgspec.json.encode(job).decode())
    environment = {**os.environ, "PYTHONPATH": str(_IMPORT_ROOT)}
    try:
        finished = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=LOAD_S_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"The worker's modules took longer than {LOAD_S_MAX:.0f} s to load.") from None
    if finished.returncode == 0 and output.is_file():
        return
    told = "".join(path.read_text(errors="replace") for path in said if path.is_file())
    if MARK not in told and NO_BINDINGS in finished.stderr:
        raise BuildError(
            "The worker uses a binding while it is built. Bindings are there only while a call is handled."
        )
    if MARK not in told:
        raise BuildError("The worker does not load.", f"{told}\n{finished.stderr}".strip()[-8000:])
    head, _, rest = told.partition(MARK)[2].partition("\n")
    traceback = rest.partition(MARK)[0].strip()
    reason = _with_hint(head.strip(), sources)
    raise BuildError(f"The worker does not load: {reason}", _readable(traceback, sources))


def _with_hint(reason: str, sources: _Sources) -> str:
    """The reason, for a missing module with the place that names it and what can be done."""
    missing = re.fullmatch(r"ModuleNotFoundError: No module named '([^']+)'(?:; .*)?", reason)
    if missing is None:
        return reason
    name = missing[1]
    place = find_import(sources.root, sources.files, name)
    hint = "Name its package in the dependencies of pyproject.toml, or put it beside the main file."
    if name.partition(".")[0] in ("js", "pyodide_js"):
        hint = "There is no JavaScript here; use the workers package."
    return f"{reason}{f' ({place})' if place else ''}. {hint}"


def _readable(traceback: str, sources: _Sources) -> str:
    """The traceback with the developer's paths, without the build's own frames."""
    # The guest's folder /0 has the SDK, /1 the worker, /2 the packages.
    text = re.sub(r'"/1/', f'"{sources.root}/', traceback)
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if f'"{sources.root}/' in line]
    if lines and lines[0].startswith("Traceback"):
        lines = [lines[0], *lines[starts[0] :]] if starts else lines[-1:]
    return "\n".join(lines)
