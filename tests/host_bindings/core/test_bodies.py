"""Bodies that a guest reads and pipes that it writes, through the functions of the contract's `types`."""

from __future__ import annotations

import asyncio
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_bindings.body import GUEST_CHUNK_BYTES, PIPE_UNREAD_BYTES_MAX, Body, BytesBody
from host_bindings.contract import Failure
from host_bindings.core import types


class UnknownLength(Body):
    """A body that ends only after `size` bytes, which it does not tell."""

    def __init__(self, size: int) -> None:
        self._left = size
        self.closed = False

    async def read(self, limit: int) -> bytes:
        if self.closed:
            raise Failure("Error", "closed")
        size = min(limit, self._left)
        self._left -= size
        return bytes(size)

    def close(self) -> None:
        self.closed = True


def test_a_body_tells_its_length_if_it_is_known(guest):
    assert types.body_length(guest.context, BytesBody(b"four")) == 4
    assert types.body_length(guest.context, UnknownLength(4)) is None


@given(st.binary(max_size=300), st.integers(min_value=1, max_value=400))
def test_reading_in_pieces_gives_every_byte_once_and_then_none(data, limit):
    async def read_everything() -> list[bytes]:
        body = BytesBody(data)
        pieces = []
        while (piece := await types.body_read(None, body, limit)) is not None:
            assert 1 <= len(piece) <= limit
            pieces.append(piece)
        assert await types.body_read(None, body, limit) is None
        return pieces

    assert b"".join(asyncio.run(read_everything())) == data


def test_one_read_gives_at_most_what_one_value_may_hold(guest):
    piece = asyncio.run(types.body_read(guest.context, BytesBody(bytes(1_000_000)), 2**32 - 1))

    assert piece == bytes(GUEST_CHUNK_BYTES)


def test_a_read_of_nothing_is_refused(guest):
    with pytest.raises(Failure, match="at least 1 byte"):
        asyncio.run(types.body_read(guest.context, BytesBody(b"x"), 0))


def test_text_replaces_what_is_not_utf8(guest):
    assert asyncio.run(types.body_text(guest.context, BytesBody("grün".encode() + b"\xff"))) == "grün�"


def test_what_is_not_utf8_is_replaced_alike_wherever_pieces_of_it_end(guest):
    data = ("ü€😀".encode() + b"\xff\xe2\x82") * 100_000

    assert asyncio.run(types.body_text(guest.context, BytesBody(data))) == data.decode("utf-8", "replace")


def test_large_texts_of_a_tenants_are_made_one_at_a_time(guest):
    data = b"\xff" * 3_000_000
    ends: list[int] = []

    async def read(number: int) -> None:
        await types.body_text(guest.context, BytesBody(data))
        ends.append(number)

    async def main() -> None:
        reading = [asyncio.create_task(read(number)) for number in range(3)]
        while not ends:
            await asyncio.sleep(0)
        assert [task.done() for task in reading] == [True, False, False]
        await asyncio.gather(*reading)

    asyncio.run(main())
    assert ends == [0, 1, 2]


def test_text_that_is_too_large_only_with_its_replacements_is_refused(guest):
    with pytest.raises(Failure, match="in pieces"):
        asyncio.run(types.body_text(guest.context, BytesBody(b"\xff" * (types.TEXT_BYTES_MAX // 2))))


@given(st.binary(max_size=2000))
def test_digits_carry_every_byte(data):
    digits = asyncio.run(types.body_read_hex(None, BytesBody(data), 3000))
    assert bytes.fromhex(digits or "") == data


def test_text_gives_what_is_left(guest):
    async def read_both() -> str:
        body = BytesBody(b"head tail")
        await types.body_read(guest.context, body, 5)
        return await types.body_text(guest.context, body)

    assert asyncio.run(read_both()) == "tail"


def test_a_body_that_is_too_large_to_take_in_can_still_be_read_in_pieces(guest):
    async def read() -> bytes | None:
        body = BytesBody(bytes(types.TEXT_BYTES_MAX + 1))
        with pytest.raises(Failure, match="in pieces") as refused:
            await types.body_text(guest.context, body)
        assert refused.value.name == "RangeError"
        return await types.body_read(guest.context, body, 3)

    assert asyncio.run(read()) == bytes(3)


def test_a_body_that_turns_out_too_large_is_not_read_on_as_if_nothing_were_missing(guest):
    async def read() -> None:
        body = UnknownLength(types.TEXT_BYTES_MAX + 100)
        with pytest.raises(Failure, match="in pieces"):
            await types.body_text(guest.context, body)
        with pytest.raises(Failure):
            await types.body_read(guest.context, body, 10)

    asyncio.run(read())


def test_what_is_written_into_a_pipe_comes_out(guest):
    async def write_and_read() -> bytes:
        body, sink = types.pipe(guest.context)
        await types.sink_write(guest.context, sink, b"bytes ")
        await types.sink_write_text(guest.context, sink, "grün ")
        await types.sink_write_hex(guest.context, sink, "00ff")
        types.sink_finish(guest.context, sink)
        return await body.read_all(100)

    assert asyncio.run(write_and_read()) == b"bytes gr\xc3\xbcn \x00\xff"


def test_a_sink_that_is_dropped_unfinished_breaks_the_body_off(guest):
    async def drop() -> None:
        body, sink = types.pipe(guest.context)
        await types.sink_write(guest.context, sink, b"half")
        sink.close()
        assert await body.read(100) == b"half"
        with pytest.raises(Failure, match="stopped before its end"):
            await body.read(100)

    asyncio.run(drop())


def test_writing_after_the_end_fails(guest):
    async def write() -> None:
        _, sink = types.pipe(guest.context)
        types.sink_finish(guest.context, sink)
        await types.sink_write(guest.context, sink, b"late")

    with pytest.raises(Failure, match="finished"):
        asyncio.run(write())


@pytest.mark.parametrize("digits", ["0", "0g", "Ā"])
def test_what_is_not_pairs_of_digits_is_not_bytes(guest, digits):
    async def write() -> None:
        _, sink = types.pipe(guest.context)
        await types.sink_write_hex(guest.context, sink, digits)

    with pytest.raises(Failure, match="hexadecimal"):
        asyncio.run(write())


def test_a_write_is_bounded(guest):
    async def write(data: bytes | str) -> None:
        _, sink = types.pipe(guest.context)
        if isinstance(data, bytes):
            await types.sink_write(guest.context, sink, data)
        else:
            await types.sink_write_text(guest.context, sink, data)

    with pytest.raises(Failure, match="at once"):
        asyncio.run(write(bytes(GUEST_CHUNK_BYTES + 1)))
    with pytest.raises(Failure, match="at once"):
        asyncio.run(write("x" * (types.TEXT_BYTES_MAX + 1)))


def test_pipes_that_nobody_reads_are_bounded_each_and_together(guest):
    piece = "x" * (PIPE_UNREAD_BYTES_MAX // 2)

    async def fill() -> None:
        kept = []
        for _ in range(types.PIPES_BYTES_MAX // PIPE_UNREAD_BYTES_MAX):
            kept.append(types.pipe(guest.context))
            await types.sink_write_text(guest.context, kept[-1][1], piece)
            await types.sink_write_text(guest.context, kept[-1][1], piece)
        with pytest.raises(Failure, match="nobody read"):
            await types.sink_write_text(guest.context, kept[0][1], "more")
        kept.append(types.pipe(guest.context))
        with pytest.raises(Failure, match="nobody read"):
            await types.sink_write_text(guest.context, kept[-1][1], "more")

    asyncio.run(fill())


def test_a_pipe_that_is_gone_no_longer_counts(guest):
    piece = "x" * PIPE_UNREAD_BYTES_MAX

    async def fill_and_forget() -> None:
        for _ in range(4):
            _, sink = types.pipe(guest.context)
            await types.sink_write_text(guest.context, sink, piece)
            del sink, _
            gc.collect()

    asyncio.run(fill_and_forget())
