"""Which modules the build brings along: all that the code names, wherever it names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from guest_sdk.build import BuildError, imports
from guest_sdk.build.imports import find_import, imports_of, module_names, source_files

CODE = """
import a, b.c as d
from e import f
from .near import g
from . import h
try:
    import optional
except ImportError:
    optional = None
def late():
    import inside
class C:
    def m(self):
        from deep.est import thing
if TYPE_CHECKING:
    import only_types
"""


def test_imports_are_found_wherever_they_are(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(CODE)

    found = imports_of([tmp_path / "m.py"])

    assert found.required == {"a", "b.c", "e", "inside", "deep.est"}
    assert {"optional", "only_types", "e.f", "deep.est.thing"} <= found.optional


def test_files_that_python_cannot_read_are_left_to_the_build(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def (")

    assert imports_of([tmp_path / "m.py"]).required == set()


def test_modules_have_their_dotted_names(tmp_path: Path) -> None:
    for name in ("a.py", "p/__init__.py", "p/q/r.py", "not-a-module.py", "setup.py", "data.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    assert module_names(tmp_path, source_files(tmp_path)) == ["a", "p", "p.q.r"]


def test_folders_of_tools_are_no_sources(tmp_path: Path) -> None:
    for name in (".venv/a.py", "node_modules/a.py", "__pycache__/a.pyc", ".git/a.py", "tests/a.py", "own/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    assert [str(path.relative_to(tmp_path)) for path in source_files(tmp_path)] == ["own/a.py"]


def test_too_many_files_are_refused_and_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "FILES_MAX", 10)
    for n in range(11):
        (tmp_path / f"{n}").touch()

    with pytest.raises(BuildError, match="more than"):
        source_files(tmp_path)


def test_an_import_is_found_with_its_line(project: Callable[[Mapping[str, str]], Path]) -> None:
    folder = project({"b.py": "x = 1\ndef f():\n    import a.b\n", "broken.py": "("})

    assert find_import(folder, source_files(folder), "a") == "b.py, line 3"
    assert find_import(folder, source_files(folder), "nowhere") is None
