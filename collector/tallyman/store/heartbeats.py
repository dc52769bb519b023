"""What nodes have said of themselves: their heartbeats, as they are stored.

What follows from them is `domain/completeness.py`'s. Whoever has a key can send one, so that one that
cannot be read is passed over: it must not stop the reconciliation of others.
"""

import json
from datetime import datetime
from itertools import chain, islice
from typing import Any, Final

from tallyman.domain.completeness import HEARTBEAT, LARGEST_NUMBER, Heard, Heartbeat, Whose
from tallyman.domain.period import in_utc, microseconds
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.json_sql import quote
from tallyman.store.lane_sql import SINCE, since_parameters

MOST_SET_ASIDE: Final = 100_000  # that are read of what a node says; its spool sets aside 10,000
_FIELDS: Final = ("first", "newest", "oldest", "waiting", "set_aside", "refused", "bad", "sinks")
# Before there were ranges, a node named the lowest 200.
_RANGES, _NUMBERS = "set_aside_ranges", "set_aside_numbers"
_DIGITS: Final = len(str(LARGEST_NUMBER))
_NUMBER: Final = "[0-9]{1,19}"
_RANGE: Final = rf"\[{_NUMBER},{_NUMBER}\]"


def _list_of(item: str) -> str:
    """A regular expression of a JSON list of this, or of nothing at all."""
    return rf"^(\[({item}(,{item})*)?\])?$"


_SAID: Final = (
    "JSONExtract(data, 'Tuple("
    + ", ".join(f"{field} String" for field in (*_FIELDS, _RANGES, _NUMBERS))
    + ")')"
)
_IS_READABLE: Final = " AND ".join(
    [
        *(f"match(said.{field}, '^[0-9]{{0,{_DIGITS}}}$')" for field in _FIELDS),
        "said.newest != ''",
        f"match(said.{_RANGES}, {quote(_list_of(_RANGE))})",
        f"match(said.{_NUMBERS}, {quote(_list_of(_NUMBER))})",
    ]
)


class Heartbeats:
    """The heartbeats of the nodes of every namespace."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def heard(self, since: datetime) -> dict[Whose, Heard]:
        """What was heard of each node since then and last before it, of what can be read."""
        before = await self._last_before(since)
        rows = await self._clickhouse.rows(
            "SELECT namespace, subject, min(time), argMin(said, time), max(time) AS last_at, "  # noqa: S608 – ours
            "argMax(said, time), min(ingested_at), max(ingested_at) "
            f"FROM (SELECT namespace, subject, time, ingested_at, {_SAID} AS said FROM events "
            f"WHERE type = {quote(HEARTBEAT)} AND {SINCE}) WHERE {_IS_READABLE} "
            "GROUP BY namespace, subject, toUInt64OrZero(said.first) "
            "ORDER BY last_at, namespace, subject",
            since_parameters(since),
        )
        heard = {
            whose: Heard((), beat, beat, came_in_at, came_in_at)
            for whose, (beat, came_in_at) in before.items()
        }
        for namespace, node, first_at, first, last_at, last, first_in_at, last_in_at in rows:
            spool = (
                _heartbeat(namespace, node, first_at, first),
                _heartbeat(namespace, node, last_at, last),
            )
            known = heard.get((namespace, node))
            heard[namespace, node] = Heard(
                (*(known.spools if known else ()), spool),
                known.before if known else None,
                spool[1],
                min(known.first_at, in_utc(first_in_at)) if known else in_utc(first_in_at),
                max(known.last_at, in_utc(last_in_at)) if known else in_utc(last_in_at),
            )
        return heard

    async def last_said(self, since: datetime, until: datetime) -> dict[Whose, Heartbeat]:
        """Each node's last heartbeat up to `until`, by its own clock, of those that came in since then."""
        rows = await self._clickhouse.rows(
            f"SELECT namespace, subject, max(time), argMax(said, time) FROM (SELECT namespace, subject, "  # noqa: S608 – ours
            f"time, {_SAID} AS said FROM events WHERE type = {quote(HEARTBEAT)} AND {SINCE} "
            f"AND time <= fromUnixTimestamp64Micro({{until:Int64}}, 'UTC')) WHERE {_IS_READABLE} "
            "GROUP BY namespace, subject",
            {**since_parameters(since), "until": microseconds(until)},
        )
        return {
            (namespace, node): _heartbeat(namespace, node, at, said)
            for namespace, node, at, said in rows
        }

    async def _last_before(self, since: datetime) -> dict[Whose, tuple[Heartbeat, datetime]]:
        """Each node's last heartbeat before then, and when it came in; only these are read."""
        is_before = f"type = {quote(HEARTBEAT)} AND NOT ({SINCE})"
        rows = await self._clickhouse.rows(
            "SELECT namespace, subject, time, said, ingested_at "  # noqa: S608 – ours
            f"FROM (SELECT namespace, subject, time, ingested_at, {_SAID} AS said FROM events "
            f"WHERE {is_before} AND (namespace, subject, time) GLOBAL IN (SELECT namespace, subject, "
            f"max(time) FROM events WHERE {is_before} GROUP BY namespace, subject)) "
            f"WHERE {_IS_READABLE}",
            since_parameters(since),
        )
        return {
            (namespace, node): (_heartbeat(namespace, node, at, said), in_utc(came_in_at))
            for namespace, node, at, said, came_in_at in rows
        }


def _heartbeat(namespace: str, node: str, at: datetime, said: Any) -> Heartbeat:
    """What a node said; what it did not is as if it had nothing to say."""
    return Heartbeat(
        node,
        in_utc(at),
        first=max(int(said["first"] or 1), 1),
        newest=int(said["newest"]),
        oldest=int(said["oldest"]) if said["oldest"] else None,
        waiting=int(said["waiting"] or 0),
        set_aside=int(said["set_aside"] or 0),
        set_aside_numbers=_set_aside(said[_RANGES], said[_NUMBERS]),
        refused=int(said["refused"] or 0),
        bad=int(said["bad"] or 0),
        sinks=int(said["sinks"] or 1),
        namespace=namespace,
    )


def _set_aside(ranges: str, numbers: str) -> tuple[int, ...]:
    """The numbers that are set aside, in order."""
    of_each = json.loads(ranges) if ranges else [(one, one) for one in json.loads(numbers or "[]")]
    named = chain.from_iterable(range(first, last + 1) for first, last in of_each)
    return tuple(sorted(islice(named, MOST_SET_ASIDE)))
