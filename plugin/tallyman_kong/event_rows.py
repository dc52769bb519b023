"""Owns how events become rows of the spool's file; what is appended and when is `spool.py`'s."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

INSERTS = {
    rows: f"INSERT INTO event (sink, appended_at, body) VALUES {', '.join(['(?, ?, ?)'] * rows)}"  # noqa: S608 – of ours alone
    for rows in (128, 32, 8, 2, 1)
}
_encoder = msgspec.json.Encoder()


def to_json(event: Mapping[str, Any]) -> str:
    try:
        return _encoder.encode(event).decode()
    except (ValueError, OverflowError):  # half a surrogate pair, a number beyond 64 bits
        return json.dumps(event, separators=(",", ":"))


def insert(connection: sqlite3.Connection, values: Sequence[Any]) -> None:
    """Insert rows in order; `values` are each row's sink, time and body, one after the other.

    A statement takes many rows: while it runs the thread gives up the interpreter, and after it
    waits for the interpreter again.
    """
    at = 0
    for rows, statement in INSERTS.items():
        width = rows * 3
        while len(values) - at >= width:
            connection.execute(statement, values[at : at + width])
            at += width


def delete(connection: sqlite3.Connection, positions: Sequence[int]) -> int:
    """Delete the rows at these positions, and none between them; gives how many there were.

    A run without a gap is one statement, since whoever appends waits for it.
    """
    return sum(
        connection.execute("DELETE FROM event WHERE position BETWEEN ? AND ?", run).rowcount
        for run in runs(positions)
    )


def runs(positions: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each run of numbers without a gap."""
    ordered = sorted(set(positions))
    for _, numbers in groupby(enumerate(ordered), lambda at: at[1] - at[0]):
        run = [number for _, number in numbers]
        yield run[0], run[-1]
