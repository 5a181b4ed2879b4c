"""`env`: what is bound to the worker, by name; asked for when the first call comes in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Env:
    """The bindings as attributes and by name. There is one for each worker, empty until its first call."""

    def __getattr__(self, name: str) -> Any:
        # Only for names that are not there.
        if name.startswith("__"):
            raise AttributeError(name)
        if not self.__dict__:
            raise AttributeError(f"There is no binding {name!r}: bindings can be used only while a call is handled.")
        raise AttributeError(f"This worker has no binding {name!r}. It has {', '.join(self)}.")

    def __getitem__(self, name: str) -> Any:
        try:
            return self.__dict__[name]
        except KeyError:
            raise KeyError(f"This worker has no binding {name!r}.") from None

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


def fill(bindings: Mapping[str, Any]) -> None:
    """Puts the worker's bindings in their place."""
    env.__dict__.update(bindings)
