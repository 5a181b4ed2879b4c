"""A worker that speaks the contract directly; the last part of the URL says what it shall do."""

import random
import time

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.handler import Exception as GuestError
from wit_world.exports.handler import Outcome
from wit_world.imports import environment, http, kv, log, types
from wit_world.imports.http import Response
from wit_world.imports.types import Payload_Bytes, Payload_Empty, Payload_Stream, Payload_Text

KEPT = {"count": 0, "body": None}


def ok(text=""):
    return Response(200, "content-type: text/plain\n", Payload_Text(text) if text else Payload_Empty())


def hello(*_):
    return ok("hello")


def count(*_):
    KEPT["count"] += 1
    return ok(str(KEPT["count"]))


def echo(method, url, headers, body):
    return Response(200, headers, body)


def loop(*_):
    while True:
        pass


def early_then_loop(*_):
    http.respond(Response(202, "", Payload_Text("early")))
    loop()


def memory(*_):
    kept = []
    try:
        while True:
            kept.append(bytearray(1 << 20))
    except MemoryError:
        kept.clear()
        raise Err(GuestError("MemoryError", "out of memory", "")) from None


def recursion(*_):
    def deeper(n):
        return deeper(n + 1)

    try:
        deeper(0)
    except RecursionError:
        return ok("recursion ended")


def fail(*_):
    raise Err(GuestError("ValueError", "boom", "Traceback of the guest"))


def crash(*_):
    raise KeyError("not caught")


def sleep(*_):
    time.sleep(0.05)
    return ok("slept")


def sleep_long(*_):
    time.sleep(1e6)


def read_pieces(method, url, headers, body):
    pieces = []
    while (piece := body.value.read(65536)) is not None:
        pieces.append(piece)
    return Response(200, f"x-pieces: {len(pieces)}\n", Payload_Bytes(b"".join(pieces)[:100]))


def read_hex(method, url, headers, body):
    total = 0
    while (digits := body.value.read_hex(1 << 20)) is not None:
        total += sum(bytes.fromhex(digits))
    return ok(str(total))


def read_text(method, url, headers, body):
    return ok(body.value.text())


def keep_body(method, url, headers, body):
    KEPT["body"] = body.value
    return ok("kept")


def use_kept_body(*_):
    return ok(KEPT["body"].text())


def streamed(*_):
    body, sink = types.pipe()
    http.respond(Response(201, "x-streamed: yes\n", Payload_Stream(body)))
    for i in range(20):
        sink.write(bytes([i]) * 60_000)
    sink.write_text("é")
    sink.write_hex("ff")
    sink.finish()
    return ok("ignored")


def streamed_broken(*_):
    body, sink = types.pipe()
    http.respond(Response(200, "", Payload_Stream(body)))
    sink.write(b"half")
    with sink:
        pass
    return ok()


def streamed_without_end(*_):
    body, sink = types.pipe()
    http.respond(Response(200, "", Payload_Stream(body)))
    sink.write(b"begun")
    time.sleep(1e6)


def outlive(*_):
    http.wait_until()
    time.sleep(0.05)
    log.write(log.Level.INFO, "outlived")
    return ok()


def outlive_long(*_):
    http.wait_until()
    time.sleep(1e6)


def twice(*_):
    http.respond(Response(200, "", Payload_Text("first")))
    try:
        http.respond(Response(200, "", Payload_Text("second")))
    except Err as error:
        log.write(log.Level.WARN, error.value.message)
    return ok()


def unknown_binding(*_):
    try:
        kv.get("NOT_MINE", "key", "")
    except Err as error:
        return ok(f"{error.value.name}: {error.value.message}")


def many_calls(*_):
    while True:
        environment.bindings()


def chance(*_):
    return ok(str(random.random()))


def bindings(*_):
    return ok(environment.bindings())


def pipes_without_end(*_):
    kept = []
    while True:
        kept.append(types.pipe())


def huge_chunk(*_):
    _body, sink = types.pipe()
    sink.write(bytes(1 << 20))
    return ok("written")


def huge_text(*_):
    log.write(log.Level.INFO, "x" * 100_000_000)
    return ok("written")


class Handler(exports.Handler):
    def fetch(self, method, url, headers, body):
        return globals()[url.rpartition("/")[2]](method, url, headers, body)

    def call(self, method, arguments, attachments):
        return Outcome(method + arguments, attachments)
