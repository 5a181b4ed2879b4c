"""Settings: where they come from, and what a wrong one says."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from runtime.settings import ServerSettings, SettingsError, prepare_data_directory, read_settings


def test_options_come_before_the_environment_and_that_before_the_defaults() -> None:
    environment = {"CLOISTER_PORT": "9000", "CLOISTER_ADMIN_PORT": "9001", "CLOISTER_NAMESPACE": ""}
    settings = read_settings(environment, port=1234, data=None)
    assert (settings.port, settings.admin_port, settings.namespace) == (1234, 9001, "production")
    assert settings.data == Path(".cloister").absolute()


def test_every_sort_of_setting_can_be_read_from_the_environment() -> None:
    settings = read_settings(
        {
            "CLOISTER_DATA": "data",
            "CLOISTER_DISPATCHER": "/srv/dispatcher",
            "CLOISTER_SHUTDOWN_GRACE_S": "2.5",
            "CLOISTER_ADMIN_HOST_NAMES": "Admin.example, other.example,",
            "CLOISTER_ACCESS_LOG": "off",
            "CLOISTER_LOG_FORMAT": "json",
            "CLOISTER_ADMIN_TOKEN": "0123456789abcdef",
        }
    )
    assert settings.data == Path("data").absolute()
    assert settings.dispatcher == Path("/srv/dispatcher")
    assert settings.shutdown_grace_s == 2.5
    assert settings.admin_host_names == ("admin.example", "other.example")
    assert settings.access_log is False
    assert "0123456789abcdef" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eight"),
        ("PORT", "70000"),
        ("ADMIN_PORT", "8787"),
        ("NAMESPACE", "Not Valid"),
        ("UPLOAD_BYTES_MAX", "1"),
        ("ACCESS_LOG", "maybe"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("ADMIN_TOKEN", "short"),
        ("ADMIN_TOKEN", "two words, but long enough"),
        ("SHUTDOWN_GRACE_S", "-1"),
    ],
)
def test_a_wrong_setting_is_named_and_a_wrong_token_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"(?i){name}: ") as refused:
        read_settings({f"CLOISTER_{name}": value})
    if name == "ADMIN_TOKEN":
        assert value not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("host", False)]
)
def test_a_loopback_address_is_known_as_one(host: str, loopback: bool) -> None:
    assert ServerSettings(host=host).is_loopback is loopback


def test_the_data_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    settings = ServerSettings(data=data)
    prepare_data_directory(settings)
    prepare_data_directory(settings)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE(settings.uploads_directory.stat().st_mode) == 0o700


def test_a_data_directory_that_cannot_be_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingsError, match="data: "):
        prepare_data_directory(ServerSettings(data=tmp_path / "file"))
