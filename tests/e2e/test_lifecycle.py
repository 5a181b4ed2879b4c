"""A server's life: deploys under load, stops, restarts, crashes, settings that it refuses."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.server import Server, start


def refused_start(tmp_path: Path, **settings: object) -> str:
    """What a server says that cannot start."""
    with pytest.raises(AssertionError) as caught, start(tmp_path / "data", **settings):
        pass
    return str(caught.value)


def test_deploys_under_load_fail_no_request(platform: Server, deploy_demo: Callable[[str], None]) -> None:
    deploy_demo("redeployed")
    statuses: list[int] = []
    ended = threading.Event()

    def call() -> None:
        n = 0
        while not ended.is_set():
            n += 1
            written = platform.request("POST", "/data", user="redeployed", json={"key": f"k{n % 5}", "value": "x"})
            read = platform.request("GET", f"/data?key=k{n % 5}", user="redeployed")
            statuses.extend([written.status, read.status])

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for _ in range(10):
        deploy_demo("redeployed")
    ended.set()
    for caller in callers:
        caller.join()

    assert set(statuses) == {200}
    assert len(statuses) > 20


def test_what_is_stored_outlives_a_deploy(platform: Server, deploy_demo: Callable[[str], None]) -> None:
    deploy_demo("kept")
    platform.request("POST", "/data", user="kept", json={"key": "a", "value": "b"})
    platform.upload_file("file", b"content", user="kept")

    deploy_demo("kept")

    assert platform.request("GET", "/data?key=a", user="kept").json()["value"] == "b"
    assert platform.request("GET", "/files?key=file", user="kept").body == b"content"


def test_sigterm_ends_with_0_and_a_restart_has_everything(data: Path, dispatcher: Path) -> None:
    with start(data, dispatcher=dispatcher) as server:
        server.request("POST", "/data", json={"key": "a", "value": "b"})
        server.upload_file("file", b"content" * 50_000, content_type="a/b")
        server.request("POST", "/query", json={"sql": "CREATE TABLE t (a)"})
        server.request("POST", "/query", json={"sql": "INSERT INTO t VALUES (?)", "params": [5]})
        stats = server.request("GET", "/stats").json()
        assert server.stop(signal.SIGTERM) == 0

    with start(data, dispatcher=dispatcher) as server:
        assert server.request("GET", "/data?key=a").json()["value"] == "b"
        file = server.request("GET", "/files?key=file")
        assert (file.body, file.headers["content-type"]) == (b"content" * 50_000, "a/b")
        assert server.request("POST", "/query", json={"sql": "SELECT a FROM t"}).json()["results"] == [{"a": 5}]
        assert server.request("GET", "/stats").json()["files"] == stats["files"]
        assert server.stop(signal.SIGINT) == 0


def wait_until_refused(port: int) -> None:
    """Returns when nothing accepts connections on the port any more."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            # Caught in the queue of the listener as it was closed.
            continue


def test_sigterm_lets_a_running_request_finish(data: Path, dispatcher: Path) -> None:
    with start(data, dispatcher=dispatcher) as server:
        caller = socket.create_connection(("127.0.0.1", server.port))
        caller.sendall(
            b"POST /data HTTP/1.1\r\nHost: a\r\nX-User-ID: user1\r\nContent-Length: 29\r\n\r\n" + b'{"key": "slow"'
        )
        # The head has been read by the time another request on the same event loop is answered.
        assert server.request("GET", "/").status == 200
        server.process.send_signal(signal.SIGTERM)
        wait_until_refused(server.port)
        caller.sendall(b', "value": "x"}')
        answer = b""
        while piece := caller.recv(1000):
            answer += piece
        caller.close()
        assert server.process.wait(30) == 0

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer


def test_a_second_signal_ends_at_once(data: Path, dispatcher: Path) -> None:
    with start(data, dispatcher=dispatcher, shutdown_grace_s=600) as server:
        caller = socket.create_connection(("127.0.0.1", server.port))
        caller.sendall(b"POST /data HTTP/1.1\r\nHost: a\r\nX-User-ID: user1\r\nContent-Length: 28\r\n\r\n")
        assert server.request("GET", "/").status == 200
        server.process.send_signal(signal.SIGTERM)
        wait_until_refused(server.port)
        assert server.stop(signal.SIGTERM) == 128 + signal.SIGTERM
        caller.close()


def test_what_has_not_finished_after_the_grace_period_is_ended(data: Path, dispatcher: Path) -> None:
    with start(data, dispatcher=dispatcher, shutdown_grace_s=0.2) as server:
        caller = socket.create_connection(("127.0.0.1", server.port))
        # A large body streams to the worker, which waits for it for longer than this test may take.
        head = b"POST /data HTTP/1.1\r\nHost: a\r\nX-User-ID: user1\r\nContent-Length: 1000000\r\n\r\n"
        caller.sendall(head + b'{"key": "slow"')
        assert server.request("GET", "/").status == 200

        assert server.stop(signal.SIGTERM) == 0

        caller.close()


def test_after_kill_9_every_acknowledged_write_is_there(data: Path, dispatcher: Path) -> None:
    acknowledged: list[tuple[str, int]] = []
    with start(data, dispatcher=dispatcher) as server:
        server.request("POST", "/query", json={"sql": "CREATE TABLE IF NOT EXISTS killed (n INTEGER)"})
        ended = threading.Event()

        def write(kind: str) -> None:
            for n in range(10_000):
                try:
                    if kind == "kv":
                        reply = server.request("POST", "/data", json={"key": f"kill-{n}", "value": n})
                    elif kind == "r2":
                        reply = server.upload_file(f"kill-{n}", b"%d" % n)
                    else:
                        reply = server.request(
                            "POST", "/query", json={"sql": "INSERT INTO killed VALUES (?)", "params": [n]}
                        )
                except OSError:
                    break
                except Exception:  # the answer was cut off
                    break
                if reply.status == 200:
                    acknowledged.append((kind, n))
                if len(acknowledged) > 150:
                    ended.set()

        writers = [threading.Thread(target=write, args=(kind,)) for kind in ("kv", "r2", "d1")]
        for writer in writers:
            writer.start()
        assert ended.wait(60)
        server.stop(signal.SIGKILL)
        for writer in writers:
            writer.join()

    with start(data, dispatcher=dispatcher) as server:
        rows = server.request("POST", "/query", json={"sql": "SELECT n FROM killed"}).json()["results"]
        found = {row["n"] for row in rows}
        for kind, n in acknowledged:
            if kind == "kv":
                assert server.request("GET", f"/data?key=kill-{n}").json()["value"] == n
            elif kind == "r2":
                assert server.request("GET", f"/files?key=kill-{n}").body == b"%d" % n
            else:
                assert n in found
        stats = server.request("GET", "/stats").json()
        stored = [key for kind, key in acknowledged if kind == "r2"]
        assert stats["files"]["count"] - len(stored) in range(2)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused_start(tmp_path, port=port)
        assert f"{port} on 127.0.0.1 is taken" in said
        assert "CLOISTER_PORT" in said
        said = refused_start(tmp_path, admin_port=port)
        assert "CLOISTER_ADMIN_PORT" in said


def test_strangers_are_not_let_in_on_a_claim(tmp_path: Path) -> None:
    said = refused_start(tmp_path, host="0.0.0.0")

    assert "any caller can make" in said
    assert "--trust-header" in said


def test_a_trusted_header_may_be_served_to_others(tmp_path: Path) -> None:
    with start(tmp_path / "data", host="0.0.0.0", trust_header=True) as server:
        assert server.request("GET", "/").status == 404


def test_the_data_directory_is_its_owners_alone(data: Path, dispatcher: Path) -> None:
    with start(data, dispatcher=dispatcher):
        assert data.stat().st_mode & 0o777 == 0o700
        open_to_others = [path for path in data.rglob("*") if path.is_dir() and path.stat().st_mode & 0o022]
        assert open_to_others == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "dispatcher.py"),
        ("def broken(:", "SyntaxError"),
        ("import not_a_module_at_all", "not_a_module_at_all"),
        ("x = 1", "fetch"),
        ("def fetch(): pass", "fetch"),
    ],
)
def test_dispatch_code_that_does_not_load_is_named(tmp_path: Path, source: str | None, said: str) -> None:
    folder = tmp_path / "dispatch"
    folder.mkdir()
    if source is not None:
        (folder / "dispatcher.py").write_text(source)

    assert said in refused_start(tmp_path, dispatcher=folder)
