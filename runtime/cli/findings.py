"""What `cloister doctor` looks at. Nothing is changed, but for a small file that is written, synced and deleted."""

from __future__ import annotations

import http.client
import os
import platform
import resource
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import apsw

from host_bindings import confinement
from runtime.registry.migrations import MIGRATIONS
from runtime.settings import MIB, Reading, ServerSettings

PYTHON_MIN = (3, 11)
FREE_BYTES_MIN = 1024 * MIB
OPEN_FILES_MIN = 4_096
NODE_MIN = 20
_ANSWER_S = 2.0


@dataclass(frozen=True)
class Finding:
    """`advice` says what to do; empty if all is well."""

    state: Literal["ok", "warning", "problem"]
    subject: str
    found: str
    advice: str = ""


def examine(reading: Reading) -> list[Finding]:
    """All findings, in a fixed order."""
    settings = reading.settings
    return [
        _python(),
        _wasmtime(),
        _machine(),
        _confinement(settings),
        _open_files(),
        _settings_file(reading),
        *_data_directory(settings),
        _private_file("admin token", settings.admin_token_path, given=settings.admin_token is not None),
        _private_file(
            "secrets key", settings.secrets_key_file or settings.secrets_key_path, given=bool(settings.secrets_key)
        ),
        _registry(settings),
        _code_cache(settings),
        _port("tenants' port", settings.host, settings.port, management=False),
        _port("management port", settings.admin_host, settings.admin_port, management=True),
        _upstream(settings.upstream),
        _node(),
    ]


# The installation and the machine


def _python() -> Finding:
    found = platform.python_version()
    if sys.version_info < PYTHON_MIN:
        return Finding("problem", "Python", found, "Install Python 3.11 or later.")
    return Finding("ok", "Python", found)


def _wasmtime() -> Finding:
    """The one package that has to fit to the letter, since parts below its interface are used."""
    wanted = next(text for text in metadata.requires("cloister") or () if text.startswith("wasmtime"))
    found = metadata.version("wasmtime")
    floor = _numbers(wanted.partition(">=")[2].partition(",")[0])
    if _numbers(found) < floor or _numbers(found)[:2] != floor[:2]:
        return Finding("problem", "wasmtime", f"{found}, but {wanted} is needed", "Run `./just --prepare`.")
    return Finding("ok", "wasmtime", found)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _machine() -> Finding:
    found = f"{platform.system()} {platform.release()} on {platform.machine()}"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return Finding("problem", "machine", found, "Cloister is made for Linux on x86-64.")
    return Finding("ok", "machine", found)


def _confinement(settings: ServerSettings) -> Finding:
    found = confinement.available()
    shown = f"Landlock {found.landlock or 'missing'}, seccomp {'there' if found.system_calls else 'missing'}"
    if settings.confinement == "off":
        return Finding("warning", "second wall", "switched off", "Remove CLOISTER_CONFINEMENT=off.")
    if found.is_whole:
        return Finding("ok", "second wall", shown)
    advice = "Use a kernel with Landlock (5.13) and seccomp, or a container that lets them through."
    return Finding("problem" if settings.confinement == "require" else "warning", "second wall", shown, advice)


def _open_files() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES_MIN:
        advice = f"Raise it to {OPEN_FILES_MIN} or more (`ulimit -n`, LimitNOFILE=)."
        return Finding("warning", "open files", found, advice)
    return Finding("ok", "open files", found)


def _node() -> Finding:
    program = shutil.which("node")
    if program is None:
        return Finding("ok", "Node.js", "not there; only the parity tests and benchmarks need it")
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_ANSWER_S, check=True)  # noqa: S603
        found = answer.stdout.strip()
        major = int(found.removeprefix("v").partition(".")[0])
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return Finding("warning", "Node.js", f"does not run: {error}", "Only the parity tests and benchmarks need it.")
    if major < NODE_MIN:
        return Finding("warning", "Node.js", found, f"The parity tests and benchmarks need {NODE_MIN} or later.")
    return Finding("ok", "Node.js", found)


# The data


def _settings_file(reading: Reading) -> Finding:
    """Whoever may write it decides what the server runs."""
    if reading.file is None:
        return Finding("ok", "settings file", "none")
    status = reading.file.stat()
    if status.st_mode & 0o002 or status.st_uid not in (0, os.geteuid()):
        found = f"{reading.file} can be changed by others ({stat.S_IMODE(status.st_mode):04o}, user {status.st_uid})"
        return Finding(
            "warning", "settings file", found, f"Give it to root or the server's user; chmod o-w {reading.file}"
        )
    return Finding("ok", "settings file", str(reading.file))


def _data_directory(settings: ServerSettings) -> Iterator[Finding]:
    data = settings.data
    place = next(path for path in (data, *data.parents) if path.exists())
    if place != data:
        yield Finding("ok", "data directory", f"{data} is made at the first start")
    elif not data.is_dir():
        yield Finding("problem", "data directory", f"{data} is a file", "Name a directory with CLOISTER_DATA.")
        return
    else:
        yield _rights(data)
    free = shutil.disk_usage(place).free
    advice = "" if free >= FREE_BYTES_MIN else "Make room, or name a directory on another disk with CLOISTER_DATA."
    yield Finding("warning" if advice else "ok", "free space", f"{free / 1e9:.1f} GB", advice)
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".doctor-") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield Finding("problem", "writing", f"{place}: {error.strerror}", "Let the server's user write there.")
    else:
        yield Finding("ok", "writing", "a file was written, synced and deleted")


def _rights(data: Path) -> Finding:
    status = data.stat()
    if status.st_uid != os.geteuid():
        return Finding(
            "problem", "data directory", f"{data} belongs to user {status.st_uid}", "Run this as the server's user."
        )
    if status.st_mode & 0o077:
        found = f"{data} is open to others ({stat.S_IMODE(status.st_mode):04o})"
        return Finding("warning", "data directory", found, f"chmod 700 {data} (the next start does it)")
    return Finding("ok", "data directory", str(data))


def _private_file(subject: str, path: Path, *, given: bool) -> Finding:
    if given:
        return Finding("ok", subject, "from the settings")
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return Finding("ok", subject, "is made at the first start")
    except OSError as error:
        return Finding("problem", subject, f"{path}: {error.strerror}", "Let the server's user read it.")
    if mode & 0o077:
        return Finding("problem", subject, f"{path} is open to others ({mode:04o})", f"chmod 600 {path}")
    return Finding("ok", subject, f"{path} ({mode:04o})")


def _registry(settings: ServerSettings) -> Finding:
    path, latest = settings.registry_path, len(MIGRATIONS)
    if not path.exists():
        return Finding("ok", "registry", "is made at the first start")
    try:
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            version = int(connection.pragma("user_version"))
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchall()[0]
    except apsw.Error as error:
        return Finding("problem", "registry", f"{path}: {error}", "Put it back from a backup.")
    if answer != "ok":
        return Finding("problem", "registry", f"{path} is damaged: {answer}", "Put it back from a backup.")
    if version > latest:
        found = f"schema {version}; this release knows {latest}"
        return Finding("problem", "registry", found, "Install the release that wrote it, or a later one.")
    return Finding("ok", "registry", f"schema {version}" + ("" if version == latest else f", {latest} after the start"))


def _code_cache(settings: ServerSettings) -> Finding:
    used = 0
    for folder, _, files in os.walk(settings.artifacts_directory / "machine-code"):
        for name in files:
            try:
                used += os.stat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue
    found = f"{used / MIB:.0f} of {settings.code_cache_bytes / MIB:.0f} MiB"
    if used > settings.code_cache_bytes:
        advice = "Raise CLOISTER_CODE_CACHE_BYTES if workers are slow when they are first called."
        return Finding("warning", "machine code cache", found, advice)
    return Finding("ok", "machine code cache", found)


# The ports


def _port(subject: str, host: str, port: int, *, management: bool) -> Finding:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
    except OSError as error:
        if _answers(host, port, management=management):
            return Finding("ok", subject, f"{host}:{port} is answered by a running server")
        found = f"{host}:{port}: {error.strerror or error}"
        return Finding("problem", subject, found, "End what uses it, or choose another port.")
    return Finding("ok", subject, f"{host}:{port} is free")


def _upstream(address: str | None) -> Finding:
    if address is None:
        return Finding("ok", "server behind", "none")
    server = urlsplit(address)
    if _answers(server.hostname or "", server.port or 80, management=False):
        return Finding("ok", "server behind", f"{address} answers")
    found = f"{address} does not answer as one"
    return Finding("warning", "server behind", found, "Start it, or change CLOISTER_UPSTREAM: its tenants get 503.")


def _answers(host: str, port: int, *, management: bool) -> bool:
    """Whether it is a server of ours: the one wants a token, the other names each answer."""
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_S)
    try:
        connection.request("GET", "/client/v4/user" if management else "/")
        answer = connection.getresponse()
        answer.read(65_536)
        if management:
            return answer.status == 401 and answer.getheader("WWW-Authenticate") == "Bearer"
        return answer.getheader("X-Request-Id") is not None
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
