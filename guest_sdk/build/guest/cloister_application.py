"""What componentize-py makes the base of: everything that all workers have, and the way in for a worker's code.

Runs in the guest, while the base is made (`guest_sdk.build.base`) and while a worker is built on it (`load_child`).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import shutil
import sys
import traceback
from types import ModuleType
from typing import Any, ClassVar, NoReturn

import cloister_memory
import cloister_parameters as parameters
from wit_world.exports.handler import Outcome

from workers.runtime import FreshWorker


def load(name: str) -> ModuleType:
    """Imports a module without which there is no worker."""
    try:
        return importlib.import_module(name)
    except BaseException as error:
        refuse(f"{type(error).__name__}: {error}")


def refuse(reason: str) -> NoReturn:
    """Tells the build why there will be no worker, with the traceback of the exception that is being handled."""
    reason = reason.replace("\n", " ")
    sys.stderr.write(f"\n{parameters.MARK} {reason}\n{traceback.format_exc()}{parameters.MARK}\n")
    raise


class Handler:
    """No worker yet; `call` makes one of it, which is all that hosts get to see.

    componentize-py makes a handler for each of the contract's functions.
    """

    made: ClassVar[list[Handler]] = []

    def __init__(self) -> None:
        Handler.made.append(self)

    def fetch(self, _method: str, _url: str, _headers: str, _body: Any) -> NoReturn:
        raise RuntimeError("There is no worker in this component.")

    def call(self, _method: str, arguments: str, _attachments: list[Any]) -> Outcome:
        wanted = json.loads(arguments)
        # What is known of the folders is from the base's making. (importlib.invalidate_caches would import a lot.)
        sys.path_importer_cache.clear()
        for name in wanted["optional"]:
            with contextlib.suppress(BaseException):
                importlib.import_module(name)
        main = load(wanted["main"])
        for name in wanted["required"]:
            load(name)
        try:
            while Handler.made:
                FreshWorker.become(Handler.made.pop(), main)
        except TypeError as error:
            refuse(str(error))
        cloister_memory.freeze()
        return Outcome("null", [])


def make_base() -> None:
    """Leaves the memory as workers will find it, and in the folder `KEPT` what the build needs to know of it."""
    for name in parameters.MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for folder in parameters.LIBRARIES:
        target = f"{parameters.KEPT}/{folder}"
        shutil.copytree(f"/{folder}", target, ignore=shutil.ignore_patterns("__pycache__"))
    cloister_memory.settle()
    cloister_memory.settle_loading(parameters.KEPT)
    cloister_memory.freeze()
    with open(f"{parameters.KEPT}/{parameters.OBJECTS}", "w") as file:
        cloister_memory.list_objects(file)
    cloister_memory.freeze()
    cloister_memory.fill_holes()
    gc.freeze()  # without a collection, which would make new holes


make_base()
