"""A worker that makes any call of the contract that it is asked to make, with whatever names and numbers it is given.

The request's body is JSON: a list of [function, argument, …]; the answer is the list of their results, each
{"ok": …} or {"error": message}.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.handler import Exception as GuestError
from wit_world.imports import d1, environment, kv, r2, types
from wit_world.imports.http import Response
from wit_world.imports.types import Payload_Bytes, Payload_Stream, Payload_Text

KEPT = []


def text_of(payload):
    if isinstance(payload, Payload_Stream):
        return payload.value.text()
    if isinstance(payload, Payload_Bytes):
        return payload.value.decode("latin-1")
    return getattr(payload, "value", None)


def kv_get(binding, key):
    entry = kv.get(binding, key, "")
    return None if entry is None else text_of(entry.value)


def kv_put(binding, key, value):
    kv.put(binding, key, Payload_Text(value), "")


def r2_get(binding, key):
    found = r2.get(binding, key, "")
    return None if found is None else found.body.text()


def r2_put(binding, key, value):
    return json.loads(r2.put(binding, key, Payload_Text(value), ""))


def forged_body(number):
    body = object.__new__(types.Body)
    body.handle = number
    return body.text()


FUNCTIONS = {
    "kv.get": kv_get,
    "kv.get-many": lambda binding, keys: json.loads(kv.get_many(binding, keys, "")),
    "kv.put": kv_put,
    "kv.delete": kv.delete,
    "kv.list": lambda binding, options="": json.loads(kv.list(binding, options)),
    "r2.head": r2.head,
    "r2.get": r2_get,
    "r2.put": r2_put,
    "r2.delete": lambda binding, keys: r2.delete(binding, keys),
    "r2.list": lambda binding, options="": json.loads(r2.list(binding, options)),
    "r2.create-multipart-upload": lambda binding, key: r2.create_multipart_upload(binding, key, ""),
    "r2.upload-part": lambda binding, key, upload, number, value: json.loads(
        r2.upload_part(binding, key, upload, number, Payload_Text(value))
    ),
    "r2.complete-multipart-upload": lambda binding, key, upload, parts: r2.complete_multipart_upload(
        binding, key, upload, json.dumps(parts)
    ),
    "r2.abort-multipart-upload": r2.abort_multipart_upload,
    "d1.query": lambda binding, sql, params=(): json.loads(
        d1.query(binding, json.dumps({"statements": [{"sql": sql, "params": list(params)}]}))
    ),
    "d1.batch": lambda binding, statements: json.loads(
        d1.query(binding, json.dumps({"statements": [{"sql": sql, "params": params} for sql, params in statements]}))
    ),
    "d1.exec": lambda binding, sql: json.loads(d1.exec(binding, sql)),
    "bindings": lambda: json.loads(environment.bindings()),
    "keep": KEPT.append,
    "kept": lambda: list(KEPT),
    "forged-body": forged_body,
}


def run(function, *arguments):
    try:
        return {"ok": FUNCTIONS[function](*arguments)}
    except Err as error:
        return {"error": f"{error.value.name}: {error.value.message}"}


class Handler(exports.Handler):
    def fetch(self, method, url, headers, body):
        results = [run(*step) for step in json.loads(text_of(body))]
        return Response(200, "content-type: application/json\n", Payload_Text(json.dumps(results)))

    def call(self, method, arguments, attachments):
        raise Err(GuestError("TypeError", f"Method {method} does not exist", ""))
