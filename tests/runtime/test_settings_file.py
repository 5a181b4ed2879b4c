"""The settings file: the same settings as in the environment, which comes before it; what is wrong is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runtime.settings import ServerSettings, SettingsError, read, read_settings

ROOT = Path(__file__).parents[2]
TOKEN = "correct-horse-battery-staple"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_options_come_before_the_environment_that_before_the_file_and_that_before_the_defaults(tmp_path: Path) -> None:
    file = write(tmp_path / "cloister.toml", "port = 1\nadmin_port = 2\nnamespace = 'file'\n")

    found = read({"CLOISTER_ADMIN_PORT": "3", "CLOISTER_NAMESPACE": "environment"}, config=file, namespace="option")

    settings = found.settings
    assert (settings.port, settings.admin_port, settings.namespace, settings.processes) == (1, 3, "option", 1)
    assert found.file == file
    names = ("port", "admin_port", "namespace", "processes")
    assert [found.sources[name] for name in names] == ["file", "environment", "option", "default"]


def test_every_sort_of_setting_can_be_in_a_file(tmp_path: Path) -> None:
    file = write(
        tmp_path / "cloister.toml",
        f"""
        data = "data"
        dispatcher = "/srv/dispatcher"
        trusted_proxies = ["10.0.0.0/8", "::1"]
        confinement_paths = ["/srv/one"]
        shutdown_grace_s = 2
        versions_kept_days = 0.5
        access_log = false
        log_format = "json"
        admin_token = "{TOKEN}"
        [limits_max]
        cpu_ms = 50
        isolation = "request"
        """,
    )

    settings = read_settings({}, config=file)

    assert (settings.data, settings.dispatcher) == (tmp_path / "data", Path("/srv/dispatcher"))
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1")
    assert settings.confinement_paths == (Path("/srv/one"),)
    assert (settings.shutdown_grace_s, settings.versions_kept_days) == (2.0, 0.5)
    assert (settings.access_log, settings.log_format, settings.admin_token) == (False, "json", TOKEN)
    assert settings.limits_max == {"cpu_ms": 50, "isolation": "request"}


def test_it_is_found_in_the_data_directory_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / ".cloister/cloister.toml", "port = 1")
    write(tmp_path / "other/cloister.toml", "port = 2")
    write(tmp_path / "named.toml", "port = 3")

    assert read_settings({}).port == 1
    assert read_settings({}, data=Path("other")).port == 2
    assert read_settings({"CLOISTER_DATA": "other"}).port == 2
    assert read_settings({"CLOISTER_CONFIG": "named.toml"}).port == 3
    assert read_settings({"CLOISTER_CONFIG": "other/cloister.toml"}, config=Path("named.toml")).port == 3
    assert read_settings({}, data=Path("without")).port == ServerSettings.port


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "prot: there is no such setting; did you mean port?"),
        ("qqqqqq = 1", "qqqqqq: there is no such setting; there are host, port, "),
        ("port = '8787'", "port: must be a whole number"),
        ("port = true", "port: must be a whole number"),
        ("port = 70000", "port: a port is a number from 0 to 65535"),
        ("watchdog_s = '1'", "watchdog_s: must be a number"),
        ("access_log = 'on'", "access_log: must be true or false"),
        ("namespace = ''", "namespace: must be a text"),
        ("namespace = 'Not Valid'", "namespace: 1 to 63 lower-case letters"),
        ("trusted_proxies = '10.0.0.0/8'", "trusted_proxies: must be a list of texts"),
        ("trusted_proxies = [1]", "trusted_proxies: must be a list of texts"),
        ("limits_max = { cpu_ms = 1.5 }", "limits_max: must be a table"),
        ("log_format = 'xml'", "log_format: one of auto, json, pretty"),
    ],
)
def test_what_is_wrong_is_named_with_file_setting_and_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path / "cloister.toml", text)
    with pytest.raises(SettingsError) as refused:
        read_settings({}, config=file)
    assert str(refused.value).startswith(f"{file}: {said}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"port = ", "is not TOML: "),
        (b"port = 1\nport = 2", "is not TOML: "),
        (b"\xff", "is not TOML: it is not UTF-8"),
    ],
)
def test_what_is_no_toml_is_said_to_be_none(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "cloister.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=said):
        read_settings({}, config=file)


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"config: .*missing\.toml cannot be read: No such file"):
        read_settings({}, config=tmp_path / "missing.toml")
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        read_settings({"CLOISTER_CONFIG": str(tmp_path)})


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_secret_in_a_file_that_others_can_read_is_refused_and_not_shown(tmp_path: Path, mode: int) -> None:
    file = write(tmp_path / "cloister.toml", f"port = 1\nadmin_token = '{TOKEN}'", mode)
    with pytest.raises(SettingsError, match="admin_token: is a secret, and others can read this file") as refused:
        read_settings({}, config=file)
    assert TOKEN not in str(refused.value)

    write(file, "port = 1", mode)
    assert read_settings({}, config=file).port == 1


def test_a_file_in_the_data_directory_cannot_name_another_one(tmp_path: Path) -> None:
    file = write(tmp_path / "data/cloister.toml", "data = '/elsewhere'")
    with pytest.raises(SettingsError, match="cannot name another one"):
        read_settings({}, data=tmp_path / "data")
    assert read_settings({}, config=file).data == Path("/elsewhere")


def test_the_example_is_right_and_so_is_each_line_of_it_that_is_commented_out(tmp_path: Path) -> None:
    example = (ROOT / "packaging/cloister.toml").read_text()
    assert read_settings({}, config=ROOT / "packaging/cloister.toml").data == Path("/var/lib/cloister")

    commented_out = [line.removeprefix("# ") for line in example.splitlines() if re.match(r"# \w+ = ", line)]
    assert len(commented_out) > 5
    for line in commented_out:
        file = write(tmp_path / "cloister.toml", line)
        assert read(config=file, environment={}).sources[line.partition(" ")[0]] == "file"
