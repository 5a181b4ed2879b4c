"""Makes the component: stages the sources, runs componentize-py in a process of its own, caches by content."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import multipart

from guest_sdk.build.configuration import ConfigurationError, read_configuration
from guest_sdk.build.dependencies import install, read_dependencies
from guest_sdk.build.errors import BuildError
from guest_sdk.build.imports import Imports, find_import, imports_of, module_names, source_files

__all__ = ["BuildError", "build", "default_cache"]

WORLD = "worker"
APPLICATION = "cloister_application"
BUILD_S_MAX = 300.0

# Modules of the standard library that are imported late by others, or that workers expect to be there.
STANDARD = (
    "base64",
    "bisect",
    "calendar",
    "collections.abc",
    "contextlib",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "difflib",
    "email.message",
    "email.utils",
    "encodings.ascii",
    "encodings.base64_codec",
    "encodings.cp1252",
    "encodings.hex_codec",
    "encodings.idna",
    "encodings.iso8859_15",
    "encodings.latin_1",
    "encodings.punycode",
    "encodings.unicode_escape",
    "encodings.utf_16",
    "encodings.utf_16_be",
    "encodings.utf_16_le",
    "encodings.utf_32",
    "encodings.utf_8_sig",
    "enum",
    "fractions",
    "functools",
    "gzip",
    "hashlib",
    "heapq",
    "hmac",
    "html",
    "html.parser",
    "http.cookies",
    "io",
    "itertools",
    "json",
    "logging",
    "math",
    "operator",
    "pathlib",
    "pprint",
    "random",
    "re",
    "secrets",
    "statistics",
    "string",
    "struct",
    "textwrap",
    "time",
    "traceback",
    "types",
    "typing",
    "unicodedata",
    "urllib.parse",
    "uuid",
    "weakref",
    "xml.etree.ElementTree",
    "zlib",
    "zoneinfo",
)

_APPLICATION_TEXT = '''\
"""Made by the build: brings the worker's modules into the component and its code behind the component's exports."""

import importlib
import sys
import traceback

REQUIRED = {required!r}
OPTIONAL = {optional!r}


def load(name, wanted):
    try:
        return importlib.import_module(name)
    except BaseException as error:
        if not wanted:
            return None
        print("\\n{mark} " + type(error).__name__ + ": " + str(error).replace("\\n", " "), file=sys.stderr)
        traceback.print_exc()
        print("{mark}", file=sys.stderr)
        raise


for name in OPTIONAL:
    load(name, False)
main = load({main!r}, True)
for name in REQUIRED:
    load(name, True)

from workers.runtime import Worker


class Handler(Worker):
    def __init__(self):
        super().__init__(main)


try:
    Worker(main)
except TypeError as error:
    print("\\n{mark} " + str(error), file=sys.stderr)
    raise
'''

_MARK = "#cloister-build-error#"


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
    progress: Callable[[str], None] | None = None,
) -> Path:
    """The component of the worker in a folder.

    Made by componentize-py (some seconds) unless the cache has it for the same sources, packages, SDK, contract and
    toolchain. With `output` it is copied there. `progress` is told what is going on, a phrase at a time. Raises
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
    built = cache / "components" / f"{_key(sources, wit_directory)}.wasm"
    if not built.is_file():
        tell("compiling to WebAssembly")
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=built.parent) as scratch:
            made = Path(scratch) / "component.wasm"
            _componentize(sources, wit_directory, Path(scratch) / "stage", made)
            made.replace(built)
    if output is None:
        return built
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        copy = Path(scratch) / output.name
        shutil.copyfile(built, copy)
        copy.replace(output)
    return output


def _sdk_folders() -> list[Path]:
    """The folders of `workers` and `pyodide`."""
    found = []
    for name in ("workers", "pyodide"):
        specification = importlib.util.find_spec(name)
        if specification is None or specification.origin is None:
            raise BuildError(f"The SDK is not installed completely: the package {name} is missing.")
        found.append(Path(specification.origin).parent)
    return found


def _key(sources: _Sources, wit_directory: Path) -> str:
    """Names everything that the component depends on."""
    state = hashlib.sha256(f"{version('componentize-py')} {sources.main} {_APPLICATION_TEXT}".encode())

    def add(root: Path, files: list[Path] | tuple[Path, ...]) -> None:
        for path in files:
            data = path.read_bytes()
            state.update(f"\0{path.relative_to(root)}\0{len(data)}\0".encode())
            state.update(data)

    add(sources.root, sources.files)
    for folder in [*_sdk_folders(), *([sources.packages] if sources.packages else [])]:
        add(folder, source_files(folder))
    add(wit_directory, sorted(wit_directory.rglob("*.wit")))
    state.update(Path(multipart.__file__).read_bytes())
    return state.hexdigest()[:40]


def _stage(sources: _Sources, stage: Path) -> list[Path]:
    """Lays everything out; the folders for componentize-py's path, first come first found."""
    sdk, own, packages = stage / "sdk", stage / "worker", stage / "packages"
    if sources.packages is not None:
        # A copy: the worker's code can write to what it is given, and the cache is shared.
        shutil.copytree(sources.packages, packages, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in _sdk_folders():
        shutil.copytree(folder, sdk / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(multipart.__file__, sdk / "multipart.py")
    for path in sources.files:
        target = own / path.relative_to(sources.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    own_imports = imports_of(sources.files)
    package_files = source_files(sources.packages) if sources.packages else []
    package_imports = imports_of(package_files)
    sdk_imports = imports_of(source_files(sdk))
    required = [*module_names(sources.root, sources.files), *sorted(_absolute(own_imports))]
    optional = sorted(
        {*STANDARD, *own_imports.optional, *sdk_imports.required, *package_imports.required, *package_imports.optional}
        | set(module_names(sources.packages, package_files) if sources.packages else ())
    )
    application = _APPLICATION_TEXT.format(required=required, optional=optional, main=sources.main, mark=_MARK)
    (sdk / f"{APPLICATION}.py").write_text(application)
    return [sdk, own, *([packages] if sources.packages is not None else [])]


def _absolute(found: Imports) -> set[str]:
    return {name for name in found.required if not name.startswith(("wit_world", "componentize_py"))}


def _componentize(sources: _Sources, wit_directory: Path, stage: Path, output: Path) -> None:
    """Runs componentize-py. Raises `BuildError` with the worker's own traceback if its code does not load."""
    paths = _stage(sources, stage)
    # componentize-py would add the packages of the Python that it finds, and let the worker's code write to them.
    environment_folder = stage / "environment"
    (environment_folder / "lib" / "site-packages").mkdir(parents=True)
    tool = Path(sys.executable).parent / "componentize-py"
    command = [str(tool) if tool.exists() else "componentize-py", "-d", str(wit_directory), "-w", WORLD, "componentize"]
    for path in paths:
        command += ["-p", str(path)]
    command += [APPLICATION, "-o", str(output)]
    environment = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR", "LANG", "SYSTEMROOT")}
    environment["VIRTUAL_ENV"] = str(environment_folder)
    try:
        finished = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=BUILD_S_MAX, check=False
        )
    except FileNotFoundError:
        raise BuildError("componentize-py is not installed: pip install componentize-py==0.25.1") from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"The worker's modules took longer than {BUILD_S_MAX:.0f} s to load.") from None
    if finished.returncode == 0 and output.is_file():
        return
    said = finished.stderr + finished.stdout
    if _MARK not in said and "called trapping stub: cloister:worker/" in said:
        raise BuildError(
            "The worker uses a binding while it is built. Bindings are there only while a call is handled."
        )
    if _MARK not in said:
        raise BuildError("componentize-py failed.", said.strip()[-8000:])
    head, _, rest = said.partition(_MARK)[2].partition("\n")
    traceback = rest.partition(_MARK)[0].strip()
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
    # componentize-py mounts the folders of its path under /0, /1, …: 0 is the SDK, 1 the worker, 2 the packages.
    text = re.sub(r'"/1/', f'"{sources.root}/', traceback)
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if f'"{sources.root}/' in line]
    if lines and lines[0].startswith("Traceback"):
        lines = [lines[0], *lines[starts[0] :]] if starts else lines[-1:]
    return "\n".join(lines)
