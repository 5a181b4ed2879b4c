"""The base of all workers: a component with CPython, the SDK and the standard modules, but no worker's code.

componentize-py makes it, which takes some seconds, once for each SDK, contract and toolchain. A worker is then built by
running its base until the worker's code is loaded (see `load_child`), which takes less than a second.

Workers that were built on the same base share its memory and its machine code on their host. Bases that were made
elsewhere differ, though the same went into them: Python hashes strings with a random key, which is part of the memory,
so that nobody can make up names that collide.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import multipart
import wasmtime
from wasmtime import component as wc

from guest_sdk.build.errors import BuildError
from guest_sdk.build.image import immortal_places, with_immortals
from guest_sdk.build.imports import imports_of, module_names, source_files
from guest_sdk.build.linking import link
from guest_sdk.build.snapshot import EXPORTS_USED, instrumented

_FORMAT = 2
"""Of what is kept with a base: changes whenever this package makes bases in another way."""

WORLD = "worker"
APPLICATION = "cloister_application"
MAKE_S_MAX = 300.0
UNUSED_S_MAX = 30 * 24 * 3600.0

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

LIBRARIES = ("python", "world", "bundled")
"""Folders in which Python looks for modules, besides those that the build gives: the standard library, the contract's
bindings, componentize-py's own modules."""

_KEPT = "/1"
"""The guest's folder for what is to be kept of the base's making; the worker's own code will be there."""

_CODE = "code.json"
_OBJECTS = "objects"
"""The file in it with the addresses of all objects."""

_GUEST = Path(__file__).parent / "guest"
"""Code for the guest, run while the base is made."""

MARK = "#cloister-build-error#"
"""Stands before and after what is told of a worker that does not load."""


@dataclass(frozen=True)
class Base:
    """A base in the cache."""

    key: str
    directory: Path

    @property
    def identity(self) -> str:
        """Of this base among all that were made of the same."""
        return f"{self.key} {(self.directory / 'sha256').read_text()}"

    @property
    def component(self) -> Path:
        return self.directory / "base.wasm"

    @property
    def machine_code(self) -> Path:
        """Of the instrumented base, for this machine."""
        return self.directory / f"instrumented-{version('wasmtime')}.code"

    @property
    def code(self) -> Path:
        """The file with the places of CPython's code objects in the memory, as JSON: [[address, size] …]."""
        return self.directory / _CODE

    @property
    def sdk(self) -> Path:
        return self.directory / "sdk"

    def library(self, name: str) -> Path:
        """The folder of one of `LIBRARIES`."""
        return self.directory / "libraries" / name


def base_key(wit_directory: Path) -> str:
    """Names everything that the base depends on, but not the base itself: see the module."""
    state = hashlib.sha256(f"{_FORMAT} {version('componentize-py')} {STANDARD} {LIBRARIES}".encode())
    for folder in (*sdk_folders(), _GUEST):
        add_files(state, folder, source_files(folder))
    add_files(state, wit_directory, sorted(wit_directory.rglob("*.wit")))
    state.update(Path(multipart.__file__).read_bytes())
    return state.hexdigest()[:40]


def add_files(state: hashlib._Hash, root: Path, files: list[Path] | tuple[Path, ...]) -> None:
    """Adds names and contents to a digest."""
    for path in files:
        data = path.read_bytes()
        state.update(f"\0{path.relative_to(root)}\0{len(data)}\0".encode())
        state.update(data)


def is_provided(wit_directory: Path, directory: Path) -> bool:
    """Whether `provide` has nothing to make."""
    key = base_key(wit_directory)
    return Base(key, directory / key).machine_code.is_file()


def provide(wit_directory: Path, directory: Path) -> Base:
    """The base in the cache folder `directory`, made if it is not there. Raises `BuildError`."""
    key = base_key(wit_directory)
    base = Base(key, directory / key)
    if not base.machine_code.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory / f"{key}.lock"):
            if not base.component.is_file():
                _make(base, wit_directory)
            if not base.machine_code.is_file():
                _compile(base)
            sweep(directory)
    os.utime(base.directory)
    return base


def sweep(directory: Path) -> None:
    """Deletes bases, of older SDKs say, that no build has used for `UNUSED_S_MAX`."""
    for path in directory.iterdir():
        if path.is_dir() and time.time() - path.stat().st_mtime > UNUSED_S_MAX:
            shutil.rmtree(path, ignore_errors=True)


def sdk_folders() -> list[Path]:
    """The folders of `workers` and `pyodide`."""
    found = []
    for name in ("workers", "pyodide"):
        specification = importlib.util.find_spec(name)
        if specification is None or specification.origin is None:
            raise BuildError(f"The SDK is not installed completely: the package {name} is missing.")
        found.append(Path(specification.origin).parent)
    return found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process makes a base; others wait for it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(base: Base, wit_directory: Path) -> None:
    with tempfile.TemporaryDirectory(dir=base.directory.parent) as scratch:
        stage, made = Path(scratch) / "stage", Path(scratch) / "made"
        sdk, kept, packages = made / "sdk", made / "libraries", stage / "packages"
        for folder in (sdk, kept, packages):
            folder.mkdir(parents=True)
        for folder in sdk_folders():
            shutil.copytree(folder, sdk / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copyfile(multipart.__file__, sdk / "multipart.py")
        files = source_files(sdk)
        modules = sorted({*STANDARD, *imports_of(files).required, *module_names(sdk, files)})
        for path in _GUEST.glob("*.py"):
            shutil.copyfile(path, sdk / path.name)
        parameters = {"MODULES": modules, "MARK": MARK, "LIBRARIES": LIBRARIES, "KEPT": _KEPT, "OBJECTS": _OBJECTS}
        text = "".join(f"{name} = {value!r}\n" for name, value in parameters.items())
        (sdk / "cloister_parameters.py").write_text(text)
        component = made / "base.wasm"
        _componentize([sdk, kept, packages], wit_directory, stage, component)
        immortal, *numbers = map(int, (kept / _OBJECTS).read_text().split())
        objects = list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))
        made_of = with_immortals(component.read_bytes(), ((address, kind) for address, kind, _ in objects), immortal)
        made_of = link(made_of, EXPORTS_USED)
        component.write_bytes(made_of)
        code = immortal_places(made_of, (placed for placed in objects if placed[2]))
        (made / _CODE).write_text(json.dumps(code))
        (made / "sha256").write_text(hashlib.sha256(made_of).hexdigest())
        if base.directory.exists():
            shutil.rmtree(base.directory)
        made.rename(base.directory)


def _componentize(paths: list[Path], wit_directory: Path, stage: Path, output: Path) -> None:
    """Runs componentize-py with these folders, which the guest knows as /0, /1 and so on."""
    # componentize-py would add the packages of the Python that it finds, and let code write to them.
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
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=MAKE_S_MAX, check=False
        )
    except FileNotFoundError:
        raise BuildError("componentize-py is not installed: pip install componentize-py==0.25.1") from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"componentize-py took longer than {MAKE_S_MAX:.0f} s.") from None
    if finished.returncode != 0 or not output.is_file():
        raise BuildError("componentize-py failed.", (finished.stderr + finished.stdout).strip()[-8000:])


def _compile(base: Base) -> None:
    engine = wasmtime.Engine()
    code = wc.Component(engine, instrumented(base.component.read_bytes())).serialize()
    draft = base.machine_code.with_suffix(".draft")
    draft.write_bytes(code)
    draft.replace(base.machine_code)
