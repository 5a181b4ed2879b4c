"""What a Python guest sees of the virtual WASI world, through its own standard library."""

from __future__ import annotations

import asyncio
import time

import pytest

from host_bindings.context import PRINTED_BYTES_MAX
from host_bindings.interfaces import ALL
from host_bindings.wasi.console import LINES_MAX
from runtime.engine.compile import contract_problems
from runtime.engine.errors import CpuLimitExceeded, GuestException, GuestTrapped, WallTimeExceeded
from runtime.engine.limits import Limits
from tests.components import machine_code, raw_component


@pytest.fixture(scope="session")
def raw_code():
    return machine_code(raw_component("python_worker"))


async def run(pool, code):
    """Runs Python code in the guest; the text of its `result`."""
    answer = await pool.fetch("POST", "/", "", code, request_id="request")
    return answer.body


async def outcome(pool, code):
    try:
        return await run(pool, code)
    except GuestException as error:
        return f"{error.name}: {error.message}"


def entries(workshop, level):
    return [message for _, logged, message in workshop.log if logged == level]


def test_a_python_component_imports_nothing_that_is_not_offered(raw_code):
    assert contract_problems(raw_code, ALL) == []


def test_print_reaches_the_log_of_the_call(in_workshop):
    async def body(workshop):
        pool = workshop.pool()
        await pool.fetch("POST", "/", "", "print('hello'); print('grün', end='')", request_id="first")
        await pool.fetch("POST", "/", "", "print('careful', file=sys.stderr)", request_id="second")
        assert workshop.log == [
            ("first", "info", "hello"),
            ("first", "info", "grün"),
            ("second", "warn", "careful"),
        ]

    in_workshop(body)


def test_logging_reaches_the_log(in_workshop):
    async def body(workshop):
        await run(workshop.pool(), "logging.warning('watch %s', 'out')")
        assert entries(workshop, "warn") == ["WARNING:root:watch out"]

    in_workshop(body)


def test_the_time_is_the_hosts(in_workshop):
    async def body(workshop):
        before = time.time()
        told = float(await run(workshop.pool(), "result = repr(time.time())"))
        assert before - 0.002 <= told <= time.time()

    in_workshop(body)


def test_sleep_sleeps(in_workshop):
    async def body(workshop):
        code = "start = time.monotonic(); time.sleep(0.05); result = time.monotonic() - start"
        before = time.monotonic()
        assert float(await run(workshop.pool(), code)) >= 0.05
        assert time.monotonic() - before >= 0.049

    in_workshop(body)


def test_sleeping_guests_do_not_hold_each_other_up(in_workshop):
    async def body(workshop):
        pool = workshop.pool()
        before = time.monotonic()
        await asyncio.gather(*[run(pool, "time.sleep(0.5)") for _ in range(10)])
        assert time.monotonic() - before < 10 * 0.5

    in_workshop(body)


@pytest.mark.parametrize("seconds", ["1e3", "1e9"])
def test_a_sleep_without_end_is_ended_by_the_wall_clock_limit(in_workshop, seconds):
    async def body(workshop):
        pool = workshop.pool(Limits(wall_ms=100))
        with pytest.raises(WallTimeExceeded):
            await run(pool, f"time.sleep({seconds})")
        assert await run(pool, "result = 'next'") == "next"

    in_workshop(body)


def test_asking_for_the_time_without_end_is_ended_by_the_cpu_limit(in_workshop):
    async def body(workshop):
        with pytest.raises(CpuLimitExceeded):
            await run(workshop.pool(Limits(cpu_ms=200)), "while True: time.time()")

    in_workshop(body)


@pytest.mark.parametrize("expression", ["random.random()", "uuid.uuid4()", "secrets.token_hex()", "os.urandom(16)"])
def test_random_numbers_differ_between_instances_and_calls(in_workshop, expression):
    async def body(workshop):
        fresh = workshop.pool(Limits(isolation="request"))
        reused = workshop.pool()
        results = [await run(pool, f"result = {expression}") for pool in (fresh, fresh, reused, reused)]
        assert len(set(results)) == 4

    in_workshop(body)


def test_many_random_bytes_can_be_had(in_workshop):
    async def body(workshop):
        assert await run(workshop.pool(), "result = len(os.urandom(200_000))") == "200000"

    in_workshop(body)


def test_there_is_no_environment_and_no_input(in_workshop):
    async def body(workshop):
        pool = workshop.pool()
        assert await run(pool, "result = dict(os.environ), sys.argv, sys.stdin.read()") == "({}, [], '')"
        assert await outcome(pool, "input()") == "EOFError: EOF when reading a line"

    in_workshop(body)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("open('/etc/passwd')", "FileNotFoundError"),
        ("open('../../etc/passwd')", "FileNotFoundError"),
        ("open('/proc/self/environ', 'rb')", "FileNotFoundError"),
        ("open('new', 'w')", "FileNotFoundError"),
        ("os.listdir('/')", "FileNotFoundError"),
        ("os.stat('.')", "FileNotFoundError"),
        ("os.mkdir('/x')", "FileNotFoundError"),
        ("os.unlink('/x')", "FileNotFoundError"),
        ("os.symlink('/etc/passwd', 'x')", "FileNotFoundError"),
        ("tempfile.TemporaryFile()", "FileNotFoundError"),
        ("socket.create_connection(('127.0.0.1', 80))", "PermissionError"),
        ("socket.create_connection(('example.com', 80))", "PermissionError"),
        ("socket.getaddrinfo('localhost', 80)", "PermissionError"),
        ("socket.socket()", "PermissionError"),
        ("socket.socket(socket.AF_INET6)", "PermissionError"),
        ("socket.socket(type=socket.SOCK_DGRAM)", "PermissionError"),
        ("subprocess.run(['ls'])", "OSError"),
        ("threading.Thread(target=print).start()", "RuntimeError"),
    ],
)
def test_what_there_is_not_is_an_error_that_the_guest_can_handle(in_workshop, code, error):
    async def body(workshop):
        pool = workshop.pool()
        assert (await outcome(pool, code)).startswith(f"{error}: ")
        assert await run(pool, "result = 'goes on'") == "goes on"
        assert pool.instances == 1

    in_workshop(body)


@pytest.mark.parametrize(
    ("code", "status"), [("sys.exit()", 0), ("sys.exit(3)", 1), ("os._exit(0)", 0), ("os._exit(1)", 1)]
)
def test_exit_ends_the_call_and_the_next_gets_a_new_instance(in_workshop, code, status):
    async def body(workshop):
        pool = workshop.pool()
        await run(pool, "sys.marked = True")
        with pytest.raises(GuestTrapped, match=rf"^The worker exited with status {status}\.$"):
            await run(pool, f"print('before'); {code}")
        assert entries(workshop, "info") == ["before"]
        assert await run(pool, "result = hasattr(sys, 'marked')") == "False"

    in_workshop(body)


def test_abort_ends_the_call(in_workshop):
    async def body(workshop):
        pool = workshop.pool()
        with pytest.raises(GuestTrapped):
            await run(pool, "os.abort()")
        assert await run(pool, "result = 'next'") == "next"

    in_workshop(body)


@pytest.mark.parametrize("line", ["'x' * 999", "'x' * 65_535", "''"])
def test_printing_without_end_is_bounded_and_does_not_keep_the_host_busy(in_workshop, line):
    async def body(workshop):
        with pytest.raises(WallTimeExceeded):
            await run(workshop.pool(Limits(wall_ms=500)), f"while True: print({line})")
        *printed, notice = [message for _, _, message in workshop.log if not message.endswith("[limit.wall]")]
        assert len(printed) <= LINES_MAX
        assert sum(len(message) for message in printed) <= PRINTED_BYTES_MAX
        assert notice.startswith("The worker printed too much: ")

    in_workshop(body)
