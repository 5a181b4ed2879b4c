"""`cloister doctor`: what it finds in order, and what it finds wrong."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.runtime.cli.conftest import Outcome, RunCli
from tests.runtime.control.service import Control


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "elsewhere"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def finding(outcome: Outcome, subject: str) -> dict[str, Any]:
    (found,) = [each for each in json.loads(outcome.stdout) if each["subject"] == subject]
    return dict(found)


def test_a_healthy_installation_is_in_order(
    run_cli: RunCli, server: Control, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLOISTER_ADMIN_TOKEN")
    command = ("doctor", "--data", server.settings.data, "--port", free_port)

    lines, outcome = run_cli(*command), run_cli(*command, "--json")

    assert (lines.exit_code, outcome.exit_code) == (0, 0), lines.stdout
    assert "ok       Python: 3." in lines.stdout
    assert finding(outcome, "registry")["found"].startswith("schema ")
    assert finding(outcome, "management port")["found"].endswith("is answered by a running server")
    assert finding(outcome, "tenants' port")["found"].endswith("is free")
    assert {each.name for each in server.settings.data.iterdir() if each.name.startswith(".doctor")} == set()


def test_a_token_that_others_can_read_is_a_problem(run_cli: RunCli, data: Path) -> None:
    (data / "admin-token").write_text("a-token-that-nobody-guesses")
    (data / "admin-token").chmod(0o644)

    outcome = run_cli("doctor", "--data", data, "--json")

    assert outcome.exit_code == 1
    assert finding(outcome, "admin token")["state"] == "problem"
    assert finding(outcome, "admin token")["advice"] == f"chmod 600 {data}/admin-token"


def test_a_data_directory_that_others_can_enter_is_a_warning(run_cli: RunCli, data: Path) -> None:
    data.chmod(0o755)
    assert finding(run_cli("doctor", "--data", data, "--json"), "data directory")["state"] == "warning"


@pytest.mark.parametrize(("damage", "said"), [("later", "schema 999"), ("no database", "not a database")])
def test_a_registry_that_does_not_open_is_a_problem(run_cli: RunCli, data: Path, damage: str, said: str) -> None:
    path = data / "registry.sqlite"
    if damage == "later":
        with apsw.Connection(str(path)) as connection:
            connection.pragma("user_version", 999)
        connection.close()
    else:
        path.write_bytes(b"this is something else" * 100)

    outcome = run_cli("doctor", "--data", data, "--json")

    assert outcome.exit_code == 1
    assert finding(outcome, "registry")["state"] == "problem"
    assert said in finding(outcome, "registry")["found"]


def test_a_port_that_something_else_uses_is_a_problem(run_cli: RunCli, data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        outcome = run_cli("doctor", "--data", data, "--admin-port", other.getsockname()[1], "--json")

    assert outcome.exit_code == 1
    assert finding(outcome, "management port")["state"] == "problem"


def test_a_server_behind_that_does_not_answer_is_a_warning(run_cli: RunCli, data: Path, free_port: int) -> None:
    (data / "cloister.toml").write_text(f'upstream = "http://127.0.0.1:{free_port}"\n')

    behind = finding(run_cli("doctor", "--data", data, "--json"), "server behind")

    assert (behind["state"], behind["found"]) == ("warning", f"http://127.0.0.1:{free_port} does not answer as one")
