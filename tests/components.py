"""Components for tests: built from source with componentize-py, compiled, and cached by content.

The cache is under the user's cache folder and may be deleted at any time; a test never needs it to be warm.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from host_bindings import WIT_DIRECTORY
from runtime.engine.compile import compile_component, fingerprint

GUESTS = Path(__file__).parent / "guests"


def cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    directory = Path(base) / "cloister" / "test-components"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def raw_component(name: str) -> Path:
    """The component of `guests/NAME/app.py`, which speaks the contract itself, without the SDK."""
    source = GUESTS / name
    state = hashlib.sha256(version("componentize-py").encode())
    for path in [*sorted(WIT_DIRECTORY.rglob("*.wit")), *sorted(source.rglob("*.py"))]:
        state.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    output = cache_directory() / f"{name}-{state.hexdigest()[:24]}.wasm"
    if not output.exists():
        with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
            made = Path(scratch) / "made.wasm"
            command = [str(Path(sys.executable).parent / "componentize-py"), "-d", str(WIT_DIRECTORY), "-w", "worker"]
            command += ["componentize", "-p", str(source), "app", "-o", str(made)]
            subprocess.run(command, check=True, capture_output=True)
            made.replace(output)
    return output


def machine_code(component: Path) -> Path:
    """The component's machine code for this engine, as one file."""
    wasm = component.read_bytes()
    output = cache_directory() / f"{hashlib.sha256(wasm).hexdigest()[:24]}-{fingerprint()}.cwasm"
    if not output.exists():
        with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
            made = Path(scratch) / "made.cwasm"
            made.write_bytes(compile_component(wasm))
            made.replace(output)
    return output
