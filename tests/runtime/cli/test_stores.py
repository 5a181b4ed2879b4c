"""`cloister kv` and `cloister r2`: a tenant's stores by the names of its bindings."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tests.runtime.cli.conftest import RunCli
from tests.runtime.control.service import Control

KEY = "a/b c?ü"


@pytest.fixture
def acme(run_cli: RunCli, server: Control, component_file: Path) -> str:
    """A tenant with stores, beside another one whose bindings have the very same names and ids."""
    for name in ("acme", "other"):
        run_cli("deploy", component_file, "--name", name, "--kv", "KV=cache", "--r2", "R2=files")
    return "acme"


@pytest.mark.parametrize(("command", "binding", "key"), [("kv", "KV", KEY), ("r2", "R2", KEY), ("r2", "R2", "")])
def test_what_is_put_is_listed_got_and_deleted_and_is_the_tenants_own(
    run_cli: RunCli, acme: str, command: str, binding: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To R2, the empty key is one."""
    Path("value.txt").write_text("from a file")
    file = ("--file", "value.txt") if command == "kv" else ("value.txt",)
    assert run_cli(command, "put", acme, binding, key, *file).exit_code == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"from standard input")))
    assert run_cli(command, "put", acme, binding, "other", *()).exit_code == 0

    assert run_cli(command, "get", acme, binding, key).stdout == "from a file"
    assert run_cli(command, "get", acme, binding, "other", "--output", "got.txt").stdout == ""
    assert Path("got.txt").read_bytes() == b"from standard input"
    listed = json.loads(run_cli(command, "list", acme, binding, "--json").stdout)
    assert [each["name" if command == "kv" else "key"] for each in listed] == [key, "other"]
    assert key in run_cli(command, "list", acme, binding, "--prefix", key[:2]).stdout
    assert json.loads(run_cli(command, "list", "other", binding, "--json").stdout) == []

    assert run_cli(command, "delete", acme, binding, key).exit_code == 0
    gone = run_cli(command, "get", acme, binding, key, "--output", "gone.txt")
    assert gone.exit_code == 1 and not Path("gone.txt").exists()


def test_a_tenants_own_token_reaches_the_same_store(
    run_cli: RunCli, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cli("kv", "put", acme, "KV", "key", "value", "--ttl", "3600")
    allowed = ("--allow", "data", "--allow", "read")
    token = run_cli("token", "create", "t", "--tenant", f"production/{acme}", *allowed).stdout.strip()
    monkeypatch.setenv("CLOISTER_ADMIN_TOKEN", token)

    assert run_cli("kv", "get", acme, "KV", "key").stdout == "value"
    assert run_cli("kv", "get", "other", "KV", "key").exit_code == 3


def test_an_empty_key_of_kv_is_refused_for_what_it_is(run_cli: RunCli, acme: str) -> None:
    refused = run_cli("kv", "get", acme, "KV", "")

    assert refused.exit_code == 1
    assert "Key name cannot be empty." in refused.stderr


def test_a_binding_that_is_not_there_or_of_another_kind_is_refused(run_cli: RunCli, acme: str) -> None:
    missing, wrong = run_cli("kv", "list", acme, "NOTHING"), run_cli("r2", "list", acme, "KV")
    assert missing.exit_code == 1 and "NOTHING" in missing.stderr
    assert wrong.exit_code == 2 and "KV of acme is a kv_namespace, not a r2_bucket." in wrong.stderr
