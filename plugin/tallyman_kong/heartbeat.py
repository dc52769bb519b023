"""What a node says of itself through each sink: how far it has numbered, and what still waits.

By it the collector tells an event that is late, since it is still in the spool, from one that is
lost. It is an event like any other, without a number of its own, and is not spooled.
"""

import json
import sqlite3
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from tallyman_kong.event_rows import runs
from tallyman_kong.metrics import BAD_ENTRIES, REFUSED

TYPE = "tallyman.heartbeat"
SOURCE = "tallyman-kong"
SEQUENCE = "sequence"  # the counters that hold a node's last sequence, and its first in this file
FIRST_SEQUENCE = "first_sequence"
MOST_RANGES = (
    1_500  # that are named: with numbers up to 10^15 less than the 64 KiB that data may have
)


@dataclass(frozen=True)
class SpoolState:
    """A node's spool at one moment; `oldest` is None where nothing waits.

    Every number from `first` to `newest` that neither is `oldest` or above nor set aside has been
    acknowledged. `set_aside_ranges` are the first and last numbers of each run that is set aside,
    the lowest `MOST_RANGES` of them; `oldest` is at most the first number behind these.
    `refused` and `bad` count log entries that got no number at all, since the spool was begun.
    """

    node: str
    first: int
    newest: int
    oldest: int | None
    waiting: int
    set_aside: int
    set_aside_ranges: tuple[tuple[int, int], ...]
    refused: int
    bad: int
    sinks: int


def read_states(connection: sqlite3.Connection) -> list[SpoolState]:
    """The state of each node that has numbered events in the file, in one transaction."""
    counters = connection.execute(
        "SELECT name, labels, value FROM counter WHERE name IN (?, ?, ?, ?)",
        (SEQUENCE, FIRST_SEQUENCE, REFUSED.name, BAD_ENTRIES.name),
    ).fetchall()
    firsts = {labels: value for name, labels, value in counters if name == FIRST_SEQUENCE}
    bodies = [body for (body,) in connection.execute("SELECT body FROM set_aside").fetchall()]
    aside = {
        node: list(runs(number for body in bodies if (number := _number(body, node))))
        for name, node, _ in counters
        if name == SEQUENCE
    }
    return [
        SpoolState(
            node=node,
            first=firsts.get(node, 1),
            newest=newest,
            oldest=_least(_oldest(connection, node), aside[node][MOST_RANGES:]),
            waiting=_count(connection, "event"),
            set_aside=len(bodies),
            set_aside_ranges=tuple(aside[node][:MOST_RANGES]),
            refused=sum(value for name, _, value in counters if name == REFUSED.name),
            bad=sum(value for name, _, value in counters if name == BAD_ENTRIES.name),
            sinks=_count(connection, "sink"),
        )
        for name, node, newest in counters
        if name == SEQUENCE
    ]


def _oldest(connection: sqlite3.Connection, node: str) -> int | None:
    """The least number that waits; those of another node that had this spool may hide a lesser."""
    rows = connection.execute("SELECT body FROM event ORDER BY position LIMIT 1").fetchall()
    return (_number(rows[0][0], node) or 1) if rows else None


def _least(oldest: int | None, not_named: list[tuple[int, int]]) -> int | None:
    """The least number that waits or is set aside without being named, which is late, not lost."""
    return min(filter(None, (oldest, *(first for first, _ in not_named[:1]))), default=None)


def _number(body: str, node: str) -> int | None:
    """An event's number; None if it is another node's, or cannot be read any more."""
    try:
        event = json.loads(body)
        return int(event["sequence"]) if event["nodeid"] == node else None
    except (ValueError, KeyError, TypeError):
        return None


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 – a table of ours


def event_of(state: SpoolState, at: datetime) -> str:
    """The heartbeat as a CloudEvent in JSON."""
    time = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = asdict(state)
    return json.dumps(
        {
            "specversion": "1.0",
            "id": f"{fields.pop('node')}:{time}",
            "source": SOURCE,
            "type": TYPE,
            "subject": state.node,
            "time": time,
            "datacontenttype": "application/json",
            "nodeid": state.node,
            "data": fields,
        },
        separators=(",", ":"),
    )
