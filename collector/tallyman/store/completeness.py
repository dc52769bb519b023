"""What the event store says of its own completeness: holes in numbers, hours, heartbeats, memory.

It reads; only what is remembered and not stored does it put right. What a hole means is
`domain/completeness.py`'s, and how it all is put together `stream/reconcile.py`'s.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

from tallyman_kong.durable_step import durable

from tallyman.domain.completeness import HEARTBEAT, Heartbeat, Hole, HourBalance
from tallyman.domain.event import CloudEvent, as_utc
from tallyman.domain.period import microseconds
from tallyman.store.arrivals import CONFLICT, KNOWN
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.json_sql import quote
from tallyman.store.lane_sql import (
    BLOCK,
    DOORS,
    MADE_GOOD,
    SINCE,
    Lane,
    Lanes,
    render_numbers,
    since_parameters,
)

MOST_SET_ASIDE = 100_000  # that are read of what a node says; its spool sets aside 10,000


class Completeness:
    """Questions about what came in since a moment, of every namespace."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def holes(self, lanes: Lanes, since: datetime) -> tuple[list[Lane], list[Hole]]:
        """The lanes that numbers came in by since then, and the holes before what came in.

        A number counts if it was stored or dropped, whenever that was.
        """
        found: dict[str, Lane] = {}
        holes: list[Hole] = []
        for name, block, first, last, count, first_at, last_at in await self._blocks(lanes, since):
            before = found.get(name)
            if before is not None and first > before.last + 1:
                hole = Hole(name, before.last + 1, first - 1, before.last_at, first_at)
                holes += await self._really_missing(lanes, hole)
            if count < last - first + 1:
                holes += await self._inside(lanes, name, block)
            whole = before or Lane(name, first, last, first_at, last_at)
            found[name] = Lane(name, whole.first, last, whole.first_at, last_at)
        for lane in found.values():
            holes += await self._before(lanes, lane, since)
        # One at the beginning of a block may have been found twice.
        once = {(hole.lane, hole.first): hole for hole in holes}
        since_then = [
            once[key]
            for key in sorted(once)
            if (after_at := once[key].after_at) is None or after_at >= since
        ]
        return list(found.values()), since_then

    async def behind(self, lanes: Lanes, lane: str, newest: int, at: datetime) -> list[Hole]:
        """The hole behind a lane's last number, if numbers up to `newest` were given by then.

        None where no number of the lane was ever stored: it is not known where it began.
        """
        rows = await self._clickhouse.rows(
            "SELECT max(number), argMax(ingested_at, number) FROM ("  # noqa: S608 – ours
            + render_numbers(lanes, "1")
            + ") WHERE lane = {lane:String} HAVING count() > 0",
            {"lane": lane},
        )
        if not rows or int(rows[0][0]) >= newest:
            return []
        return [Hole(lane, int(rows[0][0]) + 1, newest, _utc(rows[0][1]), None)]

    async def hours(self, since: datetime) -> dict[datetime, HourBalance]:
        """What is stored, known and in conflict of what came in, by the hour that it came in."""
        numbers = (
            "SELECT door, toStartOfHour(ingested_at) AS hour, '' AS reason, "  # noqa: S608 – ours
            f"groupBitmapState(place) AS places FROM events WHERE {SINCE} AND door != '' "
            "GROUP BY door, hour UNION ALL "
            "SELECT door, toStartOfHour(ingested_at) AS hour, reason, "
            f"groupBitmapState(place) AS places FROM dropped WHERE {SINCE} "
            f"AND {DOORS[2]} GROUP BY door, hour, reason"
        )
        stored, known, conflict = (
            f"groupBitmapMergeStateIf(places, reason = {quote(reason)})"
            for reason in ("", KNOWN, CONFLICT)
        )
        rows = await self._clickhouse.rows(
            f"SELECT hour, sum(counted), sum(known), sum(conflicts) FROM ("  # noqa: S608 – ours
            "SELECT hour, bitmapCardinality(s) AS counted, bitmapAndnotCardinality(k, s) AS known, "
            "bitmapAndnotCardinality(c, bitmapOr(s, k)) AS conflicts FROM ("
            f"SELECT hour, {stored} AS s, {known} AS k, {conflict} AS c "
            f"FROM ({numbers}) GROUP BY door, hour)) GROUP BY hour ORDER BY hour",
            since_parameters(since),
        )
        return {
            _utc(hour): HourBalance(_utc(hour), int(counted), int(known), int(conflicts))
            for hour, counted, known, conflicts in rows
        }

    async def heartbeats(self, since: datetime) -> dict[str, list[Heartbeat]]:
        """Each node's first and last heartbeat since then."""
        rows = await self._clickhouse.rows(
            "SELECT subject, min(time), argMin(data, time), max(time), argMax(data, time) "  # noqa: S608 – ours
            f"FROM events WHERE type = {quote(HEARTBEAT)} AND {SINCE} GROUP BY subject",
            since_parameters(since),
        )
        return {
            node: [_heartbeat(node, first_at, first), _heartbeat(node, last_at, last)]
            for node, first_at, first, last_at, last in rows
        }

    async def event_times(self, lane: str, numbers: Sequence[int]) -> list[datetime]:
        """When the events with these numbers of a node happened, of those that are stored."""
        rows = await self._clickhouse.rows(
            "SELECT time FROM events WHERE nodeid = {node:String} AND sequence != '' "
            "AND toUInt64OrZero(sequence) IN {numbers:Array(UInt64)}",
            {"node": lane, "numbers": list(numbers)},
        )
        return sorted(_utc(row[0]) for row in rows)

    async def stored(self, namespace: str, events: Sequence[CloudEvent]) -> list[bool]:
        """Whether each event with a time is stored as it is, in the order asked; read from the truth."""
        if not events:
            return []
        rows = await self._clickhouse.rows(
            "SELECT type, subject, toUnixTimestamp64Micro(time), source, id FROM events WHERE "  # noqa: S608 – texts are quoted
            "(namespace, type, subject, time, source, id) IN "
            f"({', '.join(_key(namespace, event) for event in events)})",
            settings={"max_query_size": 1 << 28},
        )
        found = {tuple(row) for row in rows}
        return [
            event.time is not None
            and (
                event.type,
                event.subject,
                microseconds(as_utc(event.time)),
                event.source,
                event.id,
            )
            in found
            for event in events
        ]

    @durable("reconcile.make_good")
    async def make_good(self, hole: Hole) -> None:
        """Take a node's numbers for accounted for, from now on: its log shows every call counted."""
        await self._clickhouse.command(
            "INSERT INTO dropped (door, place, reason, nodeid, sequence, ingested_at) SELECT "
            "concat({door:String}, {node:String}), number, 'made_good', {node:String}, "
            "toString(number), fromUnixTimestamp64Milli({at:Int64}) "
            "FROM numbers({first:UInt64}, {size:UInt64})",
            {
                "door": MADE_GOOD,
                "node": hole.lane,
                "at": int(hole.before_at.timestamp() * 1000),
                "first": hole.first,
                "size": hole.size,
            },
        )

    @durable("reconcile.report")
    async def write_report(self, at: datetime, report: str) -> None:
        """Keep a report for `last_report`."""
        await self._clickhouse.command(
            "INSERT INTO reconciliation SELECT fromUnixTimestamp64Milli({at:Int64}), {report:String}",
            {"at": int(at.timestamp() * 1000), "report": report},
        )

    async def last_report(self) -> str | None:
        """The newest report that was kept."""
        rows = await self._clickhouse.rows(
            "SELECT report FROM reconciliation ORDER BY at DESC LIMIT 1"
        )
        return str(rows[0][0]) if rows else None

    async def _blocks(self, lanes: Lanes, since: datetime) -> list[Any]:
        rows = await self._clickhouse.rows(
            "SELECT lane, block, min(number), max(number), "  # noqa: S608 – ours
            f"groupBitmap(toUInt32(number % {BLOCK})), "
            "argMin(ingested_at, number), argMax(ingested_at, number) FROM ("
            + render_numbers(lanes, SINCE)
            + ") GROUP BY lane, block ORDER BY lane, block",
            since_parameters(since),
        )
        return [(*row[:5], _utc(row[5]), _utc(row[6])) for row in rows]

    async def _inside(self, lanes: Lanes, name: str, block: int) -> list[Hole]:
        """The holes in one block, looked for among all that is stored."""
        rows = await self._clickhouse.rows(
            "SELECT before, number, before_at, ingested_at FROM (SELECT number, ingested_at, "  # noqa: S608 – ours
            "lagInFrame(number, 1, number) OVER w AS before, "
            "lagInFrame(ingested_at, 1, ingested_at) OVER w AS before_at FROM ("
            "SELECT number, min(ingested_at) AS ingested_at FROM ("
            + render_numbers(lanes, "1")
            + ") WHERE lane = {lane:String} AND block = {block:UInt64} GROUP BY number) "
            "WINDOW w AS (ORDER BY number ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)) "
            "WHERE number > before + 1 ORDER BY number",
            {"lane": name, "block": block},
        )
        return [
            Hole(name, int(before) + 1, int(number) - 1, _utc(before_at), _utc(at))
            for before, number, before_at, at in rows
        ]

    async def _before(self, lanes: Lanes, lane: Lane, since: datetime) -> list[Hole]:
        """The hole between what came in before and the first of what came in since."""
        rows = await self._clickhouse.rows(
            "SELECT max(number), argMax(ingested_at, number) FROM ("  # noqa: S608 – ours
            + render_numbers(lanes, "1")
            + ") WHERE lane = {lane:String} AND number < {first:UInt64} HAVING count() > 0",
            {"lane": lane.name, "first": lane.first},
        )
        if not rows:
            return []
        last, last_at = int(rows[0][0]), _utc(rows[0][1])
        if last + 1 == lane.first:
            return []
        return [Hole(lane.name, last + 1, lane.first - 1, last_at, lane.first_at)]

    async def _really_missing(self, lanes: Lanes, hole: Hole) -> list[Hole]:
        """The hole between two blocks, less what came in by the same lane before `since`."""
        rows = await self._clickhouse.rows(
            "SELECT DISTINCT number FROM ("  # noqa: S608 – ours
            + render_numbers(lanes, "1")
            + ") WHERE lane = {lane:String} AND number BETWEEN {first:UInt64} AND {last:UInt64} "
            "ORDER BY number",
            {"lane": hole.lane, "first": hole.first, "last": hole.last},
        )
        holes, at = [], hole.first
        for number in [*(int(row[0]) for row in rows), hole.last + 1]:
            if at < number:
                holes.append(Hole(hole.lane, at, number - 1, hole.before_at, hole.after_at))
            at = number + 1
        return holes


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _heartbeat(node: str, at: datetime, data: str) -> Heartbeat:
    """What a node said; what it did not is 0."""
    said = json.loads(data)
    oldest = said.get("oldest")
    return Heartbeat(
        node,
        _utc(at),
        first=int(said.get("first", 1)),
        newest=int(said.get("newest", 0)),
        oldest=None if oldest is None else int(oldest),
        waiting=int(said.get("waiting", 0)),
        set_aside=int(said.get("set_aside", 0)),
        set_aside_numbers=_set_aside(said),
        refused=int(said.get("refused", 0)),
        bad=int(said.get("bad", 0)),
        sinks=int(said.get("sinks", 1)),
    )


def _set_aside(said: Mapping[str, Any]) -> tuple[int, ...]:
    """The numbers that are set aside, in order; before there were ranges, a node named the lowest 200."""
    ranges = said.get("set_aside_ranges")
    if ranges is None:
        ranges = [(number, number) for number in said.get("set_aside_numbers", ())]
    numbers = chain.from_iterable(range(int(first), int(last) + 1) for first, last in ranges)
    return tuple(sorted(islice(numbers, MOST_SET_ASIDE)))


def _key(namespace: str, event: CloudEvent) -> str:
    texts = (namespace, event.type, event.subject, event.source, event.id)
    whose, type_, subject, source, id_ = (f"unhex('{text.encode().hex()}')" for text in texts)
    time = microseconds(as_utc(event.time)) if event.time is not None else 0
    return (
        f"({whose}, {type_}, {subject}, fromUnixTimestamp64Micro({time}, 'UTC'), {source}, {id_})"
    )
