"""`cloister versions`, `rollback` and `secret`: what answers, going back, and values that nobody sees."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from runtime.registry import Registry
from tests.e2e.server import TOKEN, start
from tests.runtime.cli.conftest import RunCli
from tests.runtime.control.service import Control

SECRET = "correct horse battery staple"


@pytest.fixture
def acme(run_cli: RunCli, server: Control, component_file: Path) -> str:
    """A tenant with two versions, of which the second answers."""
    for text in ("1", "2"):
        assert run_cli("deploy", component_file, "--name", "acme", "--var", f"V={text}").exit_code == 0
    return "acme"


def give(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def present(registry: Registry, name: str) -> int:
    found = registry.find("production", name)
    assert found is not None
    return found.number


def test_versions_are_listed_with_what_they_answer(run_cli: RunCli, acme: str) -> None:
    heading, newest, oldest = run_cli("versions", acme).stdout.splitlines()
    found = json.loads(run_cli("versions", acme, "--json").stdout)

    assert heading.split()[:3] == ["VERSION", "ID", "ANSWERS"]
    assert newest.split()[0] == "2" and "100 %" in newest
    assert oldest.split()[0] == "1" and "%" not in oldest
    assert [(each["number"], each["percentage"]) for each in found] == [(2, 100), (1, 0)]


def test_rolling_back_goes_to_the_version_before_or_to_the_one_that_is_named(
    run_cli: RunCli, server: Control, acme: str
) -> None:
    back = run_cli("rollback", acme, "--message", "it was better")
    assert (back.exit_code, present(server.registry, acme)) == (0, 1)
    assert "Version 1 of acme answers now." in back.stderr

    forth = json.loads(run_cli("rollback", acme, "2", "--json").stdout)
    assert (forth["source"], present(server.registry, acme)) == ("rollback", 2)

    first = json.loads(run_cli("versions", acme, "--json").stdout)[1]["id"]
    assert run_cli("rollback", acme, first).exit_code == 0
    assert present(server.registry, acme) == 1


def test_requests_are_split_among_versions_by_number_or_id(run_cli: RunCli, server: Control, acme: str) -> None:
    newest, first = json.loads(run_cli("versions", "list", acme, "--json").stdout)

    split = run_cli("versions", "deploy", acme, "1@90", "2@10", "--message", "try it")
    shown = {each["number"]: each["percentage"] for each in json.loads(run_cli("versions", acme, "--json").stdout)}

    assert (split.exit_code, split.stdout) == (0, "")
    assert split.stderr == "acme is answered by version 1 (90 %), 2 (10 %) now.\n"
    assert shown == {1: 90, 2: 10}

    rest = json.loads(run_cli("versions", "deploy", acme, first["id"], f"{newest['id']}@37.5", "--json").stdout)
    assert {each["version_id"]: each["percentage"] for each in rest["versions"]} == {
        newest["id"]: 37.5,
        first["id"]: 62.5,
    }
    assert run_cli("versions", "deploy", acme, "2").exit_code == 0
    assert present(server.registry, acme) == 2


@pytest.mark.parametrize(
    ("shares", "exit_code", "said"),
    [
        (["1@90"], 2, "add up to 100"),
        (["1@90", "2@20"], 2, "add up to 100"),
        (["1@100", "2"], 2, "add up to 100"),
        (["1@0", "2@100"], 2, "above 0"),
        (["1@nan", "2"], 2, "above 0"),
        (["1@most"], 2, "VERSION@PERCENTAGE"),
        ([], 2, "Missing argument"),
        (["1@50", "7@50"], 1, "acme has no version 7."),
        (["1@50", "1@50"], 1, "there twice"),
    ],
)
def test_a_split_that_cannot_be_is_refused_and_changes_nothing(
    run_cli: RunCli, server: Control, acme: str, shares: list[str], exit_code: int, said: str
) -> None:
    outcome = run_cli("versions", "deploy", acme, *shares)
    assert outcome.exit_code == exit_code and said in outcome.stderr
    assert present(server.registry, acme) == 2


def test_a_tenant_with_the_name_of_a_command_is_listed_too(
    run_cli: RunCli, server: Control, component_file: Path
) -> None:
    run_cli("deploy", component_file, "--name", "deploy")
    assert len(json.loads(run_cli("versions", "list", "deploy", "--json").stdout)) == 1


def test_a_version_that_is_not_there_is_not_deployed(run_cli: RunCli, server: Control, acme: str) -> None:
    outcome = run_cli("rollback", acme, "7")
    assert outcome.exit_code == 1 and "acme has no version 7." in outcome.stderr
    assert run_cli("rollback", "missing").exit_code == 1
    assert present(server.registry, acme) == 2


def test_a_secret_is_set_from_standard_input_listed_by_name_and_deleted(
    run_cli: RunCli, server: Control, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, f"{SECRET}\n".encode())
    put = run_cli("secret", "put", acme, "API_KEY")
    assert put.exit_code == 0, put.stderr
    found = server.registry.find("production", acme)
    assert found is not None
    assert [binding.value for binding in found.bindings if binding.name == "API_KEY"] == [SECRET]

    listed, as_json = run_cli("secret", "list", acme), run_cli("secret", "list", acme, "--json")
    deleted = run_cli("secret", "delete", acme, "API_KEY")

    assert listed.stdout == "API_KEY\n"
    assert json.loads(as_json.stdout) == [{"name": "API_KEY", "type": "secret_text"}]
    assert deleted.exit_code == 0 and run_cli("secret", "list", acme).stdout == ""
    assert run_cli("secret", "delete", acme, "API_KEY").exit_code == 1
    assert not any(SECRET in each.stdout + each.stderr for each in (put, listed, as_json, deleted))


def test_the_key_of_the_secrets_is_replaced_while_the_server_runs(
    run_cli: RunCli, tmp_path: Path, component_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOISTER_ADMIN_TOKEN", TOKEN)
    monkeypatch.setenv("API_KEY", SECRET)
    data = tmp_path / "elsewhere"
    with start(data) as running:
        where = ("--admin-port", running.admin_port, "--data", data)
        assert run_cli("deploy", component_file, "--name", "acme", "--secret", "API_KEY", *where).exit_code == 0
        before = (data / "secrets.key").read_bytes()

        replaced = run_cli("secret", "rotate-key", "--data", data)
        as_json = run_cli("secret", "rotate-key", "--data", data, "--json")

        assert (replaced.exit_code, replaced.stdout) == (0, ""), replaced.stderr
        assert "1 secrets are sealed with a new key" in replaced.stderr
        assert json.loads(as_json.stdout) == {"secrets": 1}
        assert (data / "secrets.key").read_bytes() != before
        listed = json.loads(run_cli("versions", "acme", "--json", *where).stdout)
        assert run_cli("rollback", "acme", listed[0]["id"], *where).exit_code == 0
    nowhere = run_cli("secret", "rotate-key", "--data", tmp_path)
    assert nowhere.exit_code == 2 and "is not a data directory" in nowhere.stderr


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_secret_without_a_value_or_that_is_no_text_is_refused(
    run_cli: RunCli, server: Control, acme: str, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    give(monkeypatch, content)
    assert run_cli("secret", "put", acme, "API_KEY").exit_code == 2
    assert present(server.registry, acme) == 2


def test_usage_of_days_without_any_is_empty(run_cli: RunCli, server: Control) -> None:
    outcome = run_cli("usage", "--since", "2026-01-01", "--until", "2026-01-02", "--json")
    assert (outcome.exit_code, json.loads(outcome.stdout)) == (0, [])
    assert run_cli("usage", "--since", "yesterday").exit_code == 2


def test_the_settings_are_shown_with_where_they_are_from_and_without_what_is_secret(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {"ADMIN_TOKEN": SECRET.replace(" ", "-"), "LIMITS_MAX": "cpu_ms=50", "ACCESS_LOG": "no"}.items():
        monkeypatch.setenv(f"CLOISTER_{name}", text)

    table, found = run_cli("config", "show").stdout, json.loads(run_cli("config", "show", "--json").stdout)

    lines = {line.split()[0]: line.split()[1:] for line in table.splitlines()}
    assert lines["access_log"] == ["off", "environment"]
    assert lines["port"] == ["8787", "default"]
    settings = found["settings"]
    assert settings["admin_token"] == {"value": "(hidden)", "source": "environment"}
    assert settings["secrets_key"] == {"value": None, "source": "default"}
    assert settings["limits_max"] == {"value": {"cpu_ms": 50}, "source": "environment"}
    assert found["file"] is None
    assert "battery" not in table + json.dumps(found)


def test_settings_from_a_file_are_shown_with_its_name(run_cli: RunCli, tmp_path: Path) -> None:
    file = tmp_path / "data/cloister.toml"
    file.parent.mkdir()
    file.write_text(f'port = 1234\nadmin_token = "{SECRET.replace(" ", "-")}"\n')
    refused = run_cli("config", "show", "--data", file.parent)
    file.chmod(0o600)

    table = run_cli("config", "show", "--data", file.parent).stdout
    found = json.loads(run_cli("config", "show", "--config", file, "--json").stdout)

    assert refused.exit_code == 2 and f"{file}: admin_token: is a secret" in refused.stderr
    lines = {line.split()[0]: line.split()[1:] for line in table.splitlines()}
    assert (lines["port"], lines["admin_token"]) == (["1234", str(file)], ["(hidden)", str(file)])
    assert found["file"] == str(file)
    assert found["settings"]["port"] == {"value": 1234, "source": "file"}
    assert "battery" not in table + json.dumps(found)


def test_settings_that_cannot_be_are_not_shown(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_LOG_FORMAT", "xml")
    outcome = run_cli("config", "show")
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert "log_format: one of auto, json, pretty" in outcome.stderr
