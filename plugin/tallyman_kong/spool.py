"""The spool: events on disk between Kong's log phase and their acknowledgement by the sink.

It numbers events, keeps them, bounds them and counts. It neither makes nor sends them.
"""

import json
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tallyman_kong.durable_step import durable
from tallyman_kong.event_rows import delete, insert, to_json
from tallyman_kong.heartbeat import FIRST_SEQUENCE, SEQUENCE, SpoolState, read_states
from tallyman_kong.metrics import EVENTS, GIVEN_UP, REFUSED, SENT, SET_ASIDE, SPOOLED, Count
from tallyman_kong.sequence_mark import SequenceMark
from tallyman_kong.spool_file import SpoolFile, corruption

log = logging.getLogger("tallyman_kong.spool")

MOST_SET_ASIDE = 10_000
MOST_SET_ASIDE_BYTES = 64_000_000
SET_ASIDE_BYTES = "set_aside_bytes"  # the counter of what is set aside now
PROBE = "probe"
BYTES = "length(CAST(body AS BLOB))"


@dataclass(frozen=True)
class Spooled:
    """An event as it is sent: `body` is the CloudEvent in JSON."""

    position: int
    body: str


@dataclass
class Group:
    """What is appended in one transaction: whole log entries, with what was counted on the way."""

    events: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    entries: int = 0
    sinks: dict[str, str] = field(default_factory=dict)
    counts: Counter[Count] = field(default_factory=Counter)


@dataclass(frozen=True)
class Figures:
    """What the metrics page shows of the spool."""

    counts: Mapping[Count, int]
    waiting: int
    used_bytes: int
    oldest_at: float | None
    set_aside: int


class Spool:
    """The spool of one node, through one process's connection; used from one thread at a time."""

    def __init__(
        self,
        path: Path,
        node_id: str = "",
        *,
        max_bytes: int = 0,
        survives_power_loss: bool = False,
    ) -> None:
        """Open the file, or make it.

        Raises:
            SpoolError: it cannot be opened, or a newer version wrote it.
        """
        self._file = SpoolFile(path, survives_power_loss=survives_power_loss)
        self._mark = SequenceMark(path)
        self._node_id = node_id
        self._max_bytes = max_bytes
        self._was_full = False

    def check(self) -> None:
        """Read the whole file, mend its indexes, set it aside if it is corrupt; seconds for a large one."""
        self._file.check()

    @durable("spool.append")
    def append(self, group: Group) -> bool:
        """Number the events and put them on disk, durable when this returns; blocks on the disk.

        False where the spool is full: then none of the group's events is kept, and its entries are
        counted as refused, on disk too. What is already spooled always stays.

        Raises:
            sqlite3.OperationalError: nothing was kept, and the same group may be tried again.
        """
        bodies = [to_json(event) for _, event in group.events]
        accepted = self._file.write(lambda connection: self._append(connection, group, bodies))
        if accepted and group.events:
            self._mark.gave(self._node_id, self._newest)
        if group.events and accepted is self._was_full:
            self._was_full = not accepted
            if self._was_full:
                log.error("the spool is full: new calls are refused, and counted, until it drains")
            else:
                log.warning("the spool takes new calls again")
        return accepted

    def read(self, sink: str, limit: int, max_bytes: int) -> list[Spooled]:
        """The sink's oldest events, in order: at most `limit`, and `max_bytes` unless it is one."""

        def work(connection: sqlite3.Connection) -> list[Spooled]:
            found: list[Spooled] = []
            size = 0
            rows = connection.execute(
                "SELECT position, body FROM event WHERE sink = ? ORDER BY position LIMIT ?",
                (sink, limit),
            )
            for position, body in rows:
                if not isinstance(body, str):  # a bit that rotted makes bytes of a text
                    raise corruption("an event is no text")
                size += len(body) if body.isascii() else len(body.encode())
                if found and size > max_bytes:
                    break
                found.append(Spooled(position, body))
            return found

        return self._file.read(work)

    @durable("spool.acknowledge")
    def acknowledge(self, positions: Iterable[int], kind: str) -> None:
        """Delete events that the sink has: exactly these."""
        acknowledged = list(positions)

        def work(connection: sqlite3.Connection) -> None:
            # Fewer are deleted where the file that they were read from was set aside.
            deleted = delete(connection, acknowledged)
            counts = {SENT.of(sink=kind): len(acknowledged), SPOOLED.of(): -deleted}
            add_counts(connection, Counter(counts))

        if acknowledged:
            self._file.write(work)

    @durable("spool.set_aside")
    def set_aside(self, position: int, reason: str) -> bool:
        """Move an event that the sink will never take out of the way, with the reason.

        False where no more can be set aside; the event then stays where it is.
        """

        def work(connection: sqlite3.Connection) -> bool:
            row = connection.execute(
                f"SELECT {BYTES} FROM event WHERE position = ?",  # noqa: S608 – of ours alone
                (position,),
            ).fetchone()
            if row is None:  # it was in a file that was set aside
                return True
            if not _has_room_aside(connection, row[0]):
                return False
            connection.execute(
                # At its own position, unless that is one that an older version gave to another.
                "INSERT INTO set_aside (position, sink, set_aside_at, reason, body) "
                "SELECT CASE WHEN position NOT IN (SELECT position FROM set_aside) THEN position END, "
                "sink, ?, ?, body FROM event WHERE position = ?",
                (time.time(), reason, position),
            )
            connection.execute("DELETE FROM event WHERE position = ?", (position,))
            counts = {SET_ASIDE.of(): 1, SPOOLED.of(): -1, Count(SET_ASIDE_BYTES): row[0]}
            add_counts(connection, Counter(counts))
            return True

        return self._file.write(work)

    def give_up(self, position: int) -> None:
        """Delete an event that can be neither sent nor set aside: its number is missing."""

        def work(connection: sqlite3.Connection) -> None:
            deleted = delete(connection, [position])
            add_counts(connection, Counter({GIVEN_UP.of(): deleted, SPOOLED.of(): -deleted}))

        self._file.write(work)

    @durable("spool.return")
    def return_set_aside(self) -> int:
        """Put what is set aside back to its place among what waits for its sink; gives how many.

        There the oldest number comes first, below which a heartbeat says that nothing waits.
        """

        def work(connection: sqlite3.Connection) -> int:
            returned = connection.execute(
                "INSERT INTO event (position, sink, appended_at, body) "
                "SELECT CASE WHEN position NOT IN (SELECT position FROM event) THEN position END, "
                "sink, set_aside_at, body FROM set_aside ORDER BY position"
            ).rowcount
            connection.execute("DELETE FROM set_aside")
            connection.execute("DELETE FROM counter WHERE name = ?", (SET_ASIDE_BYTES,))
            add_counts(connection, Counter({SPOOLED.of(): returned}))
            return returned

        return self._file.write(work)

    def count(self, counts: Counter[Count]) -> None:
        if counts:
            self._file.write(lambda connection: add_counts(connection, counts))

    def sinks(self) -> dict[str, str]:
        """The settings, without secrets, of each sink that events were spooled for."""
        return self._file.read(
            lambda connection: dict(connection.execute("SELECT id, settings FROM sink").fetchall())
        )

    def figures(self) -> Figures:
        def work(connection: sqlite3.Connection) -> Figures:
            counts = {
                Count(name, labels): value
                for name, labels, value in connection.execute(
                    "SELECT name, labels, value FROM counter WHERE name NOT IN (?, ?, ?, ?)",
                    (SEQUENCE, FIRST_SEQUENCE, PROBE, SET_ASIDE_BYTES),
                )
            }
            oldest = connection.execute(
                "SELECT appended_at FROM event ORDER BY position LIMIT 1"
            ).fetchone()
            return Figures(
                counts=counts,
                waiting=counts.pop(SPOOLED.of(), 0),
                used_bytes=_used_bytes(connection),
                oldest_at=oldest[0] if oldest else None,
                set_aside=_set_aside_rows(connection),
            )

        return self._file.read(work)

    def states(self) -> list[SpoolState]:
        """What there is to say of each node that has numbered events in this file."""
        given = self._mark.all_given()  # first, so that the file has them all
        return [
            replace(state, newest=max(state.newest, given.get(state.node, 0)))
            for state in self._file.read(read_states)
        ]

    def probe(self) -> None:
        """Write something, to know that it can be.

        Raises:
            sqlite3.Error: it cannot.
        """
        self._file.write(
            lambda connection: connection.execute(
                "INSERT INTO counter VALUES (?, '', 1) ON CONFLICT DO UPDATE SET value = 1 - value",
                (PROBE,),
            )
        )

    def close(self) -> None:
        self._file.close()

    def _append(self, connection: sqlite3.Connection, group: Group, bodies: list[str]) -> bool:
        counts = Counter(group.counts)
        full = bool(group.events) and _used_bytes(connection) >= self._max_bytes
        if full:
            counts[REFUSED.of(reason="spool_full")] += group.entries
        elif group.events:
            counts.update(self._insert(connection, group, bodies))
        add_counts(connection, counts)
        return not full

    def _insert(
        self, connection: sqlite3.Connection, group: Group, bodies: list[str]
    ) -> Counter[Count]:
        node = self._node_id
        row = connection.execute(
            "SELECT value FROM counter WHERE name = ? AND labels = ?", (SEQUENCE, node)
        ).fetchone()
        # A new file goes on where the old one may have come to, one that was cut off behind the hole.
        last = int(row[0]) if row else self._mark.reserved(node)
        last = max(last, self._mark.given(node))
        self._newest = last + len(bodies)
        self._mark.reserve(node, self._newest)
        now = time.time()
        prefix = f'{{"nodeid":{json.dumps(node)},"sequence":"'
        values: list[Any] = []
        for sequence, ((sink, _), body) in enumerate(
            zip(group.events, bodies, strict=True), start=last + 1
        ):
            values += (sink, now, f'{prefix}{sequence:018d}",{body[1:]}')
        insert(connection, values)
        connection.executemany(
            "INSERT INTO sink VALUES (?, ?) ON CONFLICT DO UPDATE SET settings = excluded.settings "
            "WHERE settings <> excluded.settings",
            list(group.sinks.items()),
        )
        marks = [(SEQUENCE, node, self._newest), (FIRST_SEQUENCE, node, last + 1)]
        connection.executemany(
            "INSERT INTO counter VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            marks[:1] if row else marks,
        )
        return _counts_of(group)


def _counts_of(group: Group) -> Counter[Count]:
    told = Counter(
        (event["data"]["outcome"], event["data"]["usage_source"]) for _, event in group.events
    )
    counts: Counter[Count] = Counter({SPOOLED.of(): len(group.events)})
    for (outcome, usage_source), events in told.items():
        counts[EVENTS.of(outcome=outcome, usage_source=usage_source)] += events
    return counts


def add_counts(connection: sqlite3.Connection, counts: Counter[Count]) -> None:
    connection.executemany(
        "INSERT INTO counter VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET value = value + excluded.value",
        [(count.name, count.labels, value) for count, value in counts.items() if value],
    )


def _used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the pages in use, but for what is set aside, which has a bound of its own.

    The file itself keeps its size when events leave it.
    """
    pages = int(connection.execute("PRAGMA page_count").fetchone()[0])
    free = int(connection.execute("PRAGMA freelist_count").fetchone()[0])
    in_use = (pages - free) * int(connection.execute("PRAGMA page_size").fetchone()[0])
    return max(0, in_use - (_set_aside_bytes(connection) or 0))


def _has_room_aside(connection: sqlite3.Connection, size: int) -> bool:
    if _set_aside_rows(connection) >= MOST_SET_ASIDE:
        return False
    known = _set_aside_bytes(connection)
    if known is None or known + size > MOST_SET_ASIDE_BYTES:  # somebody may have deleted rows
        known = int(
            connection.execute(f"SELECT ifnull(sum({BYTES}), 0) FROM set_aside").fetchone()[0]  # noqa: S608 – of ours alone
        )
        connection.execute(
            "INSERT INTO counter VALUES (?, '', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (SET_ASIDE_BYTES, known),
        )
    return known + size <= MOST_SET_ASIDE_BYTES


def _set_aside_bytes(connection: sqlite3.Connection) -> int | None:
    """As they were counted; None before the first in this file."""
    row = connection.execute(
        "SELECT value FROM counter WHERE name = ? AND labels = ''", (SET_ASIDE_BYTES,)
    ).fetchone()
    return None if row is None else int(row[0])


def _set_aside_rows(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM set_aside").fetchone()[0])
