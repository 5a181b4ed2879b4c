"""The guest's side of `handler`: finds the worker's code, calls it, gives its answers and errors to the host.

Imported by the generated application module, in a guest alone.
"""

from __future__ import annotations

import asyncio
import inspect
import linecache
import logging
import random
import sys
import traceback
from collections.abc import Callable
from types import CoroutineType, ModuleType
from typing import Any, NoReturn

from componentize_py_types import Err
from wit_world.exports.handler import Exception as GuestError
from wit_world.exports.handler import Outcome
from wit_world.imports.http import Response as HostResponse
from wit_world.imports.log import Level
from wit_world.imports.types import Payload_Empty, Payload_Stream, Payload_Text

from workers import host, rpc
from workers.bindings import environment
from workers.content import read_bytes
from workers.entrypoint import Context, WorkerEntrypoint
from workers.environment import Env, filled
from workers.http import Request, Response
from workers.loop import guest_loop
from workers.values import well_formed

_LIFECYCLE = frozenset(
    ("alarm", "connect", "ctx", "dup", "email", "env", "fetch", "queue", "scheduled", "tail", "test", "trace")
)

_SDK = "/0/"
"""Where componentize-py has the SDK while it builds, and so what its code objects say."""
_WORKER = "/1/"

_context: Context | None = None


class LogHandler(logging.Handler):
    """`logging` of the worker's code, into the tenant's log with its level."""

    def emit(self, record: logging.LogRecord) -> None:
        level = Level.ERROR if record.levelno >= 40 else Level.WARN if record.levelno >= 30 else Level.INFO
        host.log.write(Level.DEBUG if record.levelno < 20 else level, well_formed(self.format(record)))


def current_env() -> Env:
    """The worker's bindings. They are asked for at the first request: there are none while the worker is built."""
    return filled(environment)


def current_context() -> Context:
    if _context is None:
        raise RuntimeError("There is no request to wait for.")
    return _context


class CallContext(Context):
    """What belongs to one call, in a guest."""

    def _announce(self) -> None:
        host.http.wait_until()


class Worker:
    """The worker's code behind the component's exports."""

    def __init__(self, main: ModuleType) -> None:
        """Raises TypeError if the module has no entrypoint, or two."""
        self._class, self._function = find_entrypoint(main)
        self._fetch = relaxed(self._class.fetch if self._class is not None else self._function)
        self._methods: set[str] = set()
        self._loop = guest_loop()
        root = logging.getLogger()
        # The application makes a Worker for each export.
        if not any(isinstance(handler, LogHandler) for handler in root.handlers):
            root.addHandler(LogHandler())
            root.setLevel(logging.INFO)
        _keep_source_lines()

    def fetch(self, method: str, url: str, headers: str, body: Any) -> HostResponse:
        global _context
        context = _context = CallContext()
        try:
            raw = None if type(body) is Payload_Empty else host.from_payload(body)
            request = Request.from_parts(method, url, headers, raw)
            return self._loop.run(self._answer(request, context))
        except Err:
            raise
        except BaseException as error:
            raise_to_host(error)
        finally:
            _context = None

    def call(self, method: str, arguments: str, attachments: list[Any]) -> Outcome:
        global _context
        context = _context = CallContext()
        try:
            return self._loop.run(self._call(method, arguments, attachments, context))
        except Err:
            raise
        except BaseException as error:
            raise_to_host(error)
        finally:
            _context = None

    async def _answer(self, request: Request, context: Context) -> HostResponse:
        env = current_env()
        try:
            if self._class is not None:
                answer = self._fetch(self._class(context, env), request, env, context)
            else:
                answer = self._fetch(request, env, context)
            if not isinstance(answer, Response):
                if type(answer) is CoroutineType or inspect.isawaitable(answer):
                    answer = await answer
                if not isinstance(answer, Response):
                    raise TypeError(f"fetch must return a Response, not {type(answer).__name__}.")
        except BaseException:
            await self._finish(context)
            raise
        raw = answer._take()
        headers = answer._headers.to_text()
        if type(raw) is str and not context.pending:
            return HostResponse(answer.status, headers, Payload_Text(raw))
        if raw is None or isinstance(raw, str | bytes | host.HostStream):
            response = HostResponse(answer.status, headers, await host.to_payload(raw))
            if not context.pending:
                return response
            host.http.respond(response)
        else:
            body, sink = host.piped()
            response = HostResponse(answer.status, headers, Payload_Stream(body))
            host.http.respond(response)
            try:
                await host.pour(raw, sink)
            except BaseException:
                await self._finish(context)
                raise
        await self._finish(context)
        return HostResponse(200, "", Payload_Empty())

    async def _call(self, method: str, arguments: str, attachments: list[Any], context: Context) -> Outcome:
        function = self._method(method, context)
        received = [host.from_payload(payload) for payload in attachments]
        for index in rpc.bytes_attached(arguments):
            received[index] = await read_bytes(received[index])
        positional, named = rpc.decode(arguments, received)
        try:
            value = function(*positional, **named)
            if type(value) is CoroutineType or inspect.isawaitable(value):
                value = await value
            text, returned = rpc.encode(value)
            payloads = [await host.to_payload(raw) for raw in returned] if returned else []
        finally:
            if context.pending:
                await self._finish(context)
        return Outcome(text, payloads)

    def _method(self, name: str, context: Context) -> Callable[..., Any]:
        if name not in self._methods:
            self._check_method(name)
        assert self._class is not None
        function = getattr(self._class(context, current_env()), name)
        if not callable(function):
            raise TypeError(f"Method {name[:100]} does not exist")
        return function  # type: ignore[no-any-return]

    def _check_method(self, name: str) -> None:
        """Raises TypeError if the worker's class has no public method of that name; keeps it in mind if it has."""
        declared = None
        if self._class is not None and not name.startswith("_") and name not in _LIFECYCLE:
            declared = inspect.getattr_static(self._class, name, None)
        if declared is None or getattr(WorkerEntrypoint, name, None) is not None:
            raise TypeError(f"Method {name[:100]} does not exist")
        self._methods.add(name)

    async def _finish(self, context: Context) -> None:
        while context.pending:
            works, context.pending = context.pending, []
            tasks = [asyncio.ensure_future(_awaited(work)) for work in works]
            for failure in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(failure, BaseException):
                    host.log.write(Level.ERROR, _trace(failure))


class FreshWorker(Worker):
    """A worker as it is in its component: before its first request it makes its random numbers its own.

    Without that every instance would begin with those of the component's memory.
    """

    @classmethod
    def become(cls, handler: Any, main: ModuleType) -> None:
        """Makes a component's handler the worker of the module `main`. Raises TypeError as `Worker` does."""
        handler.__class__ = cls
        handler.__init__(main)

    def fetch(self, method: str, url: str, headers: str, body: Any) -> HostResponse:
        self._begin()
        return self.fetch(method, url, headers, body)

    def call(self, method: str, arguments: str, attachments: list[Any]) -> Outcome:
        self._begin()
        return self.call(method, arguments, attachments)

    def _begin(self) -> None:
        random.seed()
        self.__class__ = Worker  # type: ignore[assignment]


def find_entrypoint(main: ModuleType) -> tuple[type[Any] | None, Callable[..., Any] | None]:
    """The module's `Default` class or its `on_fetch`. Raises TypeError if there is none, or both."""
    default = getattr(main, "Default", None)
    function = getattr(main, "on_fetch", None)
    if default is not None and function is not None:
        raise TypeError("Cannot define multiple default entrypoints")
    if inspect.isclass(default) and callable(getattr(default, "fetch", None)):
        return default, None
    if inspect.isclass(default):
        setattr(default, "fetch", _no_fetch)  # noqa: B010
        return default, None
    if callable(function):
        return None, function
    raise TypeError(
        f'Python entrypoint "{main.__name__}" does not export a handler named "on_fetch" '
        "and has no class Default(WorkerEntrypoint)"
    )


def _no_fetch(_self: Any, _request: Any) -> Response:
    return Response("This worker does not handle HTTP requests.", status=404)


def relaxed(function: Any) -> Callable[..., Any]:
    """The function, called with no more positional arguments than it takes."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return function  # type: ignore[no-any-return]
    count = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    match count:  # the usual ones without a slice
        case 1:
            return lambda first, *_: function(first)
        case 2:
            return lambda first, second, *_: function(first, second)
        case 3:
            return lambda first, second, third, *_: function(first, second, third)
        case _:
            return lambda *arguments: function(*arguments[:count])


def raise_to_host(error: BaseException) -> NoReturn:
    """Gives an exception that the worker's code did not catch to the host."""
    name = getattr(error, "name", None) if isinstance(error, host.JsException) else None
    name = name if isinstance(name, str) and name else type(error).__name__
    try:
        message = str(error)
    except BaseException:
        message = ""
    trace = _trace(error)
    error.__traceback__ = None
    sys.stdout.flush()
    raise Err(GuestError(well_formed(name), well_formed(message or name), trace)) from None


async def _awaited(work: Any) -> Any:
    return await work


def _trace(error: BaseException) -> str:
    """The traceback without the SDK's own frames above the worker's code."""
    try:
        frame = error.__traceback__
        while frame is not None and frame.tb_frame.f_code.co_filename.startswith(_SDK):
            frame = frame.tb_next
        lines = traceback.format_exception(type(error), error, frame or error.__traceback__, limit=-50)
        return well_formed("".join(lines).replace(f'File "{_WORKER}', 'File "'))
    except BaseException:
        return type(error).__name__


def _keep_source_lines() -> None:
    """Keeps the worker's source lines for tracebacks: there are no files at run time."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.startswith(_WORKER):
            lines = linecache.getlines(file)
            # No time of change: never compared with the file again.
            linecache.cache[file] = (sum(map(len, lines)), None, lines, file)


__all__ = ["Worker", "current_context", "current_env"]
