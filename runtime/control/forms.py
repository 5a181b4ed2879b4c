"""Small multipart forms, read in memory."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from multipart import MultipartError, MultipartParser, parse_options_header

from runtime.control.envelope import invalid

PARTS_MAX = 256


@dataclass(frozen=True)
class Field:
    name: str
    content: bytes


def is_form(content_type: str) -> bool:
    return bool(parse_options_header(content_type)[0] == "multipart/form-data")


def read_form(body: bytes, content_type: str) -> list[Field]:
    """Raises `ControlError` (400) if the body is broken."""
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    limit = len(body) + 1
    try:
        parser = MultipartParser(
            BytesIO(body),
            boundary,
            content_length=len(body),
            part_limit=PARTS_MAX,
            memory_limit=limit,
            spool_limit=limit,
            disk_limit=0,
            strict=True,
        )
        return [Field(part.name or "", part.raw) for part in parser]
    except (MultipartError, ValueError) as error:
        raise invalid(f"The multipart body is broken: {error}.") from None
