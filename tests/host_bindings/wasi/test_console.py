"""What a guest prints reaches its tenant's log line by line, and no more of it than the bounds allow."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_bindings.context import PRINTED_BYTES_MAX, GuestContext
from host_bindings.scope import Scope
from host_bindings.wasi import GuestTrap, cli, flush, streams
from host_bindings.wasi.console import LINE_BYTES_MAX, LINES_MAX


def write(context, stream, data):
    """As the engine calls it: waits only if it must. Returns whether it had to."""
    waiting = streams.write(context, stream, data)
    if waiting is None:
        return False
    waiting.close()
    return True


def test_each_line_is_an_entry(guest):
    out = cli.stdout(guest.context)

    write(guest.context, out, b"one\ntwo\r\n\nfour\n")

    assert guest.entries == [("info", "one"), ("info", "two"), ("info", ""), ("info", "four")]


def test_standard_error_is_logged_as_a_warning(guest):
    write(guest.context, cli.stderr(guest.context), b"careful\n")

    assert guest.entries == [("warn", "careful")]


def test_a_line_may_come_in_pieces_and_through_several_handles(guest):
    write(guest.context, cli.stdout(guest.context), b"hel")
    write(guest.context, cli.stdout(guest.context), b"lo\n")

    assert guest.messages == ["hello"]


def test_an_unfinished_line_is_logged_at_the_end_of_the_call(guest):
    write(guest.context, cli.stdout(guest.context), b"no newline")
    before = list(guest.messages)

    flush(guest.context)

    assert before == []
    assert guest.messages == ["no newline"]


def test_flush_of_a_guest_that_never_printed_does_nothing(guest):
    flush(guest.context)

    assert guest.entries == []


def test_entries_go_to_the_writer_of_the_current_call(guest):
    out = cli.stdout(guest.context)
    write(guest.context, out, b"first\n")
    later = []
    guest.context.log = lambda level, message: later.append(message)

    write(guest.context, out, b"second\n")

    assert guest.messages == ["first"]
    assert later == ["second"]


def test_a_character_that_is_split_between_writes_stays_whole(guest):
    data = "grün\n".encode()
    for i in range(len(data)):
        write(guest.context, cli.stdout(guest.context), data[i : i + 1])

    assert guest.messages == ["grün"]


def test_bytes_that_are_not_text_are_replaced(guest):
    write(guest.context, cli.stdout(guest.context), b"\xff\xfe\n")

    assert guest.messages == ["��"]


@pytest.mark.parametrize("shift", range(4))
def test_a_line_without_end_becomes_several_entries_of_whole_characters(guest, shift):
    text = "x" * shift + "😀" * (LINE_BYTES_MAX // 2)

    for start in range(0, len(text.encode()), 4096):
        write(guest.context, cli.stdout(guest.context), text.encode()[start : start + 4096])
    flush(guest.context)

    assert "".join(guest.messages) == text
    assert max(len(message.encode()) for message in guest.messages) <= LINE_BYTES_MAX


@given(st.lists(st.binary(max_size=40)))
def test_all_text_within_the_bounds_arrives_whatever_the_pieces(pieces):
    entries = []
    context = GuestContext(Scope({}, {}), lambda level, message: entries.append(message))
    out = cli.stdout(context)

    for piece in pieces:
        assert streams.write(context, out, piece) is None
    flush(context)

    lines = b"".join(pieces).split(b"\n")
    expected = lines if lines[-1] else lines[:-1]
    assert entries == [line.decode("utf-8", "replace").removesuffix("\r") for line in expected]


def test_a_call_that_prints_too_much_is_cut_off_and_slowed_down(guest):
    out = cli.stdout(guest.context)
    chunk = (b"y" * 999 + b"\n") * 64

    waits = [write(guest.context, out, chunk) for _ in range(20)]
    flush(guest.context)

    assert waits[0] is False
    assert waits[-1] is True
    *lines, notice = guest.entries
    logged = sum(len(message) + 1 for _, message in lines)
    assert logged <= PRINTED_BYTES_MAX + 1
    dropped_bytes = 20 * len(chunk) - PRINTED_BYTES_MAX
    assert notice == ("warn", f"The worker printed too much: {dropped_bytes} bytes were dropped. [limit.log]")


def test_a_call_that_prints_too_many_lines_is_cut_off(guest):
    for _ in range(4):
        write(guest.context, cli.stdout(guest.context), b"\n" * 60_000)
    flush(guest.context)

    assert len(guest.entries) == LINES_MAX + 1
    assert "were dropped" in guest.messages[-1]


def test_both_streams_share_one_allowance(guest):
    write(guest.context, cli.stdout(guest.context), b"\n" * LINES_MAX)

    write(guest.context, cli.stderr(guest.context), b"one more\n")

    assert len(guest.entries) == LINES_MAX


def test_the_next_call_may_print_again(guest):
    out = cli.stdout(guest.context)
    for _ in range(6):
        write(guest.context, out, b"z" * 65_536)
    flush(guest.context)
    guest.entries.clear()

    waited = write(guest.context, out, b"again\n")

    assert waited is False
    assert guest.messages == ["again"]


def test_dropped_output_is_taken_slowly(guest):
    async def print_too_much() -> float:
        out = cli.stdout(guest.context)
        for _ in range(PRINTED_BYTES_MAX // 65_536):
            assert streams.write(guest.context, out, b"\0" * 65_536) is None
        start = asyncio.get_running_loop().time()
        waiting = streams.write(guest.context, out, b"\0" * 65_536)
        assert waiting is not None
        await waiting
        return asyncio.get_running_loop().time() - start

    assert asyncio.run(print_too_much()) >= 0.05


def test_more_than_a_stream_takes_at_once_is_a_trap(guest):
    out = cli.stdout(guest.context)
    allowed = streams.check_write(guest.context, out)

    with pytest.raises(GuestTrap, match="at once"):
        streams.write(guest.context, out, bytes(allowed + 1))
    with pytest.raises(GuestTrap, match="at once"):
        streams.write_zeroes(guest.context, out, 2**64 - 1)
