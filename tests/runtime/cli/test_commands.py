"""The short commands: what they print where, and how they end."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.cli.deployment import Deployment, is_same
from runtime.cli.main import COMMANDS
from runtime.engine.limits import Limits
from runtime.settings import ServerSettings
from tests.runtime.cli.conftest import RunCli
from tests.runtime.control.service import TOKEN, Control

SECRET = "correct horse battery staple"


def test_help_names_every_command(run_cli: RunCli) -> None:
    outcome = run_cli("--help")
    assert outcome.exit_code == 0
    for command in COMMANDS:
        assert f"  {command} " in outcome.stdout
        assert run_cli(command, "--help").exit_code == 0


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["delete"], ["tenants", "--admin-port", "x"], ["deploy", "not-there"]]
)
def test_a_wrong_command_line_is_explained_on_standard_error(run_cli: RunCli, arguments: list[str]) -> None:
    outcome = run_cli(*arguments)
    assert outcome.exit_code == 2
    assert outcome.stdout == ""
    assert "Error: " in outcome.stderr


def test_a_wrong_setting_is_named(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_ADMIN_PORT", "eight")
    outcome = run_cli("tenants")
    assert outcome.exit_code == 2
    assert "CLOISTER_ADMIN_PORT: must be a whole number" in outcome.stderr


def test_without_a_server_it_says_how_to_start_one(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_ADMIN_TOKEN", TOKEN)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        outcome = run_cli("tenants", "--admin-port", unused.getsockname()[1])
    assert outcome.exit_code == 3
    assert "error: The server does not answer on 127.0.0.1:" in outcome.stderr
    assert "To solve it: Start it with `cloister serve`" in outcome.stderr


def test_without_a_token_it_says_where_it_looked(run_cli: RunCli, tmp_path: Path) -> None:
    outcome = run_cli("tenants", "--data", tmp_path / "nowhere")
    assert outcome.exit_code == 3
    assert f"{tmp_path}/nowhere/admin-token: No such file or directory" in outcome.stderr


def test_a_wrong_token_is_not_let_in(run_cli: RunCli, server: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_ADMIN_TOKEN", "not-the-right-token")
    outcome = run_cli("tenants")
    assert outcome.exit_code == 3
    assert "does not let this client in" in outcome.stderr


def test_a_component_is_deployed_listed_and_deleted(run_cli: RunCli, server: Control, component_file: Path) -> None:
    deployed = run_cli(
        "deploy", component_file, "--name", "user1", "--kv", "KV=kv-1", "--tag", "a", "--limit", "cpu_ms=50"
    )
    assert deployed.exit_code == 0, deployed.stderr
    assert deployed.stdout == ""
    assert "Deploying user1 to production: done" in deployed.stderr
    assert "version 1" in deployed.stderr

    (listed,) = json.loads(run_cli("tenants", "--json").stdout)
    assert (listed["id"], listed["version_number"], listed["tags"]) == ("user1", 1, ["a"])
    assert listed["bindings"] == [{"type": "kv_namespace", "name": "KV", "namespace_id": "kv-1"}]
    assert listed["limits"]["cpu_ms"] == 50

    table = run_cli("tenants").stdout.splitlines()
    assert table[0].split() == ["NAME", "STATE", "VERSION", "DEPLOYED", "COMPONENT", "BINDINGS"]
    assert table[1].startswith("user1")
    assert "KV (kv_namespace)" in table[1]

    deleted = run_cli("delete", "user1")
    assert deleted.exit_code == 0
    assert "what it has stored stays" in deleted.stderr
    assert json.loads(run_cli("tenants", "--json").stdout) == []
    assert "Nothing is deployed" in run_cli("tenants").stderr

    again = run_cli("delete", "user1")
    assert again.exit_code == 1
    assert "There is no script 'user1'" in again.stderr


def test_what_has_not_changed_is_not_uploaded_again(run_cli: RunCli, server: Control, component_file: Path) -> None:
    command = (
        "deploy",
        component_file,
        "--name",
        "user1",
        "--d1",
        "DB=db-1",
        "--json-var",
        'J={"a": 1}',
        "--var",
        "V=x=y",
    )
    run_cli(*command)
    assert "nothing has changed" in run_cli(*command).stderr
    assert "version 2" in run_cli(*command, "--limit", "cpu_ms=60").stderr


def test_a_secret_comes_from_the_environment_and_is_never_printed(
    run_cli: RunCli, server: Control, component_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", SECRET)
    outcomes = [
        run_cli("deploy", component_file, "--name", "user1", "--secret", "API_KEY"),
        run_cli("deploy", component_file, "--name", "user1", "--secret", "API_KEY"),
        run_cli("tenants", "--json"),
        run_cli("tenants"),
    ]
    found = server.registry.find("production", "user1")
    assert found is not None and (found.number, found.bindings[0].value) == (2, SECRET)
    assert not any(SECRET in outcome.stdout + outcome.stderr for outcome in outcomes)

    missing = run_cli("deploy", component_file, "--name", "user1", "--secret", "NOT_SET")
    assert missing.exit_code == 2
    assert "no environment variable of this name" in missing.stderr


def test_what_the_server_refuses_is_passed_on(run_cli: RunCli, server: Control, tmp_path: Path) -> None:
    text = tmp_path / "worker.wasm"
    text.write_text("print('hello')")
    outcome = run_cli("deploy", text, "--name", "user1")
    assert outcome.exit_code == 1
    assert "error: The server refused this." in outcome.stderr
    assert "WebAssembly" in outcome.stderr

    hostile = run_cli("deploy", text, "--name", "../../etc")
    assert hostile.exit_code == 1
    assert "1 to 63 lower-case letters" in hostile.stderr


def test_a_component_needs_a_name(run_cli: RunCli, server: Control, component_file: Path) -> None:
    outcome = run_cli("deploy", component_file)
    assert outcome.exit_code == 2
    assert "--name NAME" in outcome.stderr


@pytest.mark.parametrize("option", ["--kv", "--r2", "--d1", "--var", "--json-var", "--limit"])
def test_a_pair_has_an_equals_sign(run_cli: RunCli, server: Control, component_file: Path, option: str) -> None:
    outcome = run_cli("deploy", component_file, "--name", "user1", option, "NAME")
    assert outcome.exit_code == 2
    assert "not of the form NAME=VALUE" in outcome.stderr


def test_data_is_purged_when_asked_for(run_cli: RunCli, server: Control, component_file: Path) -> None:
    run_cli("deploy", component_file, "--name", "user1")
    outcome = run_cli("delete", "user1", "--purge-data", "--yes")
    assert outcome.exit_code == 0
    assert "what it has stored is deleted too" in outcome.stderr


def test_the_same_deployment_is_recognised_whatever_the_order_of_its_bindings(tmp_path: Path) -> None:
    component = tmp_path / "worker.wasm"
    component.write_bytes(b"")
    empty_digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    kv = {"type": "kv_namespace", "name": "KV", "namespace_id": "1"}
    text = {"type": "plain_text", "name": "T", "text": "x"}
    secret = {"type": "secret_text", "name": "S", "text": "x"}
    limits = msgspec.structs.asdict(Limits())
    script: dict[str, Any] = {"bindings": [kv, text], "limits": limits, "tags": ["a"]}
    script["etag"] = empty_digest

    def same(settings: ServerSettings = ServerSettings(), **changes: Any) -> bool:  # noqa: B008 - immutable
        deployment = {"bindings": [text, kv], "limits": {}, "tags": ["a"], **changes}
        return is_same(script, Deployment("user1", component, **deployment), settings)

    assert same()
    assert same(limits={"cpu_ms": 5000})
    assert not same(limits={"cpu_ms": 50})
    assert not same(ServerSettings(limits_default={"cpu_ms": 50}))
    assert same(ServerSettings(limits_default={"cpu_ms": 50}), limits={"cpu_ms": 5000})
    assert not same(limits={"unknown": 5})
    assert not same(bindings=[kv])
    assert not same(bindings=[kv, {**text, "text": "y"}])
    assert not same(bindings=[kv, text, secret])
    assert not same(tags=[])
    script["etag"] = "0" * 64
    assert not same()
