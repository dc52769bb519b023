"""What the event store says of its own completeness: what is stored, hours, holes, heartbeats, reports.

How holes are found is `holes.py`'s, and how it all is put together `stream/reconcile.py`'s.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from tallyman_kong.durable_step import durable

from tallyman.domain.completeness import HourBalance, Whose
from tallyman.domain.event import CloudEvent, as_utc
from tallyman.domain.period import in_utc, microseconds, milliseconds
from tallyman.store.arrivals import CONFLICT, KNOWN
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.heartbeats import Heartbeats
from tallyman.store.holes import Holes
from tallyman.store.json_sql import quote
from tallyman.store.lane_sql import (
    NOT_MADE_GOOD,
    SINCE,
    since_parameters,
)
from tallyman.store.revision_sql import AS_IT_CAME


class Completeness:
    """Questions about what came in since a moment, of every namespace."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse
        self.heartbeats = Heartbeats(clickhouse)
        self.holes = Holes(clickhouse)

    async def is_older(self, moment: datetime) -> bool:
        """Whether anything was stored before a moment."""
        rows = await self._clickhouse.rows(
            "SELECT 1 FROM events WHERE stored_at < fromUnixTimestamp64Milli({at:Int64}) LIMIT 1",
            {"at": int(moment.timestamp() * 1000)},
        )
        return bool(rows)

    async def hours(self, since: datetime) -> dict[datetime, HourBalance]:
        """What is stored, known and in conflict of what came in, by the hour that it came in."""
        numbers = (
            "SELECT door, toStartOfHour(ingested_at) AS hour, '' AS reason, "  # noqa: S608 – ours
            f"groupBitmapState(place) AS places FROM events WHERE {SINCE} AND door != '' "
            "GROUP BY door, hour UNION ALL "
            "SELECT door, toStartOfHour(ingested_at) AS hour, reason, "
            f"groupBitmapState(place) AS places FROM dropped WHERE {SINCE} "
            f"AND {NOT_MADE_GOOD} GROUP BY door, hour, reason"
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
            in_utc(hour): HourBalance(in_utc(hour), int(counted), int(known), int(conflicts))
            for hour, counted, known, conflicts in rows
        }

    async def event_times(self, node: Whose, numbers: Sequence[int]) -> list[datetime]:
        """When each of these numbers of a node was given first, of those that are stored, in order."""
        rows = await self._clickhouse.rows(
            "SELECT toUInt64OrZero(sequence) AS number, min(time) FROM events "  # noqa: S608 – ours
            f"WHERE namespace = {{namespace:String}} AND {AS_IT_CAME} "
            "AND nodeid = {node:String} AND sequence != '' "
            "AND number IN {numbers:Array(UInt64)} GROUP BY number",
            {"namespace": node[0], "node": node[1], "numbers": list(numbers)},
        )
        return sorted(in_utc(time) for _, time in rows)

    async def stored(self, namespace: str, events: Sequence[CloudEvent]) -> list[bool]:
        """Whether each event with a time is stored as it is, in the order asked; read from the truth."""
        if not events:
            return []
        rows = await self._clickhouse.rows(
            "SELECT type, subject, toUnixTimestamp64Micro(time), source, id FROM events WHERE "  # noqa: S608 – texts are quoted
            "(namespace, type, subject, time, source, id) IN "
            f"({', '.join(_key(namespace, event) for event in events)})",
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

    @durable("reconcile.report")
    async def write_report(self, at: datetime, report: str) -> None:
        """Keep a report for `last_report`."""
        row = msgspec.json.encode({"at": f"{milliseconds(at) / 1000:.3f}", "report": report})
        await self._clickhouse.insert("reconciliation", row, "JSONEachRow")

    async def last_report(self) -> str | None:
        """The newest report that was kept."""
        rows = await self._clickhouse.rows(
            "SELECT report FROM reconciliation ORDER BY at DESC LIMIT 1"
        )
        return str(rows[0][0]) if rows else None


def _key(namespace: str, event: CloudEvent) -> str:
    texts = (namespace, event.type, event.subject, event.source, event.id)
    whose, type_, subject, source, id_ = (f"unhex('{text.encode().hex()}')" for text in texts)
    time = microseconds(as_utc(event.time)) if event.time is not None else 0
    return (
        f"({whose}, {type_}, {subject}, fromUnixTimestamp64Micro({time}, 'UTC'), {source}, {id_})"
    )
