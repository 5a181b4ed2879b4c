"""Each row of the reference platform's routes: what it takes, what it answers, and what it says of a mistake."""

from __future__ import annotations

import pytest

from tests.e2e.server import Server, field, file, multipart


def test_post_files_stores_a_file(platform: Server) -> None:
    reply = platform.upload_file("routes/a.txt", b"hello")

    assert (reply.status, reply.json()) == (200, {"success": True, "key": "routes/a.txt", "size": 5})
    assert reply.headers["content-type"].startswith("application/json")


def test_get_files_answers_with_the_bytes(platform: Server) -> None:
    platform.upload_file("routes/b", b"\x00\xff bytes", content_type="application/x-thing")

    reply = platform.request("GET", "/files?key=routes/b")

    assert (reply.status, reply.body) == (200, b"\x00\xff bytes")


def test_get_files_of_a_key_that_is_not_there_is_404(platform: Server) -> None:
    reply = platform.request("GET", "/files?key=routes/none")

    assert (reply.status, reply.text) == (404, "File not found")


def test_delete_files_removes_a_file(platform: Server) -> None:
    platform.upload_file("routes/c", b"x")

    reply = platform.request("DELETE", "/files?key=routes/c")

    assert (reply.status, reply.json()) == (200, {"success": True})
    assert platform.request("GET", "/files?key=routes/c").status == 404


@pytest.mark.parametrize("value", ["text", "ü 😀", "", 5, 1.5, True, [1, {"a": None}], {"nested": ["x"]}, None])
def test_data_comes_back_as_it_was_given(platform: Server, value: object) -> None:
    written = platform.request("POST", "/data", json={"key": "routes-data", "value": value})
    read = platform.request("GET", "/data?key=routes-data")

    assert (written.status, written.json()) == (200, {"success": True, "key": "routes-data"})
    assert (read.status, read.json()) == (200, {"key": "routes-data", "value": value})


def test_get_data_of_a_key_that_is_not_there_is_null(platform: Server) -> None:
    reply = platform.request("GET", "/data?key=routes-none")

    assert (reply.status, reply.json()) == (200, {"key": "routes-none", "value": None})


def test_delete_data_removes_a_value(platform: Server) -> None:
    platform.request("POST", "/data", json={"key": "routes-gone", "value": "x"})

    reply = platform.request("DELETE", "/data?key=routes-gone")

    assert (reply.status, reply.json()) == (200, {"success": True})
    assert platform.request("GET", "/data?key=routes-gone").json()["value"] is None


def test_post_query_runs_sql(platform: Server) -> None:
    reply = platform.request("POST", "/query", json={"sql": "SELECT ? AS a, 2.5 AS b, NULL AS c", "params": ["x"]})

    assert reply.status == 200
    assert reply.json()["results"] == [{"a": "x", "b": 2.5, "c": None}]
    assert {"duration", "changes", "last_row_id", "rows_read"} <= set(reply.json()["meta"])


def test_post_query_keeps_what_it_writes(platform: Server) -> None:
    def query(sql: str, *params: object) -> list[dict[str, object]]:
        reply = platform.request("POST", "/query", json={"sql": sql, "params": list(params)})
        assert reply.status == 200, reply.text
        results: list[dict[str, object]] = reply.json()["results"]
        return results

    query("CREATE TABLE IF NOT EXISTS routes (id INTEGER PRIMARY KEY, name TEXT)")
    query("DELETE FROM routes")
    query("INSERT INTO routes (name) VALUES (?), (?)", "a", "ü")

    assert query("SELECT name FROM routes ORDER BY id") == [{"name": "a"}, {"name": "ü"}]


def test_get_stats_has_files_activity_and_storage(platform: Server) -> None:
    reply = platform.request("GET", "/stats")

    assert reply.status == 200
    stats = reply.json()
    assert set(stats) == {"files", "activity", "storage"}
    assert set(stats["files"]) == {"count", "totalSize"}
    assert set(stats["activity"]) == {"totalOperations", "lastActivity"}
    assert set(stats["storage"]) == {"kvKeys", "r2Objects"}


@pytest.mark.parametrize("user", ["user1", "user2"])
def test_get_root_is_a_health_text_that_names_the_user(platform: Server, user: str) -> None:
    reply = platform.request("GET", "/", user=user)

    assert reply.status == 200
    assert user in reply.text
    assert reply.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["/", "/files?key=a", "/data?key=a", "/stats", "/nowhere"])
def test_without_a_user_is_400(platform: Server, path: str) -> None:
    reply = platform.request("GET", path, user=None)

    assert (reply.status, reply.text) == (400, "Missing X-User-ID header")


@pytest.mark.parametrize("path", ["/", "/files?key=a", "/data?key=a", "/stats"])
@pytest.mark.parametrize("user", ["user3", "USER1", "user1 x", "../user1", "x" * 5000])
def test_an_unknown_user_is_404(platform: Server, user: str, path: str) -> None:
    reply = platform.request("GET", path, user=user)

    assert (reply.status, reply.json()) == (404, {"error": "Worker not found"})


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"\xff", b"[" * 100_000, b'{"key": "a", "value": 1}x'])
@pytest.mark.parametrize("path", ["/data", "/query"])
def test_bad_json_is_400(platform: Server, path: str, body: bytes) -> None:
    reply = platform.request("POST", path, body=body)

    assert (reply.status, reply.json()) == (400, {"error": "The body is not JSON"})


@pytest.mark.parametrize("body", [[], "text", 5, [1]])
@pytest.mark.parametrize("path", ["/data", "/query"])
def test_json_that_is_no_object_is_400(platform: Server, path: str, body: object) -> None:
    reply = platform.request("POST", path, json=body)

    assert (reply.status, reply.json()) == (400, {"error": "The body must be a JSON object"})


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("path", ["/files", "/files?key=", "/data", "/data?key=", "/data?key=a&key=b", "/files?Key=a"])
def test_a_missing_key_in_the_address_is_400(platform: Server, method: str, path: str) -> None:
    reply = platform.request(method, path)

    assert reply.status == 400
    assert "key" in reply.json()["error"]


@pytest.mark.parametrize("body", [{"value": "x"}, {"key": "", "value": "x"}, {"key": 5, "value": "x"}, {"key": None}])
def test_data_without_a_key_is_400(platform: Server, body: object) -> None:
    reply = platform.request("POST", "/data", json=body)

    assert reply.status == 400
    assert "key" in reply.json()["error"]


def test_data_without_a_value_is_400_and_stores_nothing(platform: Server) -> None:
    reply = platform.request("POST", "/data", json={"key": "routes-novalue"})

    assert reply.status == 400
    assert "value" in reply.json()["error"]
    assert platform.request("GET", "/data?key=routes-novalue").json()["value"] is None


def test_data_with_a_key_that_kv_does_not_take_is_400(platform: Server) -> None:
    reply = platform.request("POST", "/data", json={"key": "k" * 600, "value": "x"})

    assert reply.status == 400
    assert "512" in reply.json()["error"]


def test_an_upload_without_a_key_is_400(platform: Server) -> None:
    for parts in ([file("file", "a", b"x", None)], [field("key", ""), file("file", "a", b"x", None)]):
        body, content_type = multipart(parts)
        reply = platform.request("POST", "/files", headers={"Content-Type": content_type}, body=body)
        assert reply.status == 400
        assert "key" in reply.json()["error"]


def test_an_upload_without_a_file_is_400(platform: Server) -> None:
    for parts in ([field("key", "a")], [field("key", "a"), field("file", "no file")]):
        body, content_type = multipart(parts)
        reply = platform.request("POST", "/files", headers={"Content-Type": content_type}, body=body)
        assert reply.status == 400
        assert "file" in reply.json()["error"]


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "multipart/form-data; boundary=x"])
def test_an_upload_that_is_no_form_is_400(platform: Server, content_type: str) -> None:
    reply = platform.request("POST", "/files", headers={"Content-Type": content_type}, body=b'{"key": "a"}')

    assert reply.status == 400
    assert "form" in reply.json()["error"]


@pytest.mark.parametrize("body", [{}, {"sql": ""}, {"sql": 5}, {"sql": "  "}, {"params": []}])
def test_a_query_without_sql_is_400(platform: Server, body: object) -> None:
    reply = platform.request("POST", "/query", json=body)

    assert reply.status == 400
    assert "sql" in reply.json()["error"]


def test_params_that_are_no_list_are_400(platform: Server) -> None:
    reply = platform.request("POST", "/query", json={"sql": "SELECT 1", "params": {"a": 1}})

    assert reply.status == 400
    assert "params" in reply.json()["error"]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELEKT 1", 'near "SELEKT": syntax error'),
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("ATTACH 'x' AS y", "not authorized"),
        ("SELECT load_extension('x')", "not authorized"),
        ("PRAGMA journal_mode = DELETE", "not authorized"),
        ("SELECT ?", "Wrong number of parameter bindings"),
        ("BEGIN", "transaction"),
    ],
)
def test_sql_that_fails_or_is_refused_is_400_with_sqlites_message(platform: Server, sql: str, said: str) -> None:
    reply = platform.request("POST", "/query", json={"sql": sql, "params": []})

    assert reply.status == 400
    assert said in reply.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/files?key=a", {"GET", "HEAD", "POST", "DELETE"}),
        ("PATCH", "/data?key=a", {"GET", "HEAD", "POST", "DELETE"}),
        ("GET", "/query", {"POST"}),
        ("POST", "/stats", {"GET", "HEAD"}),
        ("DELETE", "/", {"GET", "HEAD"}),
        ("OPTIONS", "/stats", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_405_and_says_which_are_right(
    platform: Server, method: str, path: str, allowed: set[str]
) -> None:
    reply = platform.request(method, path)

    assert reply.status == 405
    assert method in reply.json()["error"]
    assert set(reply.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["/nowhere", "/files/", "/Files?key=a", "//", "/data/x"])
def test_an_unknown_path_is_404(platform: Server, path: str) -> None:
    reply = platform.request("GET", path)

    assert reply.status == 404
    assert "error" in reply.json()


@pytest.mark.parametrize("path", ["/", "/data?key=a", "/stats"])
def test_head_has_the_headers_of_get(platform: Server, path: str) -> None:
    got, head = platform.request("GET", path), platform.request("HEAD", path)

    assert (head.status, head.body) == (got.status, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers["content-length"] == got.headers["content-length"]
