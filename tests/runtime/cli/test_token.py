"""`cloister token`: a value that is shown once, a list without values, and an end."""

from __future__ import annotations

import json

from tests.runtime.cli.conftest import RunCli
from tests.runtime.control.service import Control


def test_a_token_is_created_listed_and_revoked(run_cli: RunCli, server: Control) -> None:
    created = run_cli("token", "create", "ci", "--allow", "read", "--allow", "deploy", "--tenant", "production/acme")
    value = created.stdout.strip()
    found = server.registry.tokens.find(value)
    assert created.exit_code == 0 and found is not None
    assert (found.name, found.permissions) == ("ci", {"read", "deploy"})
    assert found.tenant is not None and found.tenant.script == "acme"

    listed = run_cli("token", "list")
    assert all(word in listed.stdout for word in (found.id, "ci", "production/acme", "deploy, read", "active"))
    assert value not in listed.stdout

    assert run_cli("token", "revoke", found.id).exit_code == 0
    assert server.registry.tokens.find(value) is None
    assert run_cli("token", "list").stdout == ""


def test_a_token_may_read_for_ever_unless_it_is_said_otherwise(run_cli: RunCli, server: Control) -> None:
    created = json.loads(run_cli("token", "create", "a", "--json").stdout)
    assert (created["permissions"], "expires_on" in created) == (["read"], False)
    limited = json.loads(run_cli("token", "create", "b", "--days", "3", "--json").stdout)
    assert limited["expires_on"] > created["issued_on"]


def test_a_token_is_changed_and_what_is_not_said_stays(run_cli: RunCli, server: Control) -> None:
    created = json.loads(
        run_cli("token", "create", "ci", "--tenant", "production/acme", "--days", "3", "--json").stdout
    )
    id, value = created["id"], created["value"]

    changed = json.loads(run_cli("token", "update", id, "--allow", "data", "--allow", "read", "--json").stdout)
    assert (changed["permissions"], changed["tenant"]) == (["data", "read"], "production/acme")
    assert (changed["name"], changed["status"], changed["expires_on"]) == ("ci", "active", created["expires_on"])

    assert run_cli("token", "update", id, "--disable", "--name", "off").exit_code == 0
    renamed = json.loads(run_cli("token", "update", id, "--name", "still off", "--json").stdout)
    found = server.registry.tokens.find(value)
    assert found is not None and (found.name, found.disabled, renamed["status"]) == ("still off", True, "disabled")
    assert json.loads(run_cli("token", "update", id, "--enable", "--json").stdout)["status"] == "active"
    assert run_cli("token", "update", "0" * 32, "--enable").exit_code == 1


def test_what_cannot_be_is_said(run_cli: RunCli, server: Control) -> None:
    nowhere = run_cli("token", "create", "x", "--tenant", "nowhere/acme")
    assert nowhere.exit_code == 1 and "nowhere" in nowhere.stderr
    assert run_cli("token", "create", "x", "--allow", "everything").exit_code == 2
    unknown = run_cli("token", "revoke", "0" * 32)
    assert unknown.exit_code == 1 and "There is no token" in unknown.stderr


def test_another_token_than_the_admins_does_not_manage_tokens(
    run_cli: RunCli, server: Control, monkeypatch: object
) -> None:
    value = run_cli("token", "create", "ci", "--allow", "read", "--allow", "deploy", "--allow", "data").stdout.strip()
    monkeypatch.setenv("CLOISTER_ADMIN_TOKEN", value)  # type: ignore[attr-defined]
    assert run_cli("tenants").exit_code == 0
    refused = run_cli("token", "list")
    assert refused.exit_code == 3 and "Only the admin token" in refused.stderr
