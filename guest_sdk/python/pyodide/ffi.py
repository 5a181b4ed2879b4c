"""The names of `pyodide.ffi` that workers use. Values are Python's already; nothing is converted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class JsException(Exception):
    """What a binding raises when an operation fails, with Cloudflare's message."""

    def __init__(self, message: str = "", name: str = "Error") -> None:
        super().__init__(message)
        self.message = message
        self.name = name
        self.cause: JsException | None = None

    @property
    def js_error(self) -> JsException:
        return self


JsError = JsException


class ConversionError(Exception):
    """A value that cannot be converted. Nothing raises it here."""


class JsProxy:
    """No value is one here."""


JsArray = JsMap = JsObject = JsCallable = JsPromise = JsBuffer = JsProxy


class _JsNull:
    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "jsnull"


jsnull = _JsNull()


def to_js(value: T, *_: Any, **__: Any) -> T:
    return value


def create_proxy(value: T, *_: Any, **__: Any) -> T:
    return value


def create_once_callable(value: T, *_: Any, **__: Any) -> T:
    return value


def destroy_proxies(*_: Any) -> None:
    pass


def run_sync(awaitable: Any) -> Any:
    """The result of an awaitable, from code that is not asynchronous."""
    from workers.loop import run_nested

    return run_nested(awaitable)


def can_run_sync() -> bool:
    return True


def register_js_module(*_: Any) -> None:
    raise NotImplementedError("There is no JavaScript here.")


Callback = Callable[..., Any]
