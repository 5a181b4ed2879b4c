"""The operator's dispatch code: a Python file that the host runs for every request.

It is as trusted as the configuration and runs in the server's process, on its event loop; it must not block. The file
has either `async def fetch(request, env)` or, as on Cloudflare, a class `Default(WorkerEntrypoint)`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from host_bindings.body import Payload
from runtime.dispatcher.namespace import DispatchNamespace
from runtime.dispatcher.values import host_request, response_parts
from runtime.settings import SettingsError
from workers import Request, Response

logger = logging.getLogger(__name__)

FILE_NAME = "dispatcher.py"
MODULE_NAME = "cloister_operator_dispatcher"

Fetch = Callable[[Request], Awaitable[object]]


class OperatorContext:
    """What the operator's code gets as `ctx`: work that goes on after the answer."""

    def __init__(self, tasks: set[asyncio.Future[Any]]) -> None:
        self._tasks = tasks

    def wait_until(self, work: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    waitUntil = wait_until

    def _finished(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Work of the dispatch code after its answer failed", exc_info=error)


class Operator:
    """The loaded code. Made by `load_operator`."""

    def __init__(self, fetch: Fetch, spool_directory: Path, tasks: set[asyncio.Future[Any]]) -> None:
        self._fetch = fetch
        self._spool_directory = spool_directory
        self._tasks = tasks

    async def fetch(self, method: str, url: str, headers: str, body: Payload) -> tuple[int, str, Payload]:
        """The answer's status, header text and body. Raises what the code raises."""
        request = host_request(method, url, headers, body, self._spool_directory)
        answer = await self._fetch(request)
        if not isinstance(answer, Response):
            raise TypeError(f"the dispatch code's fetch must return a workers.Response, not {type(answer).__name__}")
        return response_parts(answer)

    async def close(self) -> None:
        """Waits for work that goes on after answers."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)


def load_operator(path: Path, dispatcher: DispatchNamespace, spool_directory: Path) -> Operator:
    """Loads a file, or `dispatcher.py` in a folder, whose other modules it may import.

    `env` has the namespace as DISPATCHER. Large files of forms that the code reads are kept in `spool_directory` for as
    long as they are needed. Raises `SettingsError`, with the reason, if the code does not load.
    """
    module = _load(path / FILE_NAME if path.is_dir() else path)
    env = SimpleNamespace(DISPATCHER=dispatcher)
    tasks: set[asyncio.Future[Any]] = set()
    context = OperatorContext(tasks)
    return Operator(_entrance(module, env, context), spool_directory, tasks)


def _load(file: Path) -> ModuleType:
    if not file.is_file():
        raise SettingsError(f"dispatcher: there is no file {file}")
    specification = importlib.util.spec_from_file_location(MODULE_NAME, file)
    if specification is None or specification.loader is None:
        raise SettingsError(f"dispatcher: {file} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    folder = str(file.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    sys.modules[MODULE_NAME] = module
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise SettingsError(f"dispatcher: {file} does not load: {type(error).__name__}: {error}") from error
    return module


def _entrance(module: ModuleType, env: SimpleNamespace, context: OperatorContext) -> Fetch:
    default: Any = getattr(module, "Default", None)
    function: Any = getattr(module, "fetch", None)
    if isinstance(default, type) and inspect.iscoroutinefunction(getattr(default, "fetch", None)):

        async def fetch_by_class(request: Request) -> object:
            return await default(context, env).fetch(request)

        return fetch_by_class
    if inspect.iscoroutinefunction(function):
        takes_context = len(inspect.signature(function).parameters) > 2

        async def fetch_by_function(request: Request) -> object:
            return await (function(request, env, context) if takes_context else function(request, env))

        return fetch_by_function
    raise SettingsError(
        f"dispatcher: {module.__file__} has neither `async def fetch(request, env)` nor a class `Default` with "
        "`async def fetch(self, request)`"
    )
