"""`cloister init`: a folder that can be built as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from guest_sdk.build import read_configuration
from tests.runtime.cli.conftest import RunCli


@pytest.mark.parametrize(("folder", "name"), [("shop", "shop"), ("My Shop!", "my-shop"), ("x" * 80, "x" * 63)])
def test_the_folder_names_the_worker(run_cli: RunCli, folder: str, name: str) -> None:
    outcome = run_cli("init", folder)

    assert (outcome.exit_code, outcome.stdout) == (0, f"{folder}\n"), outcome.stderr
    configuration = read_configuration(Path(folder))
    assert (configuration.name, configuration.notes) == (name, ())
    assert [binding["name"] for binding in configuration.bindings] == ["VISITS", "GREETING"]
    compile(configuration.main.read_text(), "entry.py", "exec")


def test_nothing_is_overwritten(run_cli: RunCli) -> None:
    Path("there").mkdir()
    Path("there/entry.py").write_text("mine")
    outcome = run_cli("init", "there")
    assert outcome.exit_code == 2 and "there is not empty" in outcome.stderr
    assert [path.name for path in Path("there").iterdir()] == ["entry.py"]


@pytest.mark.parametrize("arguments", [["..."], ["shop", "--name", "Shop"]])
def test_a_name_that_cannot_be_is_refused(run_cli: RunCli, arguments: list[str]) -> None:
    outcome = run_cli("init", *arguments)
    assert outcome.exit_code == 2 and "Give another with --name." in outcome.stderr
