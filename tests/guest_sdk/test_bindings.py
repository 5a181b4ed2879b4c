"""KV, R2 and D1 as a worker's code sees them, with real stores behind."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from host_bindings.body import BytesBody
from runtime.engine.errors import GuestException
from tests.guest_sdk.laboratory import Laboratory, content
from workers import ReadableStream

Experiment = Callable[[Callable[[Laboratory], Awaitable[None]]], None]
Results = Callable[..., None]


@pytest.fixture
def gives(experiment: Experiment) -> Results:
    """Says what code returns when a worker runs it."""

    def check(code: str, expected: Any, *arguments: Any) -> None:
        async def body(worker: Laboratory) -> None:
            assert await worker.run(code, *arguments) == expected

        experiment(body)

    return check


# KV


def test_kv_types(gives: Results) -> None:
    code = """
    await env.KV.put("key", '{"a": [1]}')
    found = [await env.KV.get("key"), (await env.KV.get("key", "json")).a]
    found.append(bytes(await env.KV.get("key", "arrayBuffer")))
    found.append(await env.KV.get("key", type="bytes"))
    stream = await env.KV.get("key", {"type": "stream", "cacheTtl": 60})
    found.append(b"".join([chunk async for chunk in stream]))
    return [*found, await env.KV.get("nothing"), await env.KV.get("nothing", "json")]
    """
    text = '{"a": [1]}'

    gives(code, [text, [1], text.encode(), text.encode(), text.encode(), None, None])


def test_kv_metadata_is_the_workers_own(gives: Results) -> None:
    code = """
    await env.KV.put("key", "v", metadata={"created_at": 1, "deep": {"a_b": None}}, expiration_ttl=600)
    found = await env.KV.getWithMetadata("key")
    missing = await env.KV.get_with_metadata("nothing")
    page = await env.KV.list(prefix="k")
    lasts = page["keys"][0]["expiration"] > time.time()
    return [found.value, found.metadata, dict(missing), page.keys[0].metadata, lasts]
    """
    metadata = {"created_at": 1, "deep": {"a_b": None}}

    gives(code, ["v", metadata, {"value": None, "metadata": None, "cacheStatus": None}, metadata, True])


def test_kv_values_and_keys_are_javascripts(gives: Results) -> None:
    code = """
    values = {"int": 5, "true": True, "none": None, "half": 0.5, "two": 2.0, "big": 2**53 + 1, "bytes": bytearray(b"b")}
    for key, value in values.items():
        await env.KV.put(key, value)
    await env.KV.put(7, "seven")
    return [await env.KV.get([*values, "7"]), await env.KV.get("7")]
    """
    texts = {"int": "5", "true": "true", "none": "null", "half": "0.5", "two": "2", "big": str(2**53 + 1), "bytes": "b"}

    gives(code, [{**texts, "7": "seven"}, "seven"])


def test_kv_pages(gives: Results) -> None:
    code = """
    for n in range(5):
        await env.KV.put(f"k{n}", "x")
    first = await env.KV.list({"limit": 3})
    second = await env.KV.list(limit=3, cursor=first.cursor)
    await env.KV.delete("k0")
    names = [[key.name for key in page.keys] for page in (first, second)]
    return [names, first.list_complete, second.list_complete, "cursor" in second, len((await env.KV.list()).keys)]
    """

    gives(code, [[["k0", "k1", "k2"], ["k3", "k4"]], False, True, False, 4])


def test_kv_takes_streams_and_values_of_full_size(gives: Results) -> None:
    code = """
    await env.KV.put("stream", arguments[0])
    await env.KV.put("full", b"\\xff" * (25 * 1024 * 1024))
    return [await env.KV.get("stream", "bytes"), len(await env.KV.get("full", "bytes"))]
    """

    gives(code, [b"\xff" * 100_000, 25 * 1024 * 1024], ReadableStream(BytesBody(b"\xff" * 100_000)))


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        ("await env.KV.put('k', {})", "TypeError", "KV put() accepts only strings, ArrayBuffers"),
        ("await env.KV.put('k', [1])", "TypeError", "KV put() accepts only strings, ArrayBuffers"),
        ("await env.KV.get('')", "TypeError", "Key name cannot be empty."),
        ("await env.KV.get('a' * 513)", "Error", "KV GET failed: 414 UTF-8 encoded length of 513"),
        ("await env.KV.put('k', 'v', expirationTtl=5)", "Error", "KV PUT failed: 400 Invalid expiration_ttl of 5."),
        ("await env.KV.put('k', 'v', {'metadata': 'x' * 2000})", "Error", "KV PUT failed: 413 Metadata length"),
        ("await env.KV.put('k', 'v')\nawait env.KV.get('k', 'nonsense')", "TypeError", "Unknown response type."),
        ("await env.KV.put('k', '{')\nawait env.KV.get('k', 'json')", "JSONDecodeError", ""),
        ("await env.KV.put('\\ud800', 'v')", "Error", "KV PUT failed: 400 Could not URL-decode key name"),
        ("await env.KV.put('', {})", "TypeError", "Key name cannot be empty."),
        ("await env.KV.put('..', [])", "TypeError", '".." is not allowed as a key name.'),
        ("await env.KV.put('a' * 513, {})", "Error", "KV PUT failed: 414 UTF-8 encoded length of 513"),
        ("await env.KV.put('k', {}, expiration=2**31)", "TypeError", "Value out of range."),
        ("await env.KV.put('k', 'NaN')\nawait env.KV.get('k', 'json')", "JSONDecodeError", "NaN is not valid JSON"),
        ("await env.KV.put('k', 'v')\nawait env.KV.get('k', '')", "TypeError", "Unknown response type."),
        (
            "await env.KV.list('prefix')",
            "TypeError",
            "Failed to execute 'list' on 'KvNamespace': parameter 1 is not of",
        ),
        (
            "await env.KV.put('k', 'v', 5)",
            "TypeError",
            "Failed to execute 'put' on 'KvNamespace': parameter 3 is not of",
        ),
        ("[x for x in env.KV]", "TypeError", "'KvNamespace' object is not iterable"),
        (
            "await env.BUCKET.put('k', 5)",
            "TypeError",
            "Failed to execute 'put' on 'R2Bucket': parameter 2 is not of type",
        ),
        ("await env.BUCKET.put('k', [1])", "TypeError", "Failed to execute 'put' on 'R2Bucket': parameter 2 is not of"),
        ("await env.BUCKET.put('k', 'v', md5=b'ab')", "TypeError", "MD5 is 16 bytes, not 2"),
        (
            "await env.BUCKET.get('k', 5)",
            "TypeError",
            "Failed to execute 'get' on 'R2Bucket': parameter 2 is not of type",
        ),
        (
            "await env.BUCKET.list([])",
            "TypeError",
            "Failed to execute 'list' on 'R2Bucket': parameter 1 is not of type",
        ),
        ("await env.BUCKET.list(include='x')", "TypeError", "Incorrect type for the 'include' field on 'ListOptions'"),
        ("await upload.upload_part(2**31, 'x')", "TypeError", "Value out of range."),
        ("await upload.upload_part(0, 'x')", "TypeError", "Part number must be between 1 and 10000 (inclusive)."),
        ("await upload.upload_part(1, None)", "TypeError", "Failed to execute 'uploadPart' on 'R2MultipartUpload'"),
        ("await upload.upload_part(1, 'x', ssecKey='0')", "Error", "The parts of an upload have no options here"),
        (
            "await upload.complete(None)",
            "TypeError",
            "Failed to execute 'complete' on 'R2MultipartUpload': parameter 1",
        ),
        ("await upload.complete([5])", "TypeError", "Incorrect type for array element 0"),
        (
            "await env.BUCKET.resume_multipart_upload('k', None).abort()",
            "Error",
            "abortMultipartUpload: We encountered",
        ),
        ("await env.BUCKET.get('k', range={'offset': -1})", "ValueError", "Invalid range. Starting offset (-1)"),
        ("await env.BUCKET.put('k', 'v', md5='00')", "TypeError", "MD5 is 32 hex characters, not 2"),
        ("await env.BUCKET.list(limit=0)", "Error", "list: MaxKeys params must be positive integer <= 1000. (10022)"),
        ("await env.DB.prepare('SELEKT').all()", "Error", 'D1_ERROR: near "SELEKT": syntax error'),
        ("await env.DB.prepare('SELECT 1 a').first('zzz')", "Error", "D1_COLUMN_NOTFOUND: Column not found (zzz)"),
        ("env.DB.prepare('SELECT ?').bind({})", "Error", "D1_TYPE_ERROR: Type 'object' not supported for value"),
        (
            "env.DB.prepare('SELECT ?').bind([256])",
            "Error",
            "D1_TYPE_ERROR: Type 'object' not supported for value '256'",
        ),
    ],
)
def test_failures_have_cloudflares_texts(experiment: Experiment, code: str, name: str, message: str) -> None:
    async def body(worker: Laboratory) -> None:
        upload = "upload = await env.BUCKET.create_multipart_upload('k')\n" if "upload." in code else ""
        with pytest.raises(GuestException) as caught:
            await worker.run(upload + code)
        assert caught.value.name == name
        assert caught.value.message.startswith(message)

    experiment(body)


def test_failures_can_be_caught_as_js_exceptions(gives: Results) -> None:
    code = """
    try:
        await env.DB.prepare("SELEKT").all()
    except ffi.JsException as error:
        return [error.name, error.message == str(error), "syntax error" in str(error), error.cause.message]
    """

    gives(code, ["Error", True, True, 'near "SELEKT": syntax error at offset 0: SQLITE_ERROR'])


def test_d1_values_go_through_javascripts_types_if_the_flag_says_so(gives: Results) -> None:
    code = """
    statement = env.JS_DB.prepare("SELECT ?1, typeof(?1), ?1 / 2, ?1 || '', ?2, ?3, 9223372036854775807, 2.0, 1e300")
    values = (await statement.bind(5, True, b"ab").raw())[0]
    return [values, [type(value).__name__ for value in values]]
    """
    values = [5, "real", 2.5, "5.0", 1, [97, 98], 2.0**63, 2, 1e300]

    gives(code, [values, ["int", "str", "float", "str", "int", "list", "float", "int", "float"]])


@pytest.mark.parametrize(("database", "largest"), [("DB", 2**63 - 1), ("JS_DB", 2**53 - 1)])
def test_d1_refuses_integers_out_of_range(gives: Results, database: str, largest: int) -> None:
    code = """
    database, largest = arguments
    statement = getattr(env, database).prepare("SELECT ?")
    found = await statement.bind(largest).first("?")
    try:
        statement.bind(largest + 1)
    except ffi.JsException as error:
        return [found, error.message]
    """
    message = f"D1_TYPE_ERROR: Type 'bigint' not supported for value '{largest + 1}'"

    gives(code, [largest, message], database, largest)


def test_d1_sessions_keep_the_newest_bookmark(gives: Results) -> None:
    code = """
    session = env.DB.with_session("first-primary")
    before = session.get_bookmark()
    await session.batch([session.prepare("CREATE TABLE t (a)"), session.prepare("INSERT INTO t VALUES (1)")])
    first = session.getBookmark()
    other = env.DB.withSession(first)
    count = await other.prepare("SELECT count(*) AS n FROM t").first("n")
    given = env.DB.with_session("zzzz")
    await given.prepare("SELECT 1").run()
    return [before, len(first), first <= other.get_bookmark(), count, given.get_bookmark(), hasattr(session, "exec")]
    """

    gives(code, [None, 59, True, 1, "zzzz", False])


def test_d1_tells_where_and_how_often_a_statement_ran(gives: Results) -> None:
    code = """
    meta = (await env.DB.prepare("SELECT 1").run()).meta
    return [meta.served_by, meta.served_by_primary, meta.total_attempts, meta.timings.sql_duration_ms == meta.duration]
    """

    gives(code, ["cloister", True, 1, True])


def test_d1_statements_show_what_they_hold(gives: Results) -> None:
    code = """
    statement = env.DB.prepare("SELECT ?, ?, ?").bind(2**60, b"ab", None)
    return [statement.statement, statement.params]
    """

    gives(code, ["SELECT ?, ?, ?", [2**60, b"ab", None]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("env.DB.dump()", "D1_DUMP_ERROR: Status + 404"),
        ("env.DB.query({})", "D1_ERROR: D1Database.query() requires the d1_binding_jsrpc compatibility flag."),
    ],
)
def test_d1_methods_that_are_not_offered_say_so(experiment: Experiment, call: str, message: str) -> None:
    async def body(worker: Laboratory) -> None:
        with pytest.raises(GuestException) as caught:
            await worker.run(f"return await {call}")
        assert caught.value.message.startswith(message)

    experiment(body)


# R2


def test_r2_objects_have_their_fields_in_both_spellings(gives: Results) -> None:
    code = """
    stored = await env.BUCKET.put(
        "a/b",
        b"content",
        http_metadata={"content_type": "a/b", "cacheExpiry": datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)},
        customMetadata={"user_id": "5"},
    )
    found = await env.BUCKET.get("a/b")
    headers = Headers()
    found.writeHttpMetadata(headers)
    return [
        [stored.key, stored.size, stored.etag == found.etag, found.httpEtag == found.http_etag == f'"{found.etag}"'],
        [found.custom_metadata, found.customMetadata.user_id, found["size"], found.checksums.md5],
        abs((datetime.datetime.now(datetime.UTC) - found.uploaded).total_seconds()) < 60,
        dict(headers.items()),
        found.range,
        [await found.text(), found.body_used],
    ]
    """

    gives(
        code,
        [
            ["a/b", 7, True, True],
            [{"user_id": "5"}, "5", 7, hashlib.md5(b"content").digest()],
            True,
            {"content-type": "a/b", "expires": "Tue, 01 Jan 2030 00:00:00 GMT"},
            {"offset": 0, "length": 7},
            ["content", True],
        ],
    )


def test_r2_keeps_the_checksum_that_was_given(gives: Results) -> None:
    code = """
    digest = bytes.fromhex(arguments[0])
    stored = await env.BUCKET.put("k", "content", sha256=digest)
    found = await env.BUCKET.head("k")
    same = found.checksums.toJSON() == stored.checksums.toJSON()
    return [stored.checksums.sha256 == digest, found.checksums.to_json(), same]
    """
    sha256, md5 = hashlib.sha256(b"content").hexdigest(), hashlib.md5(b"content").hexdigest()

    gives(code, [True, {"md5": md5, "sha256": sha256}, True], sha256)


def test_r2_metadata_becomes_text(gives: Results) -> None:
    code = """
    stored = await env.BUCKET.put("k", "[1]", customMetadata={"n": None, "i": 5, "f": 1e-7, "b": True, "own_name": "x"})
    return [stored.customMetadata, (await (await env.BUCKET.get("k")).json())]
    """

    gives(code, [{"n": "null", "i": "5", "f": "1e-7", "b": "true", "own_name": "x"}, [1]])


def test_conversions_for_javascript_are_harmless(gives: Results) -> None:
    code = """
    options = ffi.to_js({"expirationTtl": 60, "metadata": {"a": 1}}, dict_converter=None)
    await env.KV.put("k", ffi.to_js("v"), options)
    found = await env.KV.get_with_metadata("k", ffi.to_js({"type": "text"}))
    await env.BUCKET.put("k", ffi.to_js(b"bytes"), ffi.to_js({"customMetadata": {"a": "b"}}))
    return [found.value, found["metadata"], await (await env.BUCKET.get("k")).bytes()]
    """

    gives(code, ["v", {"a": 1}, b"bytes"])


def test_what_else_there_is_for_javascript_is_harmless(gives: Results) -> None:
    code = """
    value = {"a": [1]}
    proxy, once = ffi.create_proxy(value), ffi.create_once_callable(len)
    ffi.destroy_proxies([proxy])
    error = ffi.JsException("text")
    waited = ffi.run_sync(env.KV.get("nothing"))
    return [proxy is value, once is len, error.js_error is error, bool(ffi.jsnull), waited, ffi.to_js(value) is value]
    """

    gives(code, [True, True, True, False, None, True])


def test_options_may_be_written_as_in_python(gives: Results) -> None:
    code = """
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    long_ago = soon - datetime.timedelta(days=1)
    await env.KV.put("k", "v", expiration=int(soon.timestamp()), metadata={"own_name": 1})
    expiring = (await env.KV.list(prefix="k", limit=1)).keys[0].expiration == int(soon.timestamp())
    cached = await env.KV.get("k", cache_ttl=60)
    for key in ("a", "b", "c"):
        http = {"cache_control": "no-store", "cache_expiry": soon}
        await env.BUCKET.put(key, "x", storage_class="InfrequentAccess", http_metadata=http, custom_metadata={"n": key})
    page = await env.BUCKET.list(start_after="a", include=["customMetadata", "httpMetadata"], limit=1)
    listed = page.objects[0]
    between = {"uploaded_before": soon, "uploaded_after": long_ago, "seconds_granularity": True}
    found = await env.BUCKET.get("a", only_if=between, range={"offset": 0})
    late = await env.BUCKET.get("a", only_if={"uploaded_after": soon})
    upload = await env.BUCKET.create_multipart_upload("m", storage_class="InfrequentAccess", custom_metadata={"n": 1})
    uploaded = await upload.complete([await upload.upload_part(1, "x")])
    rows = await env.DB.prepare("SELECT 1 AS one").raw(column_names=True)
    return [
        [expiring, cached, rows],
        [listed.key, listed.storage_class, listed.custom_metadata, listed.http_metadata.cache_control],
        [await found.text(), late.body, uploaded.storage_class, uploaded.custom_metadata],
    ]
    """

    gives(
        code,
        [
            [True, "v", [["one"], [1]]],
            ["b", "InfrequentAccess", {"n": "b"}, "no-store"],
            ["x", None, "InfrequentAccess", {"n": "1"}],
        ],
    )


def test_r2_reads_once(experiment: Experiment) -> None:
    async def body(worker: Laboratory) -> None:
        with pytest.raises(GuestException, match="Body has already been used") as caught:
            await worker.run(
                """
                await env.BUCKET.put('k', 'v')
                found = await env.BUCKET.get('k')
                await found.bytes()
                await found.json()
                """
            )
        assert caught.value.name == "TypeError"

    experiment(body)


def test_r2_ranges_and_conditions(gives: Results) -> None:
    code = """
    stored = await env.BUCKET.put("k", "0123456789")
    ranges = [{"offset": 2, "length": 3}, {"suffix": 2}, Headers({"Range": "bytes=4-5"})]
    parts = [await (await env.BUCKET.get("k", range=part)).text() for part in ranges]
    unmet = await env.BUCKET.get("k", {"onlyIf": {"etagMatches": "other"}})
    unchanged = await env.BUCKET.get("k", onlyIf=Headers({"If-None-Match": stored.httpEtag}))
    refused = await env.BUCKET.put("k", "x", only_if={"etag_does_not_match": "*"})
    return [parts, unmet.body, unmet.size, unchanged.body, refused, await env.BUCKET.get("nothing")]
    """

    gives(code, [["234", "89", "45"], None, 10, None, None, None])


def test_r2_lists_and_deletes(gives: Results) -> None:
    code = """
    for key in ("a/1", "a/2", "b"):
        await env.BUCKET.put(key, "x", customMetadata={"k_k": key})
    page = await env.BUCKET.list(delimiter="/", include=["customMetadata"])
    first = await env.BUCKET.list(limit=2)
    rest = await env.BUCKET.list(limit=2, cursor=first.cursor)
    await env.BUCKET.delete(["a/1", "b"])
    return [
        [page.delimited_prefixes, [(o.key, o.customMetadata) for o in page.objects], page.truncated],
        [first.truncated, [o.key for o in rest.objects]],
        [o.key for o in (await env.BUCKET.list()).objects],
        (await env.BUCKET.head("b")) is None,
    ]
    """

    gives(code, [[["a/"], [["b", {"k_k": "b"}]], False], [True, ["b"]], ["a/2"], True])


def test_r2_takes_whatever_is_a_body(gives: Results) -> None:
    code = """
    def pieces():
        yield "a"
        yield b"b"
    bodies = ["text", b"\\xff", None, Blob(["blob"]), arguments[0], Response(pieces()).body, bytearray(b"x" * 100_000)]
    sizes = []
    for body in bodies:
        sizes.append((await env.BUCKET.put("k", body)).size)
    found = await env.BUCKET.get("k")
    return [sizes, len(await found.bytes())]
    """

    gives(code, [[4, 1, 0, 4, 70_000, 2, 100_000], 100_000], ReadableStream(BytesBody(bytes(70_000))))


def test_r2_uploads_in_parts(gives: Results) -> None:
    code = """
    upload = await env.BUCKET.createMultipartUpload("k", httpMetadata={"contentType": "a/b"})
    size = 5 * 1024 * 1024
    first = await upload.uploadPart(1, b"a" * size)
    again = env.BUCKET.resumeMultipartUpload("k", upload.uploadId)
    second = await again.upload_part(2, "end")
    stored = await again.complete([first, second])
    given_up = await env.BUCKET.create_multipart_upload("other")
    await given_up.abort()
    found = await env.BUCKET.get("k", range={"suffix": 4})
    return [stored.size, stored.etag.endswith("-2"), await found.text(), found.httpMetadata.contentType]
    """

    gives(code, [5 * 1024 * 1024 + 3, True, "aend", "a/b"])


def test_a_request_goes_to_the_bucket_and_back_unread(experiment: Experiment) -> None:
    code = """
    await env.BUCKET.put("k", arguments[0])
    return Response((await env.BUCKET.get("k")).body)
    """

    async def body(worker: Laboratory) -> None:
        response = await worker.run(code, ReadableStream(BytesBody(b"\x00\xff" * 500_000)))
        assert await content(response._take()) == b"\x00\xff" * 500_000

    experiment(body)


# D1


def test_d1_rows_are_mappings_with_attributes(gives: Results) -> None:
    code = """
    await env.DB.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, data BLOB)")
    insert = env.DB.prepare("INSERT INTO t (name, data) VALUES (?, ?)")
    done = await insert.bind("a", b"\\xff\\x00").run()
    await insert.bind(None, [1, 2]).run()
    found = await env.DB.prepare("SELECT * FROM t ORDER BY id").all()
    return [
        [done.success, done.results, done.meta.changes, done.meta.last_row_id],
        [found.results[0].name, found["results"][0]["data"], dict(found.results[1])],
        await env.DB.prepare("SELECT * FROM t").raw(columnNames=True),
        [await env.DB.prepare("SELECT name FROM t").first(), await env.DB.prepare("SELECT name FROM t").first("name")],
        await env.DB.prepare("SELECT 1 WHERE 0").first(),
    ]
    """

    gives(
        code,
        [
            [True, [], 1, 1],
            ["a", b"\xff\x00", {"id": 2, "name": None, "data": b"\x01\x02"}],
            [["id", "name", "data"], [1, "a", b"\xff\x00"], [2, None, b"\x01\x02"]],
            [{"name": "a"}, "a"],
            None,
        ],
    )


def test_d1_numbers_are_exact(gives: Results) -> None:
    values = [5, 2**53 + 1, -(2**63), 1.5, 2.0, True, "ü", None]

    code = "return list((await env.DB.prepare('SELECT ?,?,?,?,?,?,?,?').bind(*arguments).raw())[0])"
    gives(code, [5, 2**53 + 1, -(2**63), 1.5, 2.0, 1, "ü", None], *values)


def test_d1_batches_are_one_transaction(gives: Results) -> None:
    code = """
    await env.DB.exec("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    insert = env.DB.prepare("INSERT INTO t VALUES (?)")
    good = await env.DB.batch([insert.bind(1), insert.bind(2), env.DB.prepare("SELECT count(*) AS n FROM t")])
    try:
        await env.DB.batch([insert.bind(3), insert.bind(1)])
    except ffi.JsException as error:
        last = await env.DB.prepare("SELECT max(id) AS last FROM t").first("last")
        return [good[2].results[0].n, "UNIQUE" in str(error), last]
    """

    gives(code, [2, True, 2])
