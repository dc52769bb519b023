"""Reads files of Kong's log, one JSON entry a line: whole, compressed, damaged or still being written.

It does not know what an entry means: see `kong_entry.py`.
"""

import gzip
import sys
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tallyman_kong.entry import decode

from tallyman.errors import InvalidInput

LONGEST_LINE_BYTES: Final = 16 * 1024 * 1024
STANDARD_INPUT: Final = "-"
_GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True)
class Line:
    """A line's entries, or why it has none. `read_bytes` is how much of the file has been read.

    `unfinished` is the last line of a file that is being written: not there yet, so not bad.
    """

    number: int
    read_bytes: int
    entries: tuple[Any, ...] = ()
    bad: str | None = None
    unfinished: bool = False


def read_lines(path: str) -> Generator[Line, None, None]:
    """Every line of a file that is not empty, one at a time; `-` is standard input.

    Blocks. A line holds an entry, or an array of them, as http-log sends it.

    Raises:
        InvalidInput: the file cannot be opened.
    """
    try:
        raw: Any = sys.stdin.buffer if path == STANDARD_INPUT else Path(path).open("rb")  # noqa: SIM115 – closed below
    except OSError as err:
        raise InvalidInput(f"{path} cannot be read: {(err.strerror or '').lower()}") from err
    try:
        yield from _lines(raw)
    finally:
        if path != STANDARD_INPUT:
            raw.close()


def _lines(raw: Any) -> Generator[Line, None, None]:
    file = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == _GZIP else raw
    seekable = raw.seekable()
    number = 0
    while True:
        number += 1
        try:
            line, whole = _read_line(file)
        except (OSError, EOFError, zlib.error) as err:
            yield Line(number, 0, bad=f"the file is damaged from here on: {err}")
            return
        if not line:
            return
        # A log that was cut in place while it was written begins with zeros.
        text = line.strip(b"\0 \t\r\n")
        at = raw.tell() if seekable else 0
        if len(line) > LONGEST_LINE_BYTES or not whole:
            yield Line(number, at, bad=f"the line is longer than {LONGEST_LINE_BYTES} bytes")
        elif text:
            yield _line(number, at, text, ended=line.endswith(b"\n"))


def _read_line(file: Any) -> tuple[bytes, bool]:
    """One line, and whether it is all there; of one that is too long only the beginning is kept."""
    line: bytes = file.readline(LONGEST_LINE_BYTES + 1)
    if len(line) <= LONGEST_LINE_BYTES or line.endswith(b"\n"):
        return line, True
    while (rest := file.readline(LONGEST_LINE_BYTES)) and not rest.endswith(b"\n"):
        pass
    return line, False


def _line(number: int, read_bytes: int, text: bytes, *, ended: bool) -> Line:
    try:
        decoded = decode(text)
    except (ValueError, RecursionError):
        if not ended:
            return Line(number, read_bytes, unfinished=True)
        return Line(number, read_bytes, bad="the line is not JSON")
    entries = tuple(decoded) if isinstance(decoded, list) else (decoded,)
    return Line(number, read_bytes, entries)
