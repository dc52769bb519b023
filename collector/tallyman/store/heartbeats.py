"""What nodes have said of themselves: their heartbeats, as they are stored.

What follows from them is `domain/completeness.py`'s. Whoever has a key can send one, so that one that
cannot be read is passed over: it must not stop the reconciliation of others.
"""

from datetime import datetime
from typing import Any, Final

import msgspec

from tallyman.domain.completeness import (
    CLOCKS_APART,
    HEARTBEAT,
    LARGEST_NUMBER,
    Heard,
    Heartbeat,
    Range,
    Whose,
)
from tallyman.domain.period import in_utc, microseconds
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.json_sql import quote
from tallyman.store.lane_sql import SINCE, since_parameters

MOST_SPOOLS: Final = 1_000  # that are read of a namespace, beside each node's newest
# Of what all nodes of a namespace say is set aside, the shortest first; one node's is at most 64 KiB.
MOST_SET_ASIDE_BYTES: Final = 1024 * 1024
# None whose node's clock was far ahead: it would hide all that the node says until then.
_HEARTBEAT: Final = (
    f"type = {quote(HEARTBEAT)} AND time <= stored_at "
    f"+ toIntervalSecond({int(CLOCKS_APART.total_seconds())})"
)
_FIELDS: Final = ("first", "newest", "oldest", "waiting", "set_aside", "refused", "bad", "sinks")
_lists: Final = msgspec.json.Decoder(list[int | Range])
_DIGITS: Final = len(str(LARGEST_NUMBER))
_NUMBER: Final = "[0-9]{1,19}"
_RANGE: Final = rf"\[{_NUMBER},{_NUMBER}\]"


def _list_of(item: str) -> str:
    """A regular expression of a JSON list of this, or of nothing at all."""
    return rf"^(\[({item}(,{item})*)?\])?$"


_SAID: Final = (
    "JSONExtract(data, 'Tuple("
    + ", ".join(f"{field} String" for field in _FIELDS)
    + ")') AS said, "
    # Before there were ranges, a node named the lowest 200.
    "JSONExtract(data, 'set_aside_ranges', 'String') AS ranges, "
    "JSONExtract(data, 'set_aside_numbers', 'String') AS numbers, "
    "if(ranges != '', ranges, numbers) AS aside"
)
_IS_READABLE: Final = " AND ".join(
    [
        *(f"match(said.{field}, '^[0-9]{{0,{_DIGITS}}}$')" for field in _FIELDS),
        "said.newest != ''",
        f"match(ranges, {quote(_list_of(_RANGE))})",
        f"match(numbers, {quote(_list_of(_NUMBER))})",
    ]
)


def _render(where: str) -> str:
    """The heartbeats that can be read, of those that meet `where`."""
    return (
        f"(SELECT namespace, subject, time, ingested_at, {_SAID} FROM events "  # noqa: S608 – ours
        f"WHERE {_HEARTBEAT} AND {where}) WHERE {_IS_READABLE}"
    )


def _render_bounded(rows: str) -> str:
    """The rows without what is set aside, where all of a namespace's would be too much."""
    return (
        "SELECT * REPLACE (if(sum(length(aside)) OVER (PARTITION BY namespace "  # noqa: S608 – ours
        "ORDER BY length(aside), subject ROWS UNBOUNDED PRECEDING) "
        f"<= {MOST_SET_ASIDE_BYTES}, aside, '') AS aside) FROM ({rows})"
    )


class Heartbeats:
    """The heartbeats of the nodes of every namespace."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def heard(self, since: datetime) -> dict[Whose, Heard]:
        """What was heard of each node since then and last before it, of what can be read."""
        before = await self._last_before(since)
        spools = (
            "SELECT namespace, subject, min(time) AS first_at, argMin(said, time) AS first_said, "  # noqa: S608 – ours
            "max(time) AS last_at, argMax((said, aside), time) AS last, min(ingested_at) AS first_in_at, "
            "max(ingested_at) AS last_in_at, row_number() OVER "
            "(PARTITION BY namespace, subject ORDER BY last_at DESC, spool) AS age "
            f"FROM {_render(SINCE)} "
            "GROUP BY namespace, subject, toUInt64OrZero(said.first) AS spool "
            f"ORDER BY age, last_at DESC LIMIT {MOST_SPOOLS} BY namespace, if(age = 1, subject, '')"
        )
        rows = await self._clickhouse.rows(
            "SELECT namespace, subject, first_at, first_said, last_at, last_said, aside, first_in_at, "  # noqa: S608 – ours
            "last_in_at FROM ("
            + _render_bounded(
                "SELECT *, last.1 AS last_said, if(age = 1, last.2, '') AS aside "  # noqa: S608 – ours
                f"FROM ({spools})"
            )
            + ") ORDER BY namespace, subject, age DESC",
            since_parameters(since),
        )
        heard = {
            whose: Heard((), beat, beat, came_in_at, came_in_at)
            for whose, (beat, came_in_at) in before.items()
        }
        for namespace, node, first_at, first, last_at, last, aside, first_in_at, last_in_at in rows:
            spool = (
                _heartbeat(namespace, node, first_at, first),
                _heartbeat(namespace, node, last_at, last, aside),
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
            "SELECT namespace, subject, at, last.1, aside FROM ("  # noqa: S608 – ours
            + _render_bounded(
                "SELECT *, last.2 AS aside FROM (SELECT namespace, subject, max(time) AS at, "  # noqa: S608 – ours
                "argMax((said, aside), time) AS last FROM "
                + _render(f"{SINCE} AND time <= fromUnixTimestamp64Micro({{until:Int64}}, 'UTC')")
                + " GROUP BY namespace, subject)"
            )
            + ")",
            {**since_parameters(since), "until": microseconds(until)},
        )
        return {
            (namespace, node): _heartbeat(namespace, node, at, said, aside)
            for namespace, node, at, said, aside in rows
        }

    async def _last_before(self, since: datetime) -> dict[Whose, tuple[Heartbeat, datetime]]:
        """Each node's last heartbeat before then, and when it came in; only these are read."""
        is_before = f"{_HEARTBEAT} AND NOT ({SINCE})"
        newest = (
            f"SELECT namespace, subject, max(time) FROM events WHERE {is_before} "  # noqa: S608 – ours
            "GROUP BY namespace, subject"
        )
        rows = await self._clickhouse.rows(
            "SELECT namespace, subject, time, said, aside, ingested_at FROM ("  # noqa: S608 – ours
            + _render_bounded(
                "SELECT namespace, subject, time, said, aside, ingested_at FROM "  # noqa: S608 – ours
                + _render(f"NOT ({SINCE}) AND (namespace, subject, time) GLOBAL IN ({newest})")
                + " LIMIT 1 BY namespace, subject"
            )
            + ")",
            since_parameters(since),
        )
        return {
            (namespace, node): (_heartbeat(namespace, node, at, said, aside), in_utc(came_in_at))
            for namespace, node, at, said, aside, came_in_at in rows
        }


def _heartbeat(namespace: str, node: str, at: datetime, said: Any, aside: str = "") -> Heartbeat:
    """What a node said; what it did not is as if it had nothing to say."""
    return Heartbeat(
        node,
        in_utc(at),
        first=max(int(said["first"] or 1), 1),
        newest=int(said["newest"]),
        oldest=int(said["oldest"]) if said["oldest"] else None,
        waiting=int(said["waiting"] or 0),
        set_aside=int(said["set_aside"] or 0),
        set_aside_ranges=_ranges(aside),
        refused=int(said["refused"] or 0),
        bad=int(said["bad"] or 0),
        sinks=int(said["sinks"] or 1),
        namespace=namespace,
    )


def _ranges(aside: str) -> tuple[Range, ...]:
    """The runs of numbers that are set aside, in order."""
    named = [(one, one) if isinstance(one, int) else one for one in _lists.decode(aside or "[]")]
    runs: list[Range] = []
    for first, last in sorted(named):
        if runs and first <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
        elif first <= last:
            runs.append((first, last))
    return tuple(runs)
