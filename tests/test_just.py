"""The `./just` script: what it says when it cannot set up, and that it does nothing when nothing is to be done."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "just"
TOOLS = ("cat", "cksum", "dirname", "find", "head", "mkdir", "mv", "rm", "sh", "sleep")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Enough of the repository for the script, in a directory with a blank in its name."""
    root = tmp_path / "the clone"
    root.mkdir()
    shutil.copy(SCRIPT, root)
    for name in ("pyproject.toml", "requirements.lock", "justfile"):
        (root / name).write_text("")
    return root


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH with the POSIX tools that the script uses, and nothing else."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (directory / name).symlink_to(found)
    return directory


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(clone: Path, tools: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [clone / "just", *arguments], env={"PATH": str(tools), **environment}, cwd="/", capture_output=True, text=True
    )


def test_without_python_it_says_what_to_install(clone: Path, tools: Path) -> None:
    outcome = run(clone, tools)
    assert outcome.returncode == 1
    assert outcome.stderr.startswith("error: Python 3.11 or later is needed; found: no python3 on PATH.\n")
    assert "apt install python3 python3-venv" in outcome.stderr
    assert os.listdir(clone).count(".venv.lock") == 0


def test_an_old_python_is_named(clone: Path, tools: Path) -> None:
    executable(tools / "python3", 'if [ "$1" = --version ]; then echo Python 3.9.2; else exit 1; fi')
    outcome = run(clone, tools)
    assert outcome.returncode == 1
    assert "found: Python 3.9.2." in outcome.stderr


def test_an_interpreter_that_was_chosen_must_be_suitable(clone: Path, tools: Path) -> None:
    outcome = run(clone, tools, PYTHON="/nothing/python3")
    assert outcome.returncode == 1
    assert "PYTHON=/nothing/python3 is not Python 3.11 or later" in outcome.stderr


def test_a_set_up_that_fails_is_not_taken_for_a_finished_one(clone: Path, tools: Path) -> None:
    executable(tools / "python3", 'case "$*" in *venv*) mkdir -p "$4"; exit 1 ;; *) exit 0 ;; esac')
    for _ in range(2):
        outcome = run(clone, tools)
        assert outcome.returncode == 1
        assert "error: The environment could not be made." in outcome.stderr
    assert sorted(os.listdir(clone)) == [".venv", "just", "justfile", "pyproject.toml", "requirements.lock"]


@pytest.fixture
def ready(clone: Path, tools: Path) -> Path:
    """A clone whose environment has been set up, by a Python that only pretends."""
    pretend = """
    case "$*" in
        *"-m venv"*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; cp "$JUST" "$4/bin/just" ;;
        *"-m pip"*) echo pip >>"$LOG" ;;
    esac"""
    executable(tools / "python3", pretend)
    executable(tools / "echo-just", 'printf "%s\\n" "$@"')
    (tools / "cp").symlink_to(shutil.which("cp") or "")
    return clone


def test_when_nothing_is_to_be_done_it_only_hands_its_arguments_on(ready: Path, tools: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = {"LOG": str(log), "JUST": str(tools / "echo-just")}

    first = run(ready, tools, "serve", "--port", "1 2", **environment)
    second = run(ready, tools, "serve", "--port", "1 2", **environment)

    assert first.returncode == 0, first.stderr
    assert "Setting up" in first.stderr
    assert second.stderr == ""
    assert second.stdout == f"--justfile\n{ready}/justfile\nserve\n--port\n1 2\n"
    assert log.read_text() == "pip\npip\n"

    (ready / "requirements.lock").write_text("changed==1")
    third = run(ready, tools, "--prepare", **environment)
    assert "Updating" in third.stderr
    assert third.stdout == ""
    assert log.read_text() == "pip\n" * 4


def test_a_lock_whose_owner_is_gone_is_taken_over(ready: Path, tools: Path, tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    (ready / ".venv.lock").mkdir()
    (ready / ".venv.lock" / "pid").write_text(f"{gone.pid}\n")
    outcome = run(ready, tools, "--prepare", LOG=str(tmp_path / "log"), JUST=str(tools / "echo-just"))
    assert outcome.returncode == 0, outcome.stderr
    assert not (ready / ".venv.lock").exists()
