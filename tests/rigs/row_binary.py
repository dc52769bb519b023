"""Reads rows of `incoming_read` as ClickHouse does: RowBinary, as its documentation has it."""

import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Reader:
    def __init__(self, rows: bytes) -> None:
        self.rows, self.at = rows, 0

    def take(self, size: int) -> bytes:
        self.at += size
        return self.rows[self.at - size : self.at]

    def text(self) -> str:
        size = shift = 0
        while True:
            byte = self.take(1)[0]
            size |= byte % 128 << shift
            shift += 7
            if byte < 128:
                return self.take(size).decode()

    def number(self) -> int:
        return int(struct.unpack("<q", self.take(8))[0])

    def maybe_number(self) -> int | None:
        return None if self.take(1)[0] else self.number()

    def microseconds(self) -> datetime:
        return EPOCH + timedelta(microseconds=self.number())

    def milliseconds(self) -> datetime:
        return EPOCH + timedelta(milliseconds=self.number())


COLUMNS: dict[str, Callable[[_Reader], Any]] = {
    **dict.fromkeys(("namespace", "type", "subject"), _Reader.text),
    "time": _Reader.microseconds,
    **dict.fromkeys(("source", "id", "data", "nodeid", "sequence"), _Reader.text),
    "ingested_at": _Reader.milliseconds,
    "door": _Reader.text,
    "place": _Reader.number,
    "tokens": _Reader.maybe_number,
    **dict.fromkeys(("token_type", "model", "provider", "usage_source"), _Reader.text),
    "waived_tokens": _Reader.number,
}


def rows_of(block: bytes) -> Iterator[dict[str, Any]]:
    """Each row by its columns."""
    reader = _Reader(block)
    while reader.at < len(block):
        yield {name: read(reader) for name, read in COLUMNS.items()}
