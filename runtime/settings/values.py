"""What a setting's value looks like: as text in the environment, and as TOML in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Kind:
    """`from_text` and `from_toml` raise ValueError for what is no such value; the rules say what is.

    `from_toml` also gets the folder to which relative paths are relative.
    """

    text_rule: str
    from_text: Callable[[str], object]
    toml_rule: str
    from_toml: Callable[[Any, Path], object]


def kind_of(annotation: Any) -> Kind:
    """By the annotation of the field in `ServerSettings`, as it is written there."""
    return _KINDS.get(annotation, _TEXT)


def _boolean(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip().lower() for word in text.split(",") if word.strip())


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(path.strip()) for path in text.split(",") if path.strip())


def _pairs(text: str) -> dict[str, int | str]:
    pairs: dict[str, int | str] = {}
    for pair in text.split(","):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not name or not equals or not value:
            raise ValueError
        pairs[name] = int(value) if value.isascii() and value.isdigit() else value
    return pairs


def _of_type(value: Any, *types: type) -> Any:
    """TOML's types to the letter: True is no number."""
    if type(value) not in types:
        raise ValueError
    return value


def _filled(value: Any) -> str:
    text: str = _of_type(value, str)
    if not text.strip():
        raise ValueError
    return text


def _path(value: Any, folder: Path) -> Path:
    return folder / Path(_filled(value)).expanduser()


def _table(value: Any, _folder: Path) -> dict[str, int | str]:
    return {name: _of_type(each, int, str) for name, each in _of_type(value, dict).items()}


_TEXT = Kind("text", str, "a text", lambda value, _: _filled(value))
_PATH = Kind("a path", Path, "a text, the path", _path)

_KINDS: Mapping[str, Kind] = {
    "int": Kind("a whole number", int, "a whole number", lambda value, _: _of_type(value, int)),
    "float": Kind("a number", float, "a number", lambda value, _: float(_of_type(value, int, float))),
    "bool": Kind("on or off", _boolean, "true or false", lambda value, _: _of_type(value, bool)),
    "Path": _PATH,
    "Path | None": _PATH,
    "tuple[str, ...]": Kind(
        "words with commas between",
        _words,
        'a list of texts, like ["one", "two"]',
        lambda value, _: tuple(_filled(word).strip().lower() for word in _of_type(value, list)),
    ),
    "tuple[Path, ...]": Kind(
        "paths with commas between",
        _paths,
        'a list of paths, like ["/srv/one"]',
        lambda value, folder: tuple(_path(each, folder) for each in _of_type(value, list)),
    ),
    "Mapping[str, int | str]": Kind(
        "pairs like cpu_ms=1000, with commas between", _pairs, "a table, like { cpu_ms = 1000 }", _table
    ),
}
