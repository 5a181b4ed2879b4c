"""A copy of a data directory while servers use it: which parts there are, and in which order they are copied.

Every part is as it is at one moment during the copy, and has all that was acknowledged before the copy began. The
registry comes before the stores, so that no store that it names is missing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from host_bindings.d1.copying import copy_d1
from host_bindings.kv.store import FILE_NAME as KV_FILE
from host_bindings.r2.copying import copy_bucket
from host_bindings.storage.copying import copy_database, copy_file
from host_bindings.storage.directories import make_directory
from runtime.settings import FILE_NAME as SETTINGS_FILE
from runtime.settings import ServerSettings

FORMAT = 1
MANIFEST = "backup.json"

_HIDDEN = ".deleted"
"""How the names of stores end that are being deleted."""


def _copy_kv(source: Path, target: Path) -> None:
    copy_database(source / KV_FILE, target / KV_FILE)


_STORES: dict[str, Callable[[Path, Path], None]] = {"kv_namespace": _copy_kv, "r2_bucket": copy_bucket, "d1": copy_d1}


def copy_data(source: ServerSettings, target: ServerSettings, progress: Callable[[str], None]) -> dict[str, int]:
    """Copies one data directory to another, which is empty. How many there are of each kind of part.

    `progress` is told what is going on, a phrase at a time. Raises `OSError`, `apsw.Error`, `BucketInFlux`.
    """
    progress("the registry and components")
    # Twice: what the registry names was there before it or has come since, for new components are not collected.
    _copy_artifacts(source, target)
    keys = _content(source.secrets_key_path)
    copy_database(source.registry_path, target.registry_path)
    counts = {"components": _copy_artifacts(source, target)}
    for path in (source.admin_token_path, source.secrets_key_path, source.stops_path, source.data / SETTINGS_FILE):
        with suppress(FileNotFoundError):
            copy_file(path, target.data / path.name)
    if keys and keys != _content(source.secrets_key_path):
        # The key was replaced meanwhile: one of these is the registry's, and a file may have several.
        with (target.data / source.secrets_key_path.name).open("ab") as file:
            file.write(b"\n" + keys)
            file.flush()
            os.fsync(file.fileno())
    with suppress(FileNotFoundError):
        usage = "usage.sqlite"
        copy_database(source.telemetry_directory / usage, target.telemetry_directory / usage)
    for kind, copy in _STORES.items():
        counts[kind] = 0
        for store in sorted(source.resources_directory.glob(f"*/{kind}/*")):
            if not store.name.endswith(_HIDDEN) and _copy_store(store, target, source, copy):
                counts[kind] += 1
                progress(f"stores: {sum(counts.values()) - counts['components']}")
    manifest = {
        "format": FORMAT,
        "cloister": version("cloister"),
        "created_on": datetime.now(UTC).isoformat(timespec="seconds"),
        **counts,
    }
    (target.data / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return counts


def read_manifest(directory: Path) -> dict[str, object]:
    """What a backup says of itself. Raises ValueError if it is none, or of a format that this release does not know."""
    try:
        manifest: dict[str, object] = json.loads((directory / MANIFEST).read_bytes())
        format = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"it has no {MANIFEST}, so it is no backup, or not all of one") from None
    if format != FORMAT:
        raise ValueError(f"it has the format {format}; this release of Cloister knows {FORMAT}")
    return manifest


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _copy_store(
    store: Path, target: ServerSettings, source: ServerSettings, copy: Callable[[Path, Path], None]
) -> bool:
    """False if it is being deleted, or nothing has been stored in it yet."""
    copied = target.resources_directory / store.relative_to(source.resources_directory)
    try:
        copy(store, copied)
    except FileNotFoundError:
        shutil.rmtree(copied, ignore_errors=True)
        return False
    return True


def _copy_artifacts(source: ServerSettings, target: ServerSettings) -> int:
    """Those that are not there yet. How many components there are now."""
    # An artifact names modules, so it comes before them.
    for folder in ("artifacts", "modules"):
        made = target.artifacts_directory / folder
        make_directory(made)
        for entry in sorted((source.artifacts_directory / folder).glob("*")):
            if not (made / entry.name).exists():
                _copy_entry(entry, made / entry.name)
    return sum(1 for _ in (target.artifacts_directory / "artifacts").iterdir())


def _copy_entry(entry: Path, copied: Path) -> None:
    try:
        if entry.is_dir():
            for file in sorted(entry.iterdir()):
                copy_file(file, copied / file.name)
        else:
            copy_file(entry, copied)
    except FileNotFoundError:  # collected meanwhile: nothing needs it
        shutil.rmtree(copied, ignore_errors=True)
