"""Reading WebAssembly's binary format: bounded, strict, and never past the end of what is being read."""

from __future__ import annotations

import mmap

Buffer = bytes | mmap.mmap

MAGIC = b"\0asm"
CORE_MODULE = b"\x01\x00\x00\x00"
COMPONENT = b"\x0d\x00\x01\x00"
PREAMBLE_BYTES = 8

NAME_BYTES_MAX = 100_000
"""wasmtime's own limit."""


class Malformed(Exception):
    """The bytes are not what the binary format allows. The text ends a sentence that begins with "The upload"."""


class Reader:
    """A cursor over `data[position:end]`."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: Buffer, position: int, end: int) -> None:
        self.data = data
        self.position = position
        self.end = end

    @property
    def at_end(self) -> bool:
        return self.position >= self.end

    def byte(self) -> int:
        position = self.position
        if position >= self.end:
            raise Malformed(f"ends too early, at byte {self.end}")
        self.position = position + 1
        return self.data[position]

    def u32(self) -> int:
        """An unsigned LEB128 number."""
        first = self.byte()
        if first < 0x80:
            return first
        value, shift = first & 0x7F, 7
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > 28:
                raise Malformed(f"has a malformed number at byte {self.position}")
        if value >= 1 << 32:
            raise Malformed(f"has a number out of range at byte {self.position}")
        return value

    def skip_signed(self, bits: int) -> None:
        """Passes over a signed LEB128 number of at most so many bits."""
        for _ in range(-(-bits // 7)):
            if self.byte() < 0x80:
                return
        raise Malformed(f"has a malformed number at byte {self.position}")

    def take(self, size: int) -> bytes:
        start, end = self.position, self.position + size
        if end > self.end:
            raise Malformed(f"ends too early, at byte {self.end}")
        self.position = end
        return self.data[start:end]

    def skip(self, size: int) -> None:
        if self.position + size > self.end:
            raise Malformed(f"ends too early, at byte {self.end}")
        self.position += size

    def name(self) -> bytes:
        """A length-prefixed name, still encoded."""
        size = self.u32()
        if size > NAME_BYTES_MAX:
            raise Malformed(f"has a name that is too long at byte {self.position}")
        return self.take(size)

    def expect(self, byte: int, what: str) -> None:
        if self.byte() != byte:
            raise Malformed(f"has no valid {what} at byte {self.position - 1}")


def u32(value: int) -> bytes:
    """The number as unsigned LEB128."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def sized(content: bytes) -> bytes:
    """The bytes with their number before them: how names and sections are written."""
    return u32(len(content)) + content
