"""Scripts get JSON from every command: the option is there, and what it prints is one document and nothing else."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from runtime.cli.main import cloister
from tests.runtime.cli.conftest import RunCli
from tests.runtime.control.service import Control

WITHOUT = {
    "serve": "it runs until it is ended; its log is JSON (CLOISTER_LOG_FORMAT)",
    "dev": "it runs until it is ended, for somebody who looks at it",
    "kv get": "it prints the value itself",
    "r2 get": "it prints the object itself",
}
"""Commands that have no --json, with the reason."""


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


COMMANDS = dict(commands(cloister))


def has_json(command: click.Command) -> bool:
    return any("--json" in parameter.opts and parameter.is_flag for parameter in command.params)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_it_or_a_reason_not_to(name: str) -> None:
    assert has_json(COMMANDS[name]) is (name not in WITHOUT)


def test_no_reason_is_given_for_a_command_that_is_not_there() -> None:
    assert set(WITHOUT) <= set(COMMANDS)


@pytest.fixture
def answer(run_cli: RunCli) -> Any:
    """What a command prints with --json."""

    def run(*arguments: object) -> Any:
        outcome = run_cli(*arguments, "--json")
        assert outcome.exit_code == 0, outcome.stderr
        return json.loads(outcome.stdout)

    return run


@pytest.fixture
def acme(answer: Any, server: Control, component_file: Path) -> str:
    bindings = ("--kv", "KV=cache", "--r2", "R2=files", "--d1", "DB=main")
    deployed = answer("deploy", component_file, "--name", "acme", *bindings)
    assert (deployed["changed"], deployed["script"]["version_number"]) == (True, 1)
    again = answer("deploy", component_file, "--name", "acme", *bindings)
    assert (again["changed"], again["script"]["version_number"]) == (False, 1)
    return "acme"


def test_secrets_and_tokens(answer: Any, acme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"value")))
    assert answer("secret", "put", acme, "KEY") == {"name": "KEY", "type": "secret_text"}
    assert answer("secret", "delete", acme, "KEY") == {"name": "KEY", "deleted": True}
    id = answer("token", "create", "ci")["id"]
    assert answer("token", "revoke", id) == {"id": id, "revoked": True}


def test_stores(answer: Any, acme: str) -> None:
    Path("file.txt").write_text("content")
    assert answer("kv", "put", acme, "KV", "key", "välue") == {"key": "key", "bytes": 6}
    assert answer("kv", "put", acme, "KV", "key", "--file", "file.txt") == {"key": "key", "bytes": 7}
    assert answer("kv", "delete", acme, "KV", "key") == {"key": "key", "deleted": True}
    assert answer("r2", "put", acme, "R2", "key", "file.txt")["key"] == "key"
    assert answer("r2", "delete", acme, "R2", "key") == {"key": "key", "deleted": True}


def test_the_end_of_a_tenant(answer: Any, acme: str) -> None:
    assert answer("start", acme) == {"name": acme, "was_stopped": False}
    deleted = answer("delete", acme, "--purge-data", "--yes")
    assert (deleted["deleted"], deleted["data_purged"]) == (True, True)


def test_copies(answer: Any, acme: str, server: Control, tmp_path: Path) -> None:
    answer("kv", "put", acme, "KV", "key", "value")
    made = answer("backup", tmp_path / "copy", "--data", server.settings.data)
    assert (made["backup"], made["kv_namespace"]) == (str(tmp_path / "copy"), 1)
    restored = answer("restore", tmp_path / "copy", "--data", tmp_path / "restored")
    assert (restored["data"], restored["created_on"][:2]) == (str(tmp_path / "restored"), "20")


def test_a_new_workers_folder(answer: Any) -> None:
    assert answer("init", "shop") == {"name": "shop", "directory": "shop"}
