"""`cloister backup` and `restore`: what they refuse."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import zstandard

from tests.runtime.cli.conftest import RunCli
from tests.runtime.control.service import Control


@pytest.fixture
def archive(run_cli: RunCli, server: Control, tmp_path: Path) -> Path:
    made = tmp_path / "backup.tar.zst"
    outcome = run_cli("backup", made, "--data", server.settings.data)
    assert (outcome.exit_code, outcome.stdout) == (0, f"{made}\n"), outcome.stderr
    return made


def test_a_folder_is_a_backup_too(run_cli: RunCli, server: Control, tmp_path: Path) -> None:
    folder, restored = tmp_path / "folder", tmp_path / "restored"

    assert run_cli("backup", folder, "--data", server.settings.data).exit_code == 0
    assert run_cli("restore", folder, "--data", restored).exit_code == 0

    assert (restored / "registry.sqlite").exists() and not (restored / "backup.json").exists()
    assert {path.stat().st_mode & 0o077 for path in restored.rglob("*")} == {0}


def test_nothing_is_replaced(run_cli: RunCli, server: Control, archive: Path) -> None:
    again = run_cli("backup", archive, "--data", server.settings.data)
    over = run_cli("restore", archive, "--data", server.settings.data)
    assert (again.exit_code, over.exit_code) == (2, 2)
    assert "is there already" in again.stderr and "is not empty" in over.stderr


def test_only_a_data_directory_is_backed_up(run_cli: RunCli, tmp_path: Path) -> None:
    outcome = run_cli("backup", tmp_path / "b", "--data", tmp_path)
    assert outcome.exit_code == 2 and "is not a data directory" in outcome.stderr
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("damage", ["cut off", "changed", "another file", "a folder"])
def test_what_is_no_whole_backup_is_not_restored(run_cli: RunCli, archive: Path, tmp_path: Path, damage: str) -> None:
    content = archive.read_bytes()
    if damage == "a folder":
        archive = tmp_path
    elif damage == "cut off":
        archive.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        archive.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    else:
        archive.write_bytes(b"something else")

    outcome = run_cli("restore", archive, "--data", tmp_path / "new")

    assert outcome.exit_code == 1 and "cannot be restored" in outcome.stderr
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".new.*"))


def test_an_archive_cannot_write_elsewhere(run_cli: RunCli, tmp_path: Path) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../escaped"))
    hostile = tmp_path / "hostile.tar.zst"
    hostile.write_bytes(zstandard.compress(plain.getvalue()))

    outcome = run_cli("restore", hostile, "--data", tmp_path / "inner" / "new")

    assert outcome.exit_code == 1 and "outside the destination" in outcome.stderr
    assert not (tmp_path / "inner" / "escaped").exists() and not (tmp_path / "escaped").exists()
