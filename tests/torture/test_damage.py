"""A disk that is full, read-only or damaged: a clear error for who is concerned, an alert, and the others go on."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from host_bindings.d1.service import SqlService
from host_bindings.scope import Resources
from host_bindings.scope import Tenant as Owner
from tests.e2e.server import Server, start
from tests.torture.conftest import BINDINGS

MIB = 1024 * 1024

pytestmark = pytest.mark.timeout(300)


class Tenant:
    """Makes calls, and gives what they gave or the error that the tenant's code got."""

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self._name = name

    def call(self, *step: object) -> Any:
        reply = self._server.request("POST", "/", user=self._name, body=json.dumps([step]))
        assert reply.status == 200, reply.text
        (result,) = reply.json()
        return result.get("error") if "error" in result else result["ok"]


def alerts(server: Server) -> list[str]:
    """What the log has at level error, of the server itself."""
    entries = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [entry["message"] for entry in entries if entry["level"] == "error" and entry["logger"] != "tenant"]


@pytest.fixture(scope="module")
def filled(prepared: Path, intruder: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with two tenants, each with something in each of its stores."""
    data = shutil.copytree(prepared, tmp_path_factory.mktemp("filled") / "data")
    with start(data) as server:
        assert server.deploy("bystander", intruder, BINDINGS).status == 200
        for name in ("worker", "bystander"):
            fill(Tenant(server, name))
        assert server.stop() == 0
    return data


def fill(tenant: Tenant) -> None:
    for n in range(20):
        assert tenant.call("kv.put", "KV", f"key-{n:03}", f"value {n} " + "x" * 2000) is None
    assert tenant.call("r2.put", "R2", "object", "content" * 50_000)["size"] == 350_000
    tenant.call("d1.exec", "D1", "CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)")
    rows = ", ".join(f"({n}, hex(randomblob(500)))" for n in range(1, 10))
    tenant.call("d1.query", "D1", f"INSERT INTO t VALUES {rows}")


def assert_unharmed(tenant: Tenant) -> None:
    assert tenant.call("kv.get", "KV", "key-007") == "value 7 " + "x" * 2000
    assert tenant.call("r2.get", "R2", "object") == "content" * 50_000
    assert tenant.call("d1.query", "D1", "SELECT count(*) FROM t")[0]["rows"] == [[9]]


@pytest.fixture
def damaged(filled: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return shutil.copytree(filled, tmp_path / "data")


def of_worker(data: Path, pattern: str) -> Path:
    """The one file of the tenant `worker` that matches."""
    root = Resources(data / "resources", SqlService(data / "resources"))._owner_directory(Owner("production", "worker"))
    (found,) = root.glob(pattern)
    return found


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


# Damaged files


def test_a_damaged_page_of_kv_is_an_error_for_its_tenant_alone(damaged: Path) -> None:
    # Everything but the head of the database and its schema.
    path = of_worker(damaged, "kv_namespace/*/kv.sqlite")
    overwrite(path, 4096, os.urandom(path.stat().st_size - 4096))

    with start(damaged) as server:
        tenant = Tenant(server, "worker")
        assert tenant.call("kv.get", "KV", "key-007") == "Error: KV GET failed: 500 The storage failed."
        assert tenant.call("kv.put", "KV", "key-007", "new") == "Error: KV PUT failed: 500 The storage failed."
        assert_unharmed(Tenant(server, "bystander"))
        assert any("malformed" in alert for alert in alerts(server)), alerts(server)
        assert server.stop() == 0


def test_a_damaged_page_of_d1_is_an_error_for_its_tenant_alone(damaged: Path) -> None:
    path = of_worker(damaged, "d1/*/*.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        # What is in the log only has checksums of its own.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    overwrite(path, 4096, os.urandom(path.stat().st_size - 4096))

    with start(damaged) as server:
        said = Tenant(server, "worker").call("d1.query", "D1", "SELECT sum(length(text)) FROM t")
        assert isinstance(said, str) and "D1_ERROR" in said, said
        assert str(damaged) not in said
        assert_unharmed(Tenant(server, "bystander"))
        assert server.stop() == 0


@pytest.mark.parametrize("length", [0, 1000])
def test_a_truncated_object_is_an_error_and_never_half_an_object(damaged: Path, length: int) -> None:
    os.truncate(of_worker(damaged, "r2_bucket/*/objects/*/*"), length)

    with start(damaged) as server:
        tenant = Tenant(server, "worker")
        assert tenant.call("r2.get", "R2", "object") == "Error: get: The object's bytes are damaged. (10001)"
        assert tenant.call("r2.put", "R2", "object", "anew")["size"] == 4
        assert tenant.call("r2.get", "R2", "object") == "anew"
        assert_unharmed(Tenant(server, "bystander"))
        assert any("does not have the length of its object" in alert for alert in alerts(server))
        assert server.stop() == 0


def test_tampered_machine_code_is_never_run(damaged: Path) -> None:
    # The small parts, the worker's own among them: to compile the largest again would take long.
    for code in damaged.glob("artifacts/machine-code/*/*/code"):
        if code.stat().st_size < 4 * MIB:
            overwrite(code, code.stat().st_size // 2, b"\xcc" * 64)

    with start(damaged) as server:
        # It is made again from the component.
        assert_unharmed(Tenant(server, "worker"))
        assert any("is not what this host made" in alert for alert in alerts(server))
        assert server.stop() == 0


@pytest.mark.parametrize("supervised", [True, False], ids=["supervised", "alone"])
@pytest.mark.parametrize(
    ("file", "what_to_do"),
    [
        ("registry.sqlite", "is damaged or not a registry.*restore a backup"),
        ("telemetry/usage.sqlite", "move it away.*usage is counted from zero"),
        ("telemetry/tails.sqlite", "move it away.*live tails have to be started again"),
    ],
)
def test_a_file_of_the_platform_that_is_damaged_is_named_at_the_start(
    damaged: Path, file: str, what_to_do: str, supervised: bool
) -> None:
    overwrite(damaged / file, 0, b"not a database at all" * 10)

    with pytest.raises(AssertionError) as ended, start(damaged, supervised=supervised):
        pass

    assert re.search(f"SettingsError: data: .*{re.escape(file)} .*{what_to_do}", str(ended.value))


# A disk without room, or that cannot be written


@contextmanager
def small_disk(directory: Path, size: int) -> Iterator[Path]:
    """A file system of `size` bytes, mounted at the directory. Skips where this user may not mount."""
    directory.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here ({mounted.stderr.strip()}): run the tests as root")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def used(directory: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in directory.rglob("*"))


def test_a_full_disk_refuses_writes_loses_nothing_and_goes_on_when_there_is_room(
    filled: Path, tmp_path: Path, intruder: bytes
) -> None:
    with small_disk(tmp_path / "disk", used(filled) + 12 * MIB) as disk:
        data = shutil.copytree(filled, disk / "data")
        ballast = disk / "ballast"
        with start(data, supervised=True, processes=2) as server:
            # The log is beside the data: it has its own file on the same disk.
            tenant, bystander = Tenant(server, "worker"), Tenant(server, "bystander")
            assert_unharmed(bystander)
            ballast.write_bytes(b"")
            with ballast.open("ab", buffering=0) as file, suppress(OSError):
                while file.write(bytes(65536)):
                    pass
            stored: dict[str, list[str]] = {"kv": [], "r2": [], "d1": []}
            refusals: dict[str, list[str]] = {"kv": [], "r2": [], "d1": []}
            text = "y" * 20_000
            for n in range(40):
                for store, step in {
                    "kv": ("kv.put", "KV", f"full-{n}", text),
                    "r2": ("r2.put", "R2", f"full-{n}", text),
                    "d1": ("d1.query", "D1", "INSERT INTO t VALUES (?, ?)", [1000 + n, text]),
                }.items():
                    result = tenant.call(*step)
                    if isinstance(result, str):
                        refusals[store].append(result)
                    else:
                        stored[store].append(f"{n}")
            upload = server.deploy("another", intruder + b"\x00\x05\x04aaaa", BINDINGS)

            assert all(refusals.values()), refusals
            said = refusals["kv"] + refusals["r2"]
            assert all(
                "There is no room left on the storage." in each or "The storage failed." in each for each in said
            )
            assert any("There is no room left on the storage." in each for each in said)
            assert all("D1_ERROR" in said for said in refusals["d1"])
            assert upload.status in (500, 507), upload.text
            assert server.request("GET", "/", user="another").status == 404
            # Reading goes on, and nobody's data is harmed.
            assert_unharmed(bystander)

            ballast.unlink()
            assert tenant.call("kv.put", "KV", "room", "again") is None
            assert tenant.call("r2.put", "R2", "room", "again")["size"] == 5
            tenant.call("d1.query", "D1", "INSERT INTO t VALUES (9999, 'again')")
            assert server.stop() == 0
        with start(data) as server:
            tenant = Tenant(server, "worker")
            assert all(tenant.call("kv.get", "KV", f"full-{n}") == text for n in stored["kv"])
            assert all(tenant.call("r2.get", "R2", f"full-{n}") == text for n in stored["r2"])
            rows = tenant.call("d1.query", "D1", "SELECT n - 1000 FROM t WHERE n >= 1000 AND n < 9999")[0]["rows"]
            assert {str(n) for (n,) in rows} == set(stored["d1"])
            assert_unharmed(Tenant(server, "bystander"))
            assert server.stop() == 0


def test_a_data_directory_that_is_read_only_from_the_start_is_named(filled: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", used(filled) + 20 * MIB) as disk:
        os.symlink(shutil.copytree(filled, disk / "data"), tmp_path / "data")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)

        with pytest.raises(AssertionError) as caught, start(tmp_path / "data", supervised=True):
            pass

        assert "the server ended with" in str(caught.value)
        assert str(tmp_path / "data") in str(caught.value)
