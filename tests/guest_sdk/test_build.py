"""Real builds: what is cached, and what a developer is told when it fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from guest_sdk.build import BuildError, ConfigurationError, build, component, dependencies
from host_bindings import WIT_DIRECTORY
from tests.e2e.server import wait_until
from tests.guest_sdk.conftest import HELLO
from tests.guest_sdk.laboratory import PROJECTS

Build = Callable[[Mapping[str, str]], Path]
Project = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any build that is not in the cache fails."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("this should have been in the cache")

    monkeypatch.setattr(component, "_load", refuse)


def test_the_same_source_elsewhere_is_built_once(
    laboratory: Path, project: Project, no_compiler: None, tmp_path: Path
) -> None:
    copy = shutil.copytree(PROJECTS / "laboratory", tmp_path / "copy")
    other = project({"wrangler.jsonc": '{"name": "b", "main": "../copy/entry.py"}'})

    assert build(copy, wit_directory=WIT_DIRECTORY) == build(other, wit_directory=WIT_DIRECTORY) == laboratory


def test_the_output_is_a_copy(laboratory: Path, no_compiler: None, tmp_path: Path) -> None:
    output = build(PROJECTS / "laboratory", wit_directory=WIT_DIRECTORY, output=tmp_path / "new/worker.wasm")

    assert output == tmp_path / "new/worker.wasm"
    assert output.read_bytes() == laboratory.read_bytes()
    assert list(output.parent.iterdir()) == [output]


_PARENT = """
import sys
from pathlib import Path
from guest_sdk.build import build
from host_bindings import WIT_DIRECTORY

build(Path(sys.argv[1]), wit_directory=WIT_DIRECTORY)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_build_that_is_killed_leaves_nothing_running(laboratory: Path, project: Project) -> None:
    """`laboratory`: the base has been made."""
    endless = project({"wrangler.jsonc": '{"name": "a", "main": "entry.py"}', "entry.py": "while True:\n    pass\n"})
    with subprocess.Popen([sys.executable, "-c", _PARENT, str(endless)], stderr=subprocess.DEVNULL) as parent:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        wait_until(lambda: children.read_text().strip(), "the worker's code is not loaded")
        child = Path(f"/proc/{int(children.read_text())}")
        wait_until(lambda: b"load_child" in (child / "cmdline").read_bytes(), "the child is another one")

        parent.kill()

    wait_until(lambda: not child.exists(), "the worker's code runs on")


def test_a_missing_module_is_named_with_its_place(build_project: Build) -> None:
    with pytest.raises(BuildError) as caught:
        build_project({"entry.py": HELLO + "\n\ndef late():\n    import nowhere_to_be_found\n"})

    line = HELLO.count("\n") + 4
    assert f"No module named 'nowhere_to_be_found' (entry.py, line {line})" in str(caught.value)
    assert "pyproject.toml" in str(caught.value)


def test_an_error_at_import_comes_with_the_workers_own_traceback(build_project: Build, tmp_path: Path) -> None:
    other = "def boom():\n    raise ValueError('at import')\nboom()\n"

    with pytest.raises(BuildError) as caught:
        build_project({"entry.py": "import other\n" + HELLO, "other.py": other})

    assert str(caught.value) == "The worker does not load: ValueError: at import"
    traceback = caught.value.details.splitlines()
    assert traceback[1] == f'  File "{tmp_path}/project/entry.py", line 1, in <module>'
    assert f'  File "{tmp_path}/project/other.py", line 3, in <module>' in traceback
    assert traceback[-1] == "ValueError: at import"
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_syntax_error_is_shown_where_it_is(build_project: Build, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        build_project({"other.py": "def f(:\n    pass\n"})

    assert "SyntaxError" in str(caught.value)
    assert f'File "{tmp_path}/project/other.py", line 1' in caught.value.details


def test_a_worker_without_an_entrypoint_is_refused(build_project: Build) -> None:
    with pytest.raises(BuildError, match='does not export a handler named "on_fetch"'):
        build_project({"entry.py": "x = 1\n"})


def wheel(folder: Path, name: str, files: Mapping[str, str]) -> Path:
    """A wheel with these files."""
    source = folder / f"{name}-source"
    for path, text in files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text)
    info = source / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    names = [str(path.relative_to(source)) for path in sorted(source.rglob("*")) if path.is_file()]
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in [*names, f"{info.name}/RECORD"]))
    archive = shutil.make_archive(str(folder / f"{name}-1.0-py3-none-any"), "zip", source)
    return Path(archive).rename(folder / f"{name}-1.0-py3-none-any.whl")


def with_dependency(path: Path, name: str) -> str:
    return f'[project]\nname = "x"\nversion = "1"\ndependencies = ["{name} @ {path.as_uri()}"]\n'


PROBE = """
import importlib.util
import os

import purely

refused = []
for folder in ("/0", "/1", "/2", "/python", "/world", "/bundled"):
    try:
        open(folder + "/planted.py", "w").close()
    except OSError:
        refused.append(folder)
foreign = [name for name in ("pytest", "aiohttp", "wasmtime", "pip", "werkzeug") if importlib.util.find_spec(name)]
others = [os.listdir(f"/{n}") for n in range(3, 10) if os.path.exists(f"/{n}")]
raise RuntimeError(f"{purely.NAME} {foreign} {others} {refused}")
"""


def test_a_worker_gets_its_packages_and_nothing_else_of_the_machine(build_project: Build, tmp_path: Path) -> None:
    """While a worker is built its code runs, and it may write to what it is given: that must be copies."""
    files = {"purely/__init__.py": "from purely.inner import NAME\n", "purely/inner.py": "NAME = 'packed'\n"}
    made = wheel(tmp_path, "purely", files)

    with pytest.raises(BuildError) as caught:
        build_project({"entry.py": PROBE, "pyproject.toml": with_dependency(made, "purely")})

    assert (
        str(caught.value)
        == "The worker does not load: RuntimeError: packed [] [] ['/0', '/python', '/world', '/bundled']"
    )
    assert list((tmp_path / "cache/dependencies").rglob("inner.py"))
    assert not list(tmp_path.rglob("planted.py"))


def test_a_package_that_is_not_pure_python_is_refused(build_project: Build, tmp_path: Path) -> None:
    made = wheel(
        tmp_path, "natively", {"natively/__init__.py": "", "natively/fast.cpython-311-x86_64-linux-gnu.so": ""}
    )

    with pytest.raises(BuildError, match="The package natively is not pure Python"):
        build_project({"pyproject.toml": with_dependency(made, "natively")})
    assert not list((tmp_path / "cache/dependencies").iterdir())


def test_a_package_that_cannot_be_installed_is_named(project: Project, tmp_path: Path) -> None:
    folder = project({"pyproject.toml": with_dependency(tmp_path / "nothing.whl", "nothing")})

    with pytest.raises(BuildError, match="nothing"):
        dependencies.install(dependencies.read_dependencies(folder), tmp_path / "cache")


@pytest.mark.parametrize("text", ["[project", '[project]\ndependencies = "a"\n', "[project]\ndependencies = [5]\n"])
def test_a_broken_pyproject_is_named(project: Project, text: str) -> None:
    with pytest.raises(BuildError, match=r"pyproject\.toml"):
        dependencies.read_dependencies(project({"pyproject.toml": text}))


def test_a_main_file_that_is_no_module_is_refused(project: Project, tmp_path: Path) -> None:
    folder = project({"wrangler.jsonc": '{"name": "a", "main": "my-worker.py"}', "my-worker.py": HELLO})

    with pytest.raises(ConfigurationError, match=r"my-worker\.py"):
        build(folder, wit_directory=WIT_DIRECTORY, cache=tmp_path)


def test_the_sdk_is_importable_on_a_host_without_a_guest() -> None:
    code = "import sys, workers, pyodide.ffi; assert not any(n.startswith('wit_world') for n in sys.modules)"

    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
