"""Which modules a worker will need: what is not imported while the component is made does not exist in it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from guest_sdk.build.errors import BuildError

IGNORED_FOLDERS = frozenset((".venv", "venv", "node_modules", "__pycache__", "build", "dist", "tests"))
FILES_MAX = 5_000


@dataclass(frozen=True)
class Imports:
    """Module names: `required` must be there, `optional` are tried (they stand inside of a `try`)."""

    required: frozenset[str]
    optional: frozenset[str]


def source_files(root: Path) -> list[Path]:
    """The files of a folder that belong to a worker, sorted."""
    found = [path for path in root.rglob("*") if path.is_file() and not _ignored(path.relative_to(root))]
    if len(found) > FILES_MAX:
        raise BuildError(
            f"{root}: there are more than {FILES_MAX} files beside the main file. Put the main file and its modules "
            "into a folder of their own."
        )
    return sorted(found)


def _ignored(path: Path) -> bool:
    return any(part in IGNORED_FOLDERS or part.startswith(".") for part in path.parts[:-1]) or path.suffix == ".pyc"


def module_names(root: Path, files: Iterable[Path]) -> list[str]:
    """The modules that the Python files of a folder make, packages first."""
    names = []
    for path in files:
        if path.suffix != ".py":
            continue
        parts = list(path.relative_to(root).with_suffix("").parts)
        if parts[-1] in ("__main__", "setup", "conftest") or not all(part.isidentifier() for part in parts):
            continue
        if parts[-1] == "__init__":
            parts.pop()
        if parts:
            names.append(".".join(parts))
    return sorted(names)


def imports_of(files: Iterable[Path]) -> Imports:
    """What Python files import, anywhere in them. Files that cannot be parsed here are left to the guest's Python."""
    required: set[str] = set()
    optional: set[str] = set()
    for path in files:
        if path.suffix != ".py":
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for name, guarded in _walk(tree, guarded=False):
            (optional if guarded else required).add(name)
    return Imports(frozenset(required), frozenset(optional - required))


def find_import(root: Path, files: Iterable[Path], name: str) -> str | None:
    """Where a module is imported first, as "file, line n"."""
    for path in files:
        if path.suffix != ".py":
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            if any(found == name or found.startswith(f"{name}.") for found in names):
                return f"{path.relative_to(root)}, line {node.lineno}"  # type: ignore[attr-defined]
    return None


def _walk(node: ast.AST, guarded: bool) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield alias.name, guarded
        elif isinstance(child, ast.ImportFrom):
            if child.module and not child.level:
                yield child.module, guarded
                # `from package import module`: nobody can tell it from a name without looking.
                for alias in child.names:
                    if alias.name != "*":
                        yield f"{child.module}.{alias.name}", True
        else:
            is_type_checking = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from _walk(child, guarded or isinstance(child, ast.Try) or is_type_checking)
