"""A usage statement: the events of a customer's month, line by line, in a chain of hashes. Pure.

Each line is JSON that ends with its `hash`: the SHA-256 of the hash before it, a newline, and the line
without the hash. The first follows 64 zeros. It does not count: see `billing/statement.py`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from tallyman.domain.money import EXACT, written
from tallyman.errors import InvalidInput

FIRST: Final = "0" * 64
VERSION: Final = 1
_HASHED: Final = re.compile(r'(\{.*),"hash":"([0-9a-f]{64})"\}')
Sums = dict[tuple[str, str], Decimal]


class Chain:
    """A statement as it is written: a line at a time, without line ends."""

    def __init__(self) -> None:
        self.hash = FIRST
        self._events = 0
        self._sums: Sums = {}

    def begin(self, header: Mapping[str, Any]) -> str:
        """The first line: whose usage it is, when, and as it was known when."""
        return self._line({"statement": VERSION, **header})

    def add(self, event: Mapping[str, Any]) -> str:
        """The line of an event, with `model`, `type` and `quantity`."""
        self._events += 1
        _sum(self._sums, event)
        return self._line({"number": self._events, **event})

    def end(self) -> str:
        """The last line: what the events sum up to."""
        return self._line({"events": self._events, "usage": _usage(self._sums)})

    def _line(self, content: Mapping[str, Any]) -> str:
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        self.hash = _hash(self.hash, text)
        return f'{text[:-1]},"hash":"{self.hash}"}}'


def check(lines: Iterable[str]) -> dict[str, Any]:
    """The first and the last line together, of a statement that is whole and unchanged.

    Raises:
        InvalidInput: it is not; the first line that is wrong is named.
    """
    before, sums, events = FIRST, Sums(), 0
    header: dict[str, Any] = {}
    last: dict[str, Any] = {}
    for number, line in enumerate(lines, 1):
        if last:
            raise InvalidInput(f"line {number}: the statement has ended before it")
        before, content = _linked(number, line, before)
        if number == 1:
            header = content
        elif "number" in content:
            events += 1
            _sum(sums, content)
        else:
            last = content
    if header.get("statement") != VERSION or not last:
        raise InvalidInput("the statement has no beginning or no end: lines are missing")
    if (last.get("events"), last.get("usage")) != (events, _usage(sums)):
        raise InvalidInput("the last line is not the sum of the events")
    return {**header, **last, "hash": before}


def _linked(number: int, line: str, before: str) -> tuple[str, dict[str, Any]]:
    """The hash and the content of a line that follows the hash before it."""
    found = _HASHED.fullmatch(line.rstrip("\r\n"))
    if found is None:
        raise InvalidInput(f"line {number} is no line of a statement")
    text = found[1] + "}"
    if _hash(before, text) != found[2]:
        raise InvalidInput(f"line {number} was changed, or one before it is missing")
    return found[2], _read(number, text)


def _hash(before: str, text: str) -> str:
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()


def _read(number: int, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as err:
        raise InvalidInput(f"line {number} is no JSON") from err
    if not isinstance(content, dict):
        raise InvalidInput(f"line {number} is no object")
    return content


def _sum(sums: Sums, event: Mapping[str, Any]) -> None:
    try:
        quantity = Decimal(event["quantity"])
        key = str(event["model"]), str(event["type"])
    except (KeyError, TypeError, ValueError, InvalidOperation) as err:
        raise InvalidInput(f"event {event.get('number')} has no quantity, model or type") from err
    sums[key] = EXACT.add(sums.get(key, Decimal(0)), quantity)


def _usage(sums: Sums) -> list[dict[str, str]]:
    return [
        {"model": model, "type": type_, "quantity": written(quantity)}
        for (model, type_), quantity in sorted(sums.items())
    ]
