"""Dispatch code of the demo platform: a small file, data and SQL API in front of every tenant's worker.

The host runs this file (`cloister serve --dispatcher examples/binding_dispatcher`) and calls `fetch` for each request.
`env.DISPATCHER.get(name)` gives a stub of a tenant's worker: its public methods are called as if they were local.
The caller says in the header X-User-ID which tenant it is; see README.md for the routes.
"""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, urlsplit

from runtime.dispatcher import RemoteError, WorkerNotFound
from workers import File, Response


class ClientError(Exception):
    """The request cannot be carried out as it is: a status from 400 to 499 and what is wrong."""

    def __init__(self, status, message, headers=None):
        super().__init__(message)
        self.response = Response.json({"error": message}, status=status, headers=headers)


async def fetch(request, env):
    user_id = request.headers.get("X-User-ID")
    if not user_id:
        return Response("Missing X-User-ID header", status=400)
    if user_id not in env.DISPATCHER:
        return worker_not_found()
    try:
        handler = route(request.method, urlsplit(request.url).path)
        return await handler(request, env.DISPATCHER.get(user_id), user_id)
    except ClientError as error:
        return error.response
    except WorkerNotFound:
        return worker_not_found()
    except RemoteError as error:
        return remote_failure(error)


def route(method, path):
    """The function that answers. Raises ClientError: 404 for a path, 405 for a method that is not there."""
    methods = ROUTES.get(path)
    if methods is None:
        raise ClientError(404, f"There is nothing at {path[:200]}")
    handler = methods.get(method)
    if handler is None:
        allowed = ", ".join(methods)
        raise ClientError(405, f"{path} does not take {method}; it takes {allowed}", {"Allow": allowed})
    return handler


# Files, in the tenant's R2 bucket


async def upload_file(request, worker, user_id):
    try:
        form = await request.form_data()
    except (ValueError, TypeError) as error:
        raise ClientError(400, f"The body must be a multipart form with the fields key and file: {error}") from None
    key, file = form.get("key"), form.get("file")
    if not isinstance(key, str) or not key:
        raise ClientError(400, "Missing key: the form needs a text field named key")
    if not isinstance(file, File):
        raise ClientError(400, "Missing file: the form needs a file named file")
    stored = await worker.upload_file(key, file.stream(), file.type or "application/octet-stream")
    return Response.json({"success": True, "key": key, "size": stored["size"]})


async def get_file(request, worker, user_id):
    # Range and conditions are the worker's to answer: it hands them to its bucket.
    return await worker.get_file(key_of(request), request.method, dict(request.headers.items()))


async def delete_file(request, worker, user_id):
    await worker.delete_file(key_of(request))
    return Response.json({"success": True})


# Data, in the tenant's KV namespace


async def set_data(request, worker, user_id):
    body = await json_object(request)
    key = body.get("key")
    if not isinstance(key, str) or not key:
        raise ClientError(400, "Missing key: it must be a text that is not empty")
    if "value" not in body:
        raise ClientError(400, "Missing value: it must be given; null is a value too")
    await worker.set_data(key, body["value"])
    return Response.json({"success": True, "key": key})


async def get_data(request, worker, user_id):
    key = key_of(request)
    return Response.json({"key": key, "value": await worker.get_data(key)})


async def delete_data(request, worker, user_id):
    await worker.delete_data(key_of(request))
    return Response.json({"success": True})


# SQL, in the tenant's D1 database, and the figures


async def query(request, worker, user_id):
    body = await json_object(request)
    sql, params = body.get("sql"), body.get("params")
    if not isinstance(sql, str) or not sql.strip():
        raise ClientError(400, "Missing sql: it must be a text with a statement")
    if not isinstance(params, list | None):
        raise ClientError(400, "params must be a list")
    try:
        answer = await worker.query_database(sql, params or [])
    except RemoteError as error:
        # What D1 says of a statement: its errors all begin so.
        if error.message.startswith("D1_"):
            raise ClientError(400, error.message) from None
        raise
    return Response.json({"results": answer["results"], "meta": answer["meta"]})


async def stats(request, worker, user_id):
    return Response.json(await worker.get_stats())


async def health(request, worker, user_id):
    return Response(f"The worker of {user_id} is ready")


ROUTES = {
    "/": {"GET": health, "HEAD": health},
    "/files": {"GET": get_file, "HEAD": get_file, "POST": upload_file, "DELETE": delete_file},
    "/data": {"GET": get_data, "HEAD": get_data, "POST": set_data, "DELETE": delete_data},
    "/query": {"POST": query},
    "/stats": {"GET": stats, "HEAD": stats},
}


def key_of(request):
    keys = parse_qs(urlsplit(request.url).query, keep_blank_values=True).get("key", [])
    if len(keys) != 1 or not keys[0]:
        raise ClientError(400, "Missing key: the address needs ?key=…, once")
    return keys[0]


async def json_object(request):
    try:
        body = json.loads(await request.text())
    except (ValueError, RecursionError):
        raise ClientError(400, "The body is not JSON") from None
    if not isinstance(body, dict):
        raise ClientError(400, "The body must be a JSON object")
    return body


def worker_not_found():
    return Response.json({"error": "Worker not found"}, status=404)


# How KV and R2 say that they do not take what they were given: a key that is too long, a value that is too large.
REFUSED_BY_KV = re.compile(r"KV [A-Z]+ failed: (4\d\d) (.*)", re.DOTALL)
REFUSED_BY_R2 = re.compile(r"(?:get|put|head|delete): (.*) \((10020|10012|100100)\)", re.DOTALL)


def remote_failure(error):
    if found := REFUSED_BY_KV.fullmatch(error.message):
        status = 413 if found[1] == "413" else 400
        return Response.json({"error": found[2]}, status=status)
    if found := REFUSED_BY_R2.fullmatch(error.message):
        return Response.json({"error": found[1]}, status=400)
    return Response.json({"error": "The worker threw an exception"}, status=500)
