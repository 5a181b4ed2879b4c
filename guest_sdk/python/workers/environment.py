"""`env`: what is bound to the worker, by name; asked for when the first call comes in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


class Env:
    """The bindings as attributes and by name. There is one for each worker, empty until its first call."""

    def __getattr__(self, name: str) -> Any:
        # Only for names that are not there.
        if name.startswith("__"):
            raise AttributeError(name)
        if not _filled:
            raise AttributeError(f"There is no binding {name!r}: bindings can be used only while a call is handled.")
        raise AttributeError(_missing(name))

    def __getitem__(self, name: str) -> Any:
        try:
            return self.__dict__[name]
        except KeyError:
            raise KeyError(_missing(name)) from None

    def __contains__(self, name: object) -> bool:
        return name in self.__dict__

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __len__(self) -> int:
        return len(self.__dict__)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Env {', '.join(self)}>"


env = Env()

_filled = False


def filled(ask: Callable[[], Mapping[str, Any]]) -> Env:
    """`env` with the worker's bindings, which `ask` gives: the first time that this is called."""
    global _filled
    if not _filled:
        env.__dict__.update(ask())
        _filled = True
    return env


def _missing(name: str) -> str:
    return (
        f"This worker has no binding {name!r}; it has {', '.join(env) or 'none'}. "
        "Bindings are declared in the wrangler configuration that it is deployed with."
    )
