"""Owns the check of the nodes' numbers: what of each node is late, lost or set aside, and what it refused.

It does not own how holes are found (`store/completeness.py`) nor what they mean (`domain/completeness.py`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final

from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.domain.completeness import (
    CLOCKS_APART,
    Ends,
    Gap,
    GapKind,
    Heard,
    Heartbeat,
    Hole,
    Whose,
    less,
    sort_gap,
)
from tallyman.store.completeness import Completeness
from tallyman.store.lane_sql import NODES, Lane
from tallyman.stream.reconcile_report import NodeReport

SILENT: Final = timedelta(days=1)  # after which what a node has not sent is missing
YOUNG: Final = timedelta(hours=1)  # a store whose nodes may be older than it


@dataclass(frozen=True)
class MadeGood:
    """A node whose log of [from, to] has no call that is not counted."""

    node: str
    from_: datetime
    to: datetime
    namespace: str = DEFAULT_NAMESPACE


@dataclass(frozen=True)
class Told:
    """What was `ever` heard of the nodes, and the heartbeat that each is judged by.

    All that a node had sent before that one is read before any hole is looked for. `until` is when the
    oldest message was sent that is not read; None where there is none.
    """

    ever: Mapping[Whose, Heard]
    judged_by: Mapping[Whose, Heartbeat]
    until: datetime | None


@dataclass(frozen=True)
class Nodes:
    """The nodes of every namespace: what one namespace's keys send says nothing of another's nodes."""

    completeness: Completeness
    now: datetime

    async def hear(self, since: datetime) -> dict[Whose, Heard]:
        """What was heard of each node since then, or last; to be asked before Kafka is, and before `check`."""
        return await self.completeness.heartbeats.heard(since)

    async def judge(
        self, ever: Mapping[Whose, Heard], since: datetime, until: datetime | None
    ) -> Told:
        """Choose the heartbeats that tell, now that Kafka has said how far it is read.

        Where all was read, each node's last one tells. Where something was not, an earlier one does, from
        before that was sent: messages of several nodes have no order but that of their clocks.
        """
        if until is None:
            judged_by = {whose: one.last for whose, one in ever.items() if one.spools}
            return Told(ever, judged_by, until)
        before = until - CLOCKS_APART
        return Told(ever, await self.completeness.heartbeats.last_said(since, before), until)

    async def check(self, since: datetime, told: Told) -> tuple[list[NodeReport], list[Gap]]:
        """What each node lacks of what came in since then.

        What the spool of a silent node held is looked at whenever it was last heard.
        """
        lanes, holes = await self.completeness.holes.since(NODES, since)
        lane_of = {(lane.namespace, lane.name): lane for lane in lanes}
        heard = {whose: one for whose, one in told.ever.items() if one.spools}
        ends = {whose: await self._ends(one, lane_of.get(whose)) for whose, one in heard.items()}
        holes += await self.completeness.holes.at_the_ends(NODES, ends, since)
        silent = self._silent(told, lane_of)
        holes = await self._held(silent, holes)
        by_node: dict[Whose, list[Gap]] = defaultdict(list)
        for hole in holes:
            gaps = sort_gap(hole, told.judged_by.get(hole.whose))
            if hole.whose in silent:
                gaps = [replace(gap, kind=GapKind.LOST) for gap in gaps]
            by_node[hole.whose] += gaps
        nodes = [
            _node(whose, lane_of.get(whose), by_node[whose], told.ever.get(whose), whose in silent)
            for whose in sorted(lane_of.keys() | heard.keys() | by_node.keys(), key=_by_name)
        ]
        return nodes, [gap for whose in sorted(by_node, key=_by_name) for gap in by_node[whose]]

    def _silent(self, told: Told, lane_of: Mapping[Whose, Lane]) -> dict[Whose, Heard]:
        """The nodes of which neither a heartbeat nor a number came for long, of what is read."""
        last = min(self.now, told.until or self.now) - SILENT
        return {
            whose: one
            for whose, one in told.ever.items()
            if one.last_at < last and (whose not in lane_of or lane_of[whose].last_at < last)
        }

    async def _held(self, silent: Mapping[Whose, Heard], holes: Sequence[Hole]) -> list[Hole]:
        """The holes with all that the spools of silent nodes hold."""
        ends = {
            whose: Ends(one.last.held, one.last.newest, one.last.at)
            for whose, one in silent.items()
            if one.last.held is not None
        }
        found = less(holes, {whose: [(one.first or 1, one.last)] for whose, one in ends.items()})
        for whose, one in ends.items():
            found += await self.completeness.holes.within(NODES, whose, one)
        return found

    async def _ends(self, heard: Heard, lane: Lane | None) -> Ends:
        """The first and the last number that a node must have, by what it said.

        A node that was first heard when the store was young may be the older one: its first numbers
        went elsewhere then, or were stored and deleted.
        """
        is_new = False
        if heard.before is None:
            first_at = min(heard.first_at, lane.first_at) if lane else heard.first_at
            is_new = await self.completeness.is_older(first_at - YOUNG)
        return Ends(heard.begins(is_new), heard.last.newest, heard.last.at)

    async def make_good(self, made_good: MadeGood, since: datetime, told: Told) -> None:
        """Take what a node lost for accounted for, where its log has shown it to be counted."""
        nodes, gaps = await self.check(since, told)
        silent = {(node.namespace, node.node) for node in nodes if node.silent}
        for gap in gaps:
            hole = gap.hole
            if hole.whose != (made_good.namespace, made_good.node) or gap.kind is not GapKind.LOST:
                continue
            times = await self.completeness.event_times(hole.whose, [hole.first - 1, hole.last + 1])
            if len(times) < 2 and hole.after_at is None:
                if hole.whose not in silent:
                    continue  # only the next number that comes shows until when these were given
                # Nothing comes behind it: the node's log ends with it.
                times = times or [min(hole.before_at, made_good.to)]
            elif len(times) < 2:
                times = [hole.before_at, hole.after_at or hole.before_at]
            if made_good.from_ <= times[0] and times[-1] <= made_good.to:
                await self.completeness.holes.make_good(hole)


def _by_name(whose: Whose) -> tuple[str, str]:
    return whose[1], whose[0]


def _node(
    whose: Whose, lane: Lane | None, gaps: Iterable[Gap], heard: Heard | None, is_silent: bool
) -> NodeReport:
    counted: dict[GapKind, int] = defaultdict(int)
    for gap in gaps:
        counted[gap.kind] += gap.hole.size
    newest = heard.last if heard else None
    return NodeReport(
        node=whose[1],
        last=max(lane.last if lane else 0, newest.newest if newest else 0),
        late=counted[GapKind.LATE],
        lost=counted[GapKind.LOST],
        set_aside=newest.set_aside if newest and not is_silent else 0,
        refused=heard.risen(attrgetter("refused")) if heard else 0,
        bad=heard.risen(attrgetter("bad")) if heard else 0,
        waiting=newest.waiting if newest else None,
        heartbeat_at=newest.at if newest else None,
        sinks=newest.sinks if newest else 1,
        namespace=whose[0],
        silent=is_silent,
    )
