"""What `cloister kv` and `cloister r2` share: the store behind a tenant's binding, and files in and out."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

import click

from runtime.cli.client import AdminClient
from runtime.cli.errors import CommandError, ExitCode
from runtime.cli.options import connected, server_options

_CHUNK_BYTES = 256 * 1024
_PREFIXES = {"kv_namespace": "storage/kv/namespaces", "r2_bucket": "r2/buckets"}

_F = TypeVar("_F", bound=Callable[..., Any])


def binding_arguments(function: _F) -> _F:
    """The tenant and its binding, and where the server is: what `store` takes."""
    return click.argument("name")(click.argument("binding")(server_options(function)))


def store(kind: str, name: str, binding: str, **where: Any) -> tuple[AdminClient, str]:
    """A client, and the address below the account of the store behind the binding. Raises `CommandError`."""
    client, namespace = connected(**where)
    found = client.call_script("GET", namespace, name, f"/bindings/{quote(binding, safe='')}/store")
    if found["type"] != kind:
        raise CommandError(f"{binding} of {name} is a {found['type']}, not a {kind}.", exit_code=ExitCode.USAGE)
    return client, f"{_PREFIXES[kind]}/{quote(found['id'], safe='')}"


output_option = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file to write.  [default: standard output]",
)


def download(client: AdminClient, address: str, path: str, output: Path | None) -> None:
    """To the file, which is made or replaced when all is there, or to standard output."""
    if output is None:
        client.download(path, under=address, target=sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with tempfile.TemporaryFile() as file:
        client.download(path, under=address, target=file)
        file.seek(0)
        with output.open("wb") as target:
            shutil.copyfileobj(file, target)


@contextlib.contextmanager
def given(file: Path | None) -> Iterator[tuple[Iterator[bytes], int]]:
    """The content of a file, or of standard input, in pieces, and how many bytes it is."""
    with contextlib.ExitStack() as stack:
        if file is None:
            source: BinaryIO = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(sys.stdin.buffer, source)
        else:
            source = stack.enter_context(file.open("rb"))
        length = source.seek(0, 2)
        source.seek(0)
        yield iter(lambda: source.read(_CHUNK_BYTES), b""), length


def pages(client: AdminClient, address: str, path: str) -> Iterator[Any]:
    """All items of a listing; `path` has a query."""
    cursor = ""
    while True:
        envelope = client.page(f"{path}&cursor={quote(cursor, safe='')}", under=address)
        yield from envelope["result"]
        cursor = envelope["result_info"]["cursor"]
        if not cursor:
            return
