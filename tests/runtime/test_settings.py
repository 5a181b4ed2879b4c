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
        ("TRACES_RATIO", "1.5"),
        ("TRACES_ENDPOINT", "collector:4318"),
        ("TRACES_ENDPOINT", "http://collector:port/"),
        ("TRACES_ENDPOINT", "http://"),
        ("UPSTREAM", "127.0.0.1:8797"),
        ("UPSTREAM", "https://127.0.0.1:8797"),
        ("UPSTREAM", "http://127.0.0.1:8797/path"),
        ("UPSTREAM", "http://user:secret@127.0.0.1:8797"),
        ("UPSTREAM", "http://127.0.0.1:0"),
        ("UPSTREAM", "http://[::1"),
    ],
)
def test_a_wrong_setting_is_named_and_a_wrong_token_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"(?i){name}: ") as refused:
        read_settings({f"CLOISTER_{name}": value})
    if name == "ADMIN_TOKEN":
        assert value not in str(refused.value)


def test_opentelemetrys_own_variables_are_heeded_where_ours_are_not_set() -> None:
    base = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector/otlp/", "OTEL_TRACES_SAMPLER_ARG": "0.25"}
    settings = read_settings({**base, "OTEL_EXPORTER_OTLP_HEADERS": "key=value", "OTEL_SERVICE_NAME": "shop"})
    assert (settings.traces, settings.traces_ratio, settings.traces_service) == (False, 0.25, "shop")
    assert (settings.traces_endpoint, settings.traces_port) == ("https://collector/otlp/v1/traces", 443)
    assert settings.traces_headers == "key=value" and "key=value" not in repr(settings)

    own = read_settings({**base, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://other:1/x"})
    assert own.traces_endpoint == "http://other:1/x"
    assert read_settings({**base, "CLOISTER_TRACES_ENDPOINT": "http://ours/y"}).traces_endpoint == "http://ours/y"
    with pytest.raises(SettingsError, match="OTEL_TRACES_SAMPLER_ARG: must be a number"):
        read_settings({"OTEL_TRACES_SAMPLER_ARG": "all"})


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
