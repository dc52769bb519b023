"""Renders whose events are counted, and in which time each, as tables within a query. Pure.

What is counted of them is `usage_sql.py`'s.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from tallyman.domain.period import Period, microseconds

Parts = tuple[tuple[str, Period], ...]  # subjects, each with the time in which its events count

IN_SLOT: Final = (
    "toUnixTimestamp64Micro(time) >= s.from_us AND toUnixTimestamp64Micro(time) < s.to_us"
)
STORED_LATER: Final = "toUnixTimestamp64Milli(stored_at) * 1000 > s.stored_us"


def subject_table(slots: Iterable[Parts]) -> str:
    """The subjects of all slots, each once."""
    subjects = dict.fromkeys(subject for slot in slots for subject, _ in slot)
    return _table("subject String", b"".join(map(_text, subjects)))


def slot_table(slots: Sequence[Parts], stored_after: Sequence[datetime] | None = None) -> str:
    """A row a part: subject, slot, from_us, to_us, and with moments stored_us."""
    rows = []
    for at, slot in enumerate(slots):
        rest = () if stored_after is None else (microseconds(stored_after[at]),)
        for subject, part in slot:
            numbers = (at, microseconds(part.from_), microseconds(part.to), *rest)
            rows.append(_text(subject) + _integers(numbers))
    stored = "" if stored_after is None else ", stored_us Int64"
    columns = f"subject String, slot Int64, from_us Int64, to_us Int64{stored}"
    return _table(columns, b"".join(rows))


def _table(columns: str, rows: bytes) -> str:
    return f"(SELECT * FROM format(RowBinary, '{columns}', unhex('{rows.hex()}')))"  # noqa: S608 – hexadecimal


def _text(text: str) -> bytes:
    """A String of RowBinary: its length in LEB128, and its bytes."""
    encoded = text.encode()
    size, length = bytearray(), len(encoded)
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return bytes(size) + encoded


def _integers(numbers: Iterable[int]) -> bytes:
    return b"".join(number.to_bytes(8, "little", signed=True) for number in numbers)
