"""Pure-Python packages that a worker's pyproject.toml names, installed into the cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from guest_sdk.build.errors import BuildError

NATIVE = (".so", ".pyd", ".dylib")


def read_dependencies(project: Path) -> list[str]:
    """`project.dependencies` of the folder's pyproject.toml; empty without one. Raises `BuildError`."""
    file = project / "pyproject.toml"
    if not file.is_file():
        return []
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BuildError(f"{file}: {error}") from None
    found = content.get("project", {}).get("dependencies", [])
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        raise BuildError(f"{file}: project.dependencies must be a list of texts.")
    return sorted(found)


def install(dependencies: list[str], cache: Path) -> Path | None:
    """The folder with the packages, None if there are none. Raises `BuildError` for one that is not pure Python."""
    if not dependencies:
        return None
    key = hashlib.sha256("\n".join(dependencies).encode()).hexdigest()[:24]
    target = cache / "dependencies" / key
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / "packages"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        command += ["--target", str(made), "--only-binary", ":all:", "--", *dependencies]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if finished.returncode:
            reason = finished.stderr.strip().splitlines()[-1:] or ["pip gave no reason"]
            raise BuildError(f"The dependencies {', '.join(dependencies)} cannot be installed: {reason[0]}")
        native = next((path for path in sorted(made.rglob("*")) if path.suffix in NATIVE), None)
        if native is not None:
            package = native.relative_to(made).parts[0]
            raise BuildError(
                f"The package {package} is not pure Python (it has {native.name}), and only such packages run in a "
                "worker. Remove it from the dependencies in pyproject.toml, or use a pure-Python alternative."
            )
        shutil.rmtree(made / "bin", ignore_errors=True)
        try:
            made.rename(target)
        except OSError:
            # Another build was faster; its packages are the same.
            if not target.is_dir():
                raise
    return target
