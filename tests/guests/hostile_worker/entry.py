"""A worker that attacks in the way that the path names, and one that minds its own business at /work.

It uses the package as a customer would, and the contract below it where the package would not let the attack through.
"""

import asyncio
import hashlib
import itertools
import json
import os
import re
import sys
import time

from componentize_py_types import Err
from wit_world.imports import d1, http, kv, log, r2, types
from wit_world.imports.http import Response as RawResponse
from wit_world.imports.types import Payload_Bytes, Payload_Empty, Payload_Stream, Payload_Text

from workers import Response, WorkerEntrypoint

KEPT = {"seen": [], "body": None}


def spin():
    while True:
        pass


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path, _, query = request.url.partition("://")[2].partition("/")[2].partition("?")
        return await ATTACKS[path](self, request, query)

    # What a tenant that minds its own business does: computing, and each of its stores.

    async def work(self, request, query):
        number = int(query)
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        await self.env.KV.put("work", digest) if number == 0 else None
        await self.env.FILES.put("work", digest) if number == 0 else None
        if number == 0:
            await self.env.DB.exec("CREATE TABLE IF NOT EXISTS work (digest TEXT)")
            await self.env.DB.exec("DELETE FROM work")
            await self.env.DB.prepare("INSERT INTO work VALUES (?)").bind(digest).run()
        stored = [None, self.env.KV.get, self._file, self._row][number % 4]
        return Response.json({"digest": digest, "stored": await stored("work") if stored else None})

    async def _file(self, key):
        return await (await self.env.FILES.get(key)).text()

    async def _row(self, _):
        return await self.env.DB.prepare("SELECT digest FROM work").first("digest")

    # Time

    async def loop(self, request, query):
        spin()

    async def loop_in_regex(self, request, query):
        re.match(r"(a+)+$", "a" * 64 + "b")

    async def loop_in_power(self, request, query):
        return Response(str(len(str(7 ** (7**9)))))

    async def loop_after_answer(self, request, query):
        http.respond(RawResponse(202, "", Payload_Text("early")))
        spin()

    async def sleep_a_year(self, request, query):
        time.sleep(365 * 24 * 3600)

    async def wait_for_nothing(self, request, query):
        await asyncio.sleep(365 * 24 * 3600)

    async def host_calls(self, request, query):
        while True:
            kv.get("KV", "missing", "")

    async def host_calls_between_waits(self, request, query):
        while True:
            sum(range(20_000))
            kv.put("KV", "same", Payload_Text("x"), "")

    async def wall_clock_by_clock(self, request, query):
        until = time.monotonic() + 3600
        while time.monotonic() < until:
            pass

    # Memory

    async def one_allocation(self, request, query):
        return Response(str(len(bytearray(1 << 30))))

    async def many_allocations(self, request, query):
        kept = []
        while True:
            kept.append(bytearray(10_000))

    async def growing_text(self, request, query):
        text = "x"
        while True:
            text = text * 2

    # The stack

    async def recursion(self, request, query):
        def deeper():
            return deeper()

        return deeper()

    async def recursion_without_a_limit(self, request, query):
        sys.setrecursionlimit(1 << 30)

        class Deep:
            def __repr__(self):
                return repr(self)

        return Response(repr(Deep()))

    async def recursion_in_c(self, request, query):
        sys.setrecursionlimit(1 << 30)
        nested = []
        for _ in range(50_000):
            nested = [nested]
        return Response(json.dumps(nested))

    # Callers that leave

    async def work_until(self, request, query):
        """Has work that is to go on; the answer takes a second."""
        self.ctx.waitUntil(self.env.KV.put("until", query))
        await asyncio.sleep(1)
        return Response("late")

    async def work_until_and_stream(self, request, query):
        self.ctx.waitUntil(self.env.KV.put("until", query))

        async def pieces():
            while True:
                yield b"x" * 60_000

        return Response(pieces())

    async def worked(self, request, query):
        return Response(str(await self.env.KV.get("until")))

    # The log

    async def print_flood(self, request, query):
        while True:
            print("flood " * 10_000)

    async def log_flood(self, request, query):
        while True:
            log.write(log.Level.ERROR, "flood " * 10_000)

    async def log_one_giant(self, request, query):
        log.write(log.Level.ERROR, "g" * 30_000_000)
        return Response("logged")

    async def log_injection(self, request, query):
        print('\x1b[2J\x1b]0;title\x07{"level":"info","tenant":"bystander","message":"forged"}\r\nnext\u202e\x00')
        return Response("logged")

    # Answers

    async def endless_body(self, request, query):
        async def pieces():
            while True:
                yield b"x" * 60_000

        return Response(pieces())

    async def body_that_stops(self, request, query):
        async def pieces():
            yield b"begun"
            await asyncio.sleep(365 * 24 * 3600)

        return Response(pieces())

    async def body_that_nobody_writes(self, request, query):
        body, KEPT["sink"] = types.pipe()
        http.respond(RawResponse(200, "", Payload_Stream(body)))
        time.sleep(365 * 24 * 3600)

    async def trap_in_the_body(self, request, query):
        async def pieces():
            yield b"begun"
            os.abort()

        return Response(pieces())

    async def answer(self, request, query):
        """Any status, headers and body, past the package's own checks."""
        asked = json.loads(query_text(query))
        headers = asked["headers"] * asked.get("times", 1)
        if asked["early"]:
            with_failures(lambda: http.respond(RawResponse(asked["status"], headers, Payload_Text("body"))))
        return Response.from_parts(asked["status"], headers, "body")

    async def exit(self, request, query):
        os._exit(int(query or 0))

    async def exit_by_exception(self, request, query):
        sys.exit(3)

    async def abort(self, request, query):
        os.abort()

    # Handles

    async def forged_handle(self, request, query):
        body = object.__new__(types.Body)
        body.handle = int(query)
        return Response(body.text())

    async def dropped_handle(self, request, query):
        body, _sink = types.pipe()
        number = body.handle
        with body:
            pass
        again = object.__new__(types.Body)
        again.handle = number
        return Response(again.text())

    async def given_away_handle(self, request, query):
        body, sink = types.pipe()
        sink.finish()
        number = body.handle
        kv.put("KV", "given", Payload_Stream(body), "")
        again = object.__new__(types.Body)
        again.handle = number
        return Response(again.text())

    async def keep_body(self, request, query):
        KEPT["body"] = request.body
        return Response("kept")

    async def use_kept_body(self, request, query):
        return Response(await KEPT["body"].text())

    async def handles_without_end(self, request, query):
        kept = []
        while True:
            kept.append(types.pipe())

    # Arguments

    async def huge_arguments(self, request, query):
        """Ten million characters wherever the contract takes text."""
        huge = "1" * 10_000_000
        calls = {
            "kv.get": lambda: kv.get("KV", huge, ""),
            "kv.get binding": lambda: kv.get(huge, "key", ""),
            "kv.get options": lambda: kv.get("KV", "key", huge),
            "kv.list": lambda: kv.list("KV", '{"prefix": "' + huge + '"}'),
            "kv.put options": lambda: kv.put("KV", "key", Payload_Empty(), huge),
            "kv.get-many": lambda: kv.get_many("KV", ["k"] * 50_000, ""),
            "r2.head": lambda: r2.head("FILES", huge),
            "r2.get options": lambda: r2.get("FILES", "key", huge),
            "r2.delete": lambda: r2.delete("FILES", ["k"] * 50_000),
            "r2.complete": lambda: r2.complete_multipart_upload("FILES", "key", "id", huge),
            "d1.query": lambda: d1.query("DB", huge),
            "d1.exec": lambda: d1.exec("DB", huge),
        }
        return Response.json({name: outcome(call) for name, call in calls.items()})

    async def deep_options(self, request, query):
        deep = "[" * 100_000 + "]" * 100_000
        return Response.json(
            {
                "kv.list": outcome(lambda: kv.list("KV", deep)),
                "r2.get": outcome(lambda: r2.get("FILES", "k", deep)),
                "d1.query": outcome(lambda: d1.query("DB", '{"statements": ' + deep + "}")),
            }
        )

    async def odd_options(self, request, query):
        number, deep = "0x" + "f" * 300, "[" * 450 + "]" * 450
        return Response.json(
            {
                "kv.put": outcome(lambda: kv.put("KV", "k", Payload_Empty(), f'{{"expiration": "{number}"}}')),
                "kv.list": outcome(lambda: kv.list("KV", f'{{"cursor": {deep}}}')),
                "r2.put": outcome(lambda: r2.put("FILES", "k", Payload_Empty(), f'{{"storageClass": {deep}}}')),
                "r2.complete": outcome(
                    lambda: r2.complete_multipart_upload("FILES", "k", "id", f'[{{"partNumber": "{number}"}}]')
                ),
            }
        )

    async def dear_to_read(self, request, query):
        """What is stored in a moment and would take seconds to make sense of: how reading it, three times, goes."""
        body, sink = types.pipe()
        if query == "arrays":
            sink.write_text("[" + "[]," * 2_500_000 + "1]")
        for _ in range(24 if query in ("text", "object") else 0):
            sink.write_hex("ff" * 1_000_000)
        sink.finish()
        r2.put("FILES", "dear", Payload_Stream(body), "")
        if query != "object":
            kv.put("KV", "dear", Payload_Stream(r2.get("FILES", "dear", "").body), "")
        headers = '{"onlyIf": {"headers": "' + "a:\\n" * 64_000 + '"}}'
        read = {
            "arrays": lambda: len(kv.get_many("KV", ["dear"], '{"type": "json"}')),
            "text": lambda: kv.get_many("KV", ["dear"], ""),
            "object": lambda: r2.get("FILES", "dear", "").body.text(),
            "headers": lambda: r2.get("FILES", "nothing", headers),
        }[query]
        return Response.json([outcome(read) for _ in range(3)])

    async def keys(self, request, query):
        """Stores under each key that is asked for and tells what is there afterwards."""
        keys = json.loads(await request.text())
        told = []
        for number, key in enumerate(keys):
            told.append(
                [
                    outcome(lambda: kv.put("KV", key, Payload_Text(f"kv {number}"), "")),  # noqa: B023
                    outcome(lambda: r2.put("FILES", key, Payload_Text(f"r2 {number}"), "")),  # noqa: B023
                ]
            )
        for number, key in enumerate(keys):
            told[number].append(outcome(lambda: value_of(kv.get("KV", key, ""))))  # noqa: B023
            told[number].append(outcome(lambda: value_of(r2.get("FILES", key, ""))))  # noqa: B023
        return Response.json(told)

    # Stores

    async def fill_kv(self, request, query):
        for number in range(int(query)):
            await self.env.KV.put(f"{number}", "x" * 1_000_000)
        return Response("stored")

    async def fill_r2(self, request, query):
        for number in range(int(query)):
            await self.env.FILES.put(f"{number}", "x" * 1_000_000)
        return Response("stored")

    async def fill_r2_by_parts(self, request, query):
        upload = r2.create_multipart_upload("FILES", "parts", "")
        for number in range(1, int(query) + 1):
            with_failures(lambda: r2.upload_part("FILES", "parts", upload, number, Payload_Text("x" * 1_000_000)))  # noqa: B023
        return Response("stored")

    async def fill_d1(self, request, query):
        await self.env.DB.exec("CREATE TABLE IF NOT EXISTS fill (a)")
        for _ in range(int(query)):
            await self.env.DB.prepare("INSERT INTO fill VALUES (randomblob(1000000))").run()
        return Response("stored")

    async def empty(self, request, query):
        """Makes room again."""
        for number in range(100):
            await self.env.KV.delete(f"{number}")
            await self.env.FILES.delete(f"{number}")
        await self.env.DB.exec("DROP TABLE IF EXISTS fill")
        return Response("emptied")

    async def sql(self, request, query):
        """Runs the statements of a JSON list, each [sql, parameters], one after the other."""
        told = []
        for sql, parameters in json.loads(await request.text()):
            asked = json.dumps({"statements": [{"sql": sql, "params": parameters}]})
            told.append(outcome(lambda: json.loads(d1.query("DB", asked))))  # noqa: B023
        return Response.json(told)

    async def sql_uncaught(self, request, query):
        return Response(str(await self.env.DB.prepare(await request.text()).all()))

    # What stays, what can be measured

    async def remember(self, request, query):
        before = list(KEPT["seen"])
        KEPT["seen"].append(query)
        return Response.json(before)

    async def tick(self, request, query):
        """How many steps the clocks make while this computes for a while, and whether a sleep moves them."""
        readings, walls = set(), set()
        for _ in range(20_000):
            readings.add(time.monotonic_ns())
            walls.add(time.time_ns())
        before = time.monotonic_ns()
        await asyncio.sleep(0.03)
        slept_ms = (time.monotonic_ns() - before) / 1e6
        finest_ns = min((b - a for a, b in itertools.pairwise(sorted(readings))), default=None)
        return Response.json({"steps": len(readings), "walls": len(walls), "finest_ns": finest_ns, "slept": slept_ms})

    async def echo(self, request, query):
        return Response(request.body)

    async def take_in(self, request, query):
        return Response(str(len(await request.bytes())))

    async def sized(self, request, query):
        return Response("x" * int(query))

    async def streamed(self, request, query):
        async def pieces():
            for _ in range(int(query) // 1000):
                yield b"x" * 1000

        return Response(pieces())

    async def print_bytes(self, request, query):
        for _ in range(int(query) // 100):
            print("p" * 99)
        return Response("printed")

    async def headers(self, request, query):
        return Response("", headers={"x-filler": "h" * int(query)})


ATTACKS = {name: method for name, method in vars(Default).items() if not name.startswith("_") and name != "fetch"}


def query_text(query):
    from urllib.parse import unquote

    return unquote(query)


def outcome(call):
    try:
        return {"ok": call()}
    except Err as error:
        return {"error": f"{error.value.name}: {error.value.message}"}


def with_failures(call):
    try:
        return call()
    except Err as error:
        raise RuntimeError(error.value.message) from None


def value_of(found):
    if found is None:
        return None
    payload = found.value if hasattr(found, "value") else Payload_Stream(found.body)
    if isinstance(payload, Payload_Stream):
        return payload.value.text()
    if isinstance(payload, Payload_Bytes):
        return payload.value.decode("latin-1")
    return getattr(payload, "value", "")
