"""A worker that runs the code that a test sends, with the SDK's names at hand."""

import asyncio
import datetime
import logging
import random
import textwrap
import time
import uuid

import workers
from pyodide import ffi
from workers import Blob, File, FormData, Headers, Request, Response, WorkerEntrypoint

NAMES = {
    "asyncio": asyncio,
    "datetime": datetime,
    "logging": logging,
    "random": random,
    "time": time,
    "uuid": uuid,
    "workers": workers,
    "ffi": ffi,
    "Blob": Blob,
    "File": File,
    "FormData": FormData,
    "Headers": Headers,
    "Request": Request,
    "Response": Response,
    "kept": {},
}


class Default(WorkerEntrypoint):
    attribute = "not a method"

    async def fetch(self, request):
        if request.method == "GET":
            return Response("hello")
        return await self._run(await request.text(), request=request)

    async def run(self, code, *arguments, **named):
        return await self._run(code, arguments=arguments, named=named)

    def echo(self, value):
        return value

    def fail(self, kind, message):
        raise {"ValueError": ValueError, "JsException": ffi.JsException, "SystemExit": SystemExit}[kind](message)

    def _private(self):
        return "secret"

    async def _run(self, code, **names):
        scope = dict(NAMES, env=self.env, ctx=self.ctx, worker=self, **names)
        exec("async def experiment():\n" + textwrap.indent(textwrap.dedent(code), "    "), scope)
        return await scope["experiment"]()
