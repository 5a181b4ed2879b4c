"""`cloister backup` and `cloister restore`: a data directory in one file or folder, and back."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import click

from runtime.cli.data_directory import owned_data_directory
from runtime.cli.errors import CommandError, ExitCode
from runtime.cli.options import config_option, data_option, json_option
from runtime.cli.output import print_json
from runtime.cli.terminal import step
from runtime.settings import ServerSettings, read_settings

_ARCHIVE = ".tar.zst"


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@config_option
@data_option
@json_option
def backup(target: Path, config: Path | None, data: Path | None, as_json: bool) -> None:
    """Copy the data directory to TARGET, a file NAME.tar.zst or a folder, while the server runs or not.

    All that was acknowledged before the copy began is in it: code, settings, what tenants have stored, the admin token
    and the key of the secrets. Keep it where nobody else can read it.
    """
    if target.exists() or target.is_symlink():
        raise CommandError(f"{target} is there already.", solution="Name another target.", exit_code=ExitCode.USAGE)
    source = owned_data_directory(config, data)
    with step(f"Backing up {source.data}") as progress, _draft(target) as draft:
        counts = _copy(source, draft, progress.at)
        try:
            _finish(draft, target, progress.at)
        except OSError as error:
            raise CommandError("The backup was given up.", str(error)) from error
        progress.note = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    if as_json:
        print_json({"backup": str(target), **counts})
    else:
        click.echo(str(target))


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The data directory to make. It must be empty, or not be there.",
)
@json_option
def restore(source: Path, data: Path, as_json: bool) -> None:
    """Make a data directory from SOURCE, which `cloister backup` has made. Then start the server on it."""
    from runtime.cli.data_copy import MANIFEST, read_manifest

    settings = read_settings(data=data)
    data = settings.data
    if data.exists() and any(data.iterdir()):
        raise CommandError(
            f"{data} is not empty.", "A restore never replaces data.", "Name a new directory.", ExitCode.USAGE
        )
    with step(f"Restoring {data}") as progress, _draft(data) as draft:
        try:
            if source.is_dir():
                shutil.copytree(source, draft)
            else:
                _unpack(source, draft)
            manifest = read_manifest(draft)
            (draft / MANIFEST).unlink()
            _close_to_others(draft)
            _put_in_place(draft, data)
        except (ValueError, tarfile.TarError, OSError) as error:
            raise CommandError(f"{source} cannot be restored.", str(error)) from error
        progress.note = f"as it was on {manifest.get('created_on')}"
    if as_json:
        print_json({"data": str(data), "created_on": manifest.get("created_on")})
    else:
        click.echo(str(data))


@contextlib.contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A name beside the target, for what is not whole yet; what is left under it goes at the end."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        yield draft
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def _copy(source: ServerSettings, draft: Path, progress: Callable[[str], None]) -> dict[str, int]:
    import apsw

    from host_bindings.r2.copying import BucketInFlux
    from runtime.cli.data_copy import copy_data

    try:
        draft.mkdir(mode=0o700, parents=True)
        return copy_data(source, replace(source, data=draft), progress)
    except BucketInFlux:
        raise CommandError(
            "The backup was given up.",
            "In a bucket objects were deleted faster than they could be copied.",
            "Try again when there is less to do, or stop the server first.",
        ) from None
    except (OSError, apsw.Error) as error:
        raise CommandError("The backup was given up.", str(error)) from error


def _finish(draft: Path, target: Path, progress: Callable[[str], None]) -> None:
    if not target.name.endswith(_ARCHIVE):
        _put_in_place(draft, target)
        return
    progress("packing")
    with _draft(target) as packed:
        _pack(draft, packed)
        _put_in_place(packed, target)


def _put_in_place(draft: Path, target: Path) -> None:
    _sync(draft)
    if target.is_dir():
        target.rmdir()  # it is empty
    draft.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pack(folder: Path, archive: Path) -> None:
    import zstandard

    descriptor = os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    with (
        open(descriptor, "wb") as file,
        compressor.stream_writer(file) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        tar.add(folder, arcname=".")


def _unpack(archive: Path, folder: Path) -> None:
    """Raises ValueError, `OSError` or `tarfile.TarError` for what is no archive, or not all of one."""
    import zstandard

    if not hasattr(tarfile, "data_filter"):
        raise ValueError("this Python cannot unpack archives safely; 3.11.4 and later can")
    folder.mkdir(mode=0o700, parents=True)
    try:
        with (
            archive.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file) as unpacked,
            tarfile.open(fileobj=unpacked, mode="r|") as tar,
        ):
            # The filter refuses links and names that lead out of the folder.
            tar.extractall(folder, filter="data")
    except zstandard.ZstdError as error:
        raise ValueError(f"it is no archive, or a damaged one: {error}") from error


def _close_to_others(folder: Path) -> None:
    """Everything on disk and for this user alone, whatever rights the backup came with."""
    for directory, _, files in os.walk(folder):
        for name in files:
            path = Path(directory, name)
            path.chmod(0o600)
            _sync(path)
        os.chmod(directory, 0o700)
        _sync(Path(directory))
