"""Who gets into the management API, from where, and what everybody else gets."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.control import load_admin_token
from runtime.settings import ServerSettings, SettingsError
from tests.runtime.control.service import NAMESPACES, SCRIPTS, TOKEN, Control, RunControl

WRONG_CREDENTIALS = [
    "",
    "Bearer",
    "Bearer ",
    "Bearer wrong",
    f"Bearer {TOKEN}x",
    f"Bearer {TOKEN[:-1]}",
    f"Basic {TOKEN}",
    TOKEN,
    "Bearer \udce9",
]


@pytest.mark.parametrize("credentials", WRONG_CREDENTIALS)
def test_without_the_token_nothing_is_answered(run_control: RunControl, credentials: str) -> None:
    async def test(control: Control) -> None:
        for method, path in [("GET", NAMESPACES), ("PUT", f"{SCRIPTS}/a"), ("GET", "/nothing"), ("PATCH", NAMESPACES)]:
            answer = await control.call(method, path, headers={"Authorization": credentials})
            assert (answer.status, answer.code) == (401, 10000)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert TOKEN not in answer.text

    run_control(test)


def test_the_scheme_is_read_in_any_case(run_control: RunControl) -> None:
    async def test(control: Control) -> None:
        answer = await control.call("GET", NAMESPACES, headers={"Authorization": f"bearer {TOKEN}"})
        assert answer.status == 200

    run_control(test)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8788", "[::1", "169.254.1.1", ""]
)
def test_a_request_that_means_another_host_is_refused_even_with_the_token(run_control: RunControl, host: str) -> None:
    async def test(control: Control) -> None:
        answer = await control.call("GET", NAMESPACES, headers={"Host": host})
        assert (answer.status, answer.code) == (403, 9109)

    run_control(test)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1234", "localhost.", "127.0.0.1", "127.9.9.9:1", "[::1]:8788"]
)
def test_loopback_names_are_this_machine(run_control: RunControl, host: str) -> None:
    async def test(control: Control) -> None:
        assert (await control.call("GET", NAMESPACES, headers={"Host": host})).status == 200

    run_control(test)


def test_another_host_name_can_be_configured(run_control: RunControl) -> None:
    async def test(control: Control) -> None:
        headers = {"Host": "admin.example", "Origin": "https://admin.example"}
        assert (await control.call("GET", NAMESPACES, headers=headers)).status == 200
        assert (await control.call("GET", NAMESPACES, headers={"Host": "www.admin.example"})).status == 403

    run_control(test, admin_host_names=("admin.example",))


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost.evil.example", "file://", ""])
def test_a_page_from_elsewhere_is_refused(run_control: RunControl, origin: str) -> None:
    async def test(control: Control) -> None:
        answer = await control.call("GET", NAMESPACES, headers={"Origin": origin})
        assert (answer.status, answer.code) == (403, 9109)

    run_control(test)


def test_what_is_not_there_and_what_is_not_possible_are_envelopes_too(run_control: RunControl) -> None:
    async def test(control: Control) -> None:
        missing = await control.call("GET", "/client/v4/nothing")
        assert (missing.status, missing.code) == (404, 7003)

        wrong_method = await control.call("PATCH", NAMESPACES)
        assert (wrong_method.status, wrong_method.code) == (405, 10405)
        assert wrong_method.headers["Allow"] == "GET, HEAD, POST"

        other_account = await control.call("GET", NAMESPACES.replace("local", "other"))
        assert (other_account.status, other_account.code) == (404, 7003)
        assert "'local'" in other_account.message

    run_control(test)


def test_a_fault_of_the_servers_shows_nothing_of_the_server(run_control: RunControl, component: bytes) -> None:
    async def test(control: Control) -> None:
        control.settings.uploads_directory.rmdir()
        answer = await control.put("worker", component)
        assert (answer.status, answer.code) == (500, 10013)
        assert str(control.settings.data) not in answer.text
        assert "Error" not in answer.message

    run_control(test)


def test_the_token_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    settings = ServerSettings(data=tmp_path)

    token = load_admin_token(settings)

    assert load_admin_token(settings) == token
    assert len(token) >= 40
    assert stat.S_IMODE(settings.admin_token_path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["admin-token"]


def test_servers_that_start_at_once_agree_on_the_token(tmp_path: Path) -> None:
    settings = ServerSettings(data=tmp_path)
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: load_admin_token(settings), range(32)))
    assert len(tokens) == 1
    assert os.listdir(tmp_path) == ["admin-token"]


def test_a_token_from_the_settings_comes_first_and_is_not_written_down(tmp_path: Path) -> None:
    settings = ServerSettings(data=tmp_path, admin_token=TOKEN)
    assert load_admin_token(settings) == TOKEN
    assert os.listdir(tmp_path) == []
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize("content", ["", "short", "two words that are long", "é" * 20])
def test_a_file_that_holds_no_token_is_said_to_be_so(tmp_path: Path, content: str) -> None:
    settings = ServerSettings(data=tmp_path)
    settings.admin_token_path.write_text(content)
    with pytest.raises(SettingsError, match="delete it"):
        load_admin_token(settings)


def test_a_token_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    settings = ServerSettings(data=tmp_path)
    load_admin_token(settings)
    settings.admin_token_path.chmod(0o644)
    load_admin_token(settings)
    assert stat.S_IMODE(settings.admin_token_path.stat().st_mode) == 0o600
