"""The holes in the numbers of lanes, of nodes and doors, looked for among all that is stored or dropped.

What a lane is is `lane_sql.py`'s, what a hole means `domain/completeness.py`'s.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from tallyman_kong.durable_step import durable

from tallyman.domain.completeness import LARGEST_NUMBER, Ends, Hole, Whose, less
from tallyman.domain.period import in_utc
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.lane_sql import (
    BLOCK,
    MADE_GOOD,
    SINCE,
    Lane,
    Lanes,
    lane_parameters,
    owned,
    render_lane,
    render_numbers,
    since_parameters,
)

# Of a namespace at a time: each reads all that is stored, and a sender chooses its numbers and names.
MOST_LOOKS = 200


class _Looks:
    """How many looks each namespace has left; doors are Tallyman's own, and have as many as they need."""

    def __init__(self, lanes: Lanes) -> None:
        self._left: defaultdict[str, float] = defaultdict(
            lambda: MOST_LOOKS if lanes.has_owner else math.inf
        )

    def take(self, namespace: str) -> bool:
        self._left[namespace] -= 1
        return self._left[namespace] >= 0


@dataclass(frozen=True)
class _Reached:
    """The least and the greatest number of a lane ever; whether it has the one before a certain one.

    So far as one reading of all lanes tells: where it has not, the lane is looked at by itself.
    """

    first: int
    last: int
    has_before: bool

    def has(self, ends: Ends) -> bool:
        return (ends.first is None or self.first <= ends.first) and ends.last <= self.last


_NOWHERE: Final = _Reached(LARGEST_NUMBER + 1, -1, has_before=False)


def _whole(whose: Whose, ends: Ends, after_at: datetime | None = None) -> Hole:
    """What is not looked at, as a hole."""
    return Hole(whose[1], ends.first or 1, ends.last, ends.at, after_at, whose[0])


class Holes:
    """The holes in the lanes of every namespace; what a log has shown to be counted is none."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def since(self, lanes: Lanes, since: datetime) -> tuple[list[Lane], list[Hole]]:
        """The lanes that numbers came in by since then, and the holes before what came in.

        A number counts if it was stored or dropped, whenever that was. Of a namespace with more than
        `MOST_LOOKS` places to look at, everything in the others is taken for a hole.
        """
        looks = _Looks(lanes)
        found: dict[Whose, Lane] = {}
        holes: list[Hole] = []
        for whose, block, first, last, count, first_at, last_at in await self._blocks(lanes, since):
            before = found.get(whose)
            whole = before or Lane(whose[0], whose[1], first, last, first_at, last_at)
            if before is not None and first > before.last + 1:
                ends = Ends(before.last + 1, first - 1, before.last_at)
                within = (
                    await self.within(lanes, whose, ends)
                    if looks.take(whose[0])
                    else [_whole(whose, ends)]
                )
                holes += [replace(hole, after_at=first_at) for hole in within]
            if count < last - first + 1:
                holes += (
                    await self._inside(lanes, whose, block)
                    if looks.take(whose[0])
                    else [_whole(whose, Ends(first + 1, last - 1, first_at), last_at)]
                )
            found[whose] = replace(whole, last=last, last_at=last_at)
        reached = await self._reached(lanes, {whose: one.first for whose, one in found.items()})
        for whose, lane in found.items():
            if lane.first > 1 and not reached[whose].has_before:
                holes += (
                    await self._before(lanes, lane)
                    if looks.take(whose[0])
                    else [_whole(whose, Ends(1, lane.first - 1, since), lane.first_at)]
                )
        # One at the beginning of a block may have been found twice.
        once = {(hole.whose, hole.first): hole for hole in holes}
        since_then = [
            once[key]
            for key in sorted(once)
            if (after_at := once[key].after_at) is None or after_at >= since
        ]
        return list(found.values()), await self._less_made_good(lanes, since_then)

    async def at_the_ends(
        self, lanes: Lanes, ends: Mapping[Whose, Ends], since: datetime
    ) -> list[Hole]:
        """The holes before each lane's first number and behind its last, by what is known of both ends.

        One before a number that came in before `since` is of that time. Of lanes beyond `MOST_LOOKS` of
        a namespace all is taken for a hole that is not stored at the end of one.
        """
        looks = _Looks(lanes)
        reached = await self._reached(lanes, {whose: one.first or 0 for whose, one in ends.items()})
        holes: list[Hole] = []
        for whose, one in ends.items():
            if not reached[whose].has(one):
                holes += (
                    await self._at_the_ends(lanes, whose, one, since)
                    if looks.take(whose[0])
                    else [_whole(whose, Ends(one.first or 1, one.last, one.at))]
                )
        return holes

    async def within(self, lanes: Lanes, whose: Whose, ends: Ends) -> list[Hole]:
        """The holes from a lane's `ends.first`, at least 1, to its `ends.last`, whenever they came about."""
        never = "toDateTime64(0, 3, 'UTC') AS at"
        holes = await self._holes_among(
            whose,
            f"SELECT arrayJoin([{{before:UInt64}}, {{after:UInt64}}]) AS number, {never} "  # noqa: S608 – ours
            f"UNION DISTINCT SELECT number, {never} FROM "
            + render_lane(lanes, "number > {before:UInt64} AND number < {after:UInt64}"),
            {"before": (ends.first or 1) - 1, "after": ends.last + 1},
        )
        since_then = [replace(hole, before_at=ends.at, after_at=None) for hole in holes]
        return await self._less_made_good(lanes, since_then)

    @durable("reconcile.make_good")
    async def make_good(self, hole: Hole) -> None:
        """Take a node's numbers for accounted for, from now on, in one row: its log shows all counted."""
        await self._clickhouse.command(
            "INSERT INTO dropped (door, place, reason, nodeid, sequence, ingested_at) SELECT "
            "concat({door:String}, {node:String}), {first:UInt64}, 'made_good', {node:String}, "
            "concat(toString({first:UInt64}), '-', toString({last:UInt64})), "
            "fromUnixTimestamp64Milli({at:Int64})",
            {
                "door": MADE_GOOD,
                "node": owned(hole.namespace, hole.lane),
                "at": int(hole.before_at.timestamp() * 1000),
                "first": hole.first,
                "last": hole.last,
            },
        )

    async def _at_the_ends(
        self, lanes: Lanes, whose: Whose, ends: Ends, since: datetime
    ) -> list[Hole]:
        [(count, first, first_at, last, last_at)] = await self._clickhouse.rows(
            "SELECT count(), min(number), argMin(ingested_at, number), max(number), "  # noqa: S608 – ours
            f"argMax(ingested_at, number) FROM {render_lane(lanes, '1')}",
            lane_parameters(*whose),
        )
        namespace, lane = whose
        holes: list[Hole] = []
        if not count:
            if ends.first is not None and ends.first <= ends.last:
                holes.append(Hole(lane, ends.first, ends.last, ends.at, None, namespace))
            return await self._less_made_good(lanes, holes)
        if ends.first is not None and ends.first < first and in_utc(first_at) >= since:
            holes.append(Hole(lane, ends.first, first - 1, ends.at, in_utc(first_at), namespace))
        if last < ends.last:
            holes.append(Hole(lane, last + 1, ends.last, in_utc(last_at), None, namespace))
        return await self._less_made_good(lanes, holes)

    async def _blocks(self, lanes: Lanes, since: datetime) -> list[Any]:
        rows = await self._clickhouse.rows(
            "SELECT namespace, lane, block, min(number), max(number), "  # noqa: S608 – ours
            f"groupBitmap(toUInt32(number % {BLOCK})), "
            "argMin(ingested_at, number), argMax(ingested_at, number) FROM ("
            + render_numbers(lanes, SINCE)
            + f") WHERE {'namespace != {nobody:String}' if lanes.has_owner else '1'} "
            "GROUP BY namespace, lane, block ORDER BY namespace, lane, block",
            since_parameters(since) | {"nobody": ""},
        )
        return [((row[0], row[1]), *row[2:6], in_utc(row[6]), in_utc(row[7])) for row in rows]

    async def _inside(self, lanes: Lanes, whose: Whose, block: int) -> list[Hole]:
        """The holes in one block, looked for among all that is stored."""
        return await self._holes_among(
            whose,
            "SELECT number, min(ingested_at) AS at FROM "  # noqa: S608 – ours
            + render_lane(lanes, "block = {block:UInt64}")
            + " GROUP BY number",
            {"block": block},
        )

    async def _holes_among(
        self, whose: Whose, numbers: str, parameters: dict[str, Any]
    ) -> list[Hole]:
        """The holes between the numbers, distinct and each with when it came, that a query gives."""
        rows = await self._clickhouse.rows(
            "SELECT before, number, before_at, at FROM (SELECT number, at, "  # noqa: S608 – ours
            "lagInFrame(number, 1, number) OVER w AS before, "
            f"lagInFrame(at, 1, at) OVER w AS before_at FROM ({numbers}) "
            "WINDOW w AS (ORDER BY number ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)) "
            "WHERE number > before + 1 ORDER BY number",
            lane_parameters(*whose) | parameters,
        )
        namespace, lane = whose
        return [
            Hole(lane, int(before) + 1, int(number) - 1, in_utc(before_at), in_utc(at), namespace)
            for before, number, before_at, at in rows
        ]

    async def _reached(
        self, lanes: Lanes, firsts: Mapping[Whose, int]
    ) -> defaultdict[Whose, _Reached]:
        """How far each lane has come, and whether it has the number before its first one here."""
        if not firsts:
            return defaultdict(lambda: _NOWHERE)
        rows = await self._clickhouse.rows(
            "SELECT namespace, lane, min(number), max(number), "  # noqa: S608 – ours
            "groupUniqArrayIf(number, number IN {before:Array(UInt64)}) "
            f"FROM ({render_numbers(lanes, '1')}) GROUP BY namespace, lane",
            {"before": sorted({first - 1 for first in firsts.values() if first > 0})},
        )
        reached = {(row[0], row[1]): (int(row[2]), int(row[3]), set(row[4])) for row in rows}
        return defaultdict(
            lambda: _NOWHERE,
            {
                whose: _Reached(
                    reached[whose][0], reached[whose][1], first - 1 in reached[whose][2]
                )
                for whose, first in firsts.items()
                if whose in reached
            },
        )

    async def _before(self, lanes: Lanes, lane: Lane) -> list[Hole]:
        """The hole between what came in before and the first of what came in since."""
        rows = await self._clickhouse.rows(
            "SELECT max(number), argMax(ingested_at, number) FROM "  # noqa: S608 – ours
            + render_lane(lanes, "number < {first:UInt64}")
            + " HAVING count() > 0",
            lane_parameters(lane.namespace, lane.name) | {"first": lane.first},
        )
        if not rows:
            return []
        last, last_at = int(rows[0][0]), in_utc(rows[0][1])
        if last + 1 == lane.first:
            return []
        return [Hole(lane.name, last + 1, lane.first - 1, last_at, lane.first_at, lane.namespace)]

    async def _less_made_good(self, lanes: Lanes, holes: list[Hole]) -> list[Hole]:
        """The holes less what logs have shown to be counted."""
        if not holes or not lanes.has_owner:
            return holes
        # Those of an older version are a row for each number, and are read as numbers.
        rows = await self._clickhouse.rows(
            "SELECT DISTINCT nodeid, sequence FROM dropped WHERE startsWith(door, {door:String}) "
            "AND nodeid IN {nodes:Array(String)} AND match(sequence, '^[0-9]+-[0-9]+$')",
            {"door": MADE_GOOD, "nodes": sorted({owned(*hole.whose) for hole in holes})},
        )
        shown: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for node, numbers in rows:
            first, last = numbers.split("-")
            shown[node].append((int(first), int(last)))
        return less(holes, {hole.whose: shown[owned(*hole.whose)] for hole in holes})
