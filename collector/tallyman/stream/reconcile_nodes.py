"""Owns the check of the nodes' numbers: what of each node is late, lost or set aside, and what it refused.

It does not own how holes are found (`store/completeness.py`) nor what they mean (`domain/completeness.py`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final

from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.domain.completeness import (
    Ends,
    Gap,
    GapKind,
    Heard,
    Heartbeat,
    Hole,
    Whose,
    sort_gap,
)
from tallyman.store.completeness import Completeness
from tallyman.store.lane_sql import NODES, Lane
from tallyman.stream.reconcile_report import NodeReport

YOUNG: Final = timedelta(hours=1)  # a store whose nodes may be older than it
# By how much clocks of nodes may differ, and how long a message may be on its way to Kafka.
CLOCKS_APART: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class MadeGood:
    """A node whose log of [from, to] has no call that is not counted."""

    node: str
    from_: datetime
    to: datetime
    namespace: str = DEFAULT_NAMESPACE


@dataclass(frozen=True)
class Told:
    """What was heard of the nodes, and the heartbeat that each is judged by.

    All that a node had sent before that one is read before any hole is looked for. `until` is when the
    oldest message was sent that is not read; None where there is none.
    """

    heard: Mapping[Whose, Heard]
    judged_by: Mapping[Whose, Heartbeat]
    until: datetime | None


@dataclass(frozen=True)
class Nodes:
    """The nodes of every namespace: what one namespace's keys send says nothing of another's nodes."""

    completeness: Completeness

    async def hear(self, since: datetime) -> dict[Whose, Heard]:
        """What was heard of each node since then; to be asked before Kafka is, and before `check`."""
        heard = await self.completeness.heartbeats.heard(since)
        return {whose: one for whose, one in heard.items() if one.spools}

    async def judge(
        self, heard: Mapping[Whose, Heard], since: datetime, until: datetime | None
    ) -> Told:
        """Choose the heartbeats that tell, now that Kafka has said how far it is read.

        Where all was read, each node's last one tells. Where something was not, an earlier one does, from
        before that was sent: messages of several nodes have no order but that of their clocks.
        """
        if until is None:
            return Told(heard, {whose: one.last for whose, one in heard.items()}, until)
        before = until - CLOCKS_APART
        return Told(heard, await self.completeness.heartbeats.last_said(since, before), until)

    async def check(self, since: datetime, told: Told) -> tuple[list[NodeReport], list[Gap]]:
        """What each node lacks of what came in since then."""
        lanes, holes = await self.completeness.holes(NODES, since)
        lane_of = {(lane.namespace, lane.name): lane for lane in lanes}
        heard = told.heard
        for whose, one in heard.items():
            holes += await self._at_the_ends(whose, one, lane_of.get(whose), since)
        by_node: dict[Whose, list[Gap]] = defaultdict(list)
        for hole in holes:
            by_node[hole.whose] += sort_gap(hole, told.judged_by.get(hole.whose))
        nodes = [
            _node(whose, lane_of.get(whose), by_node[whose], heard.get(whose))
            for whose in sorted(lane_of.keys() | heard.keys() | by_node.keys(), key=_by_name)
        ]
        return nodes, [gap for whose in sorted(by_node, key=_by_name) for gap in by_node[whose]]

    async def _at_the_ends(
        self, whose: Whose, heard: Heard, lane: Lane | None, since: datetime
    ) -> list[Hole]:
        """What a node lacks of its first and last numbers, by what it said.

        A node that was first heard when the store was young may be the older one: its first numbers
        went elsewhere then, or were stored and deleted.
        """
        is_new = False
        if heard.before is None:
            first_at = min(heard.first_at, lane.first_at) if lane else heard.first_at
            is_new = await self.completeness.is_older(first_at - YOUNG)
        ends = Ends(heard.begins(is_new), heard.last.newest, heard.last.at)
        return await self.completeness.at_the_ends(NODES, whose, ends, since)

    async def make_good(self, made_good: MadeGood, since: datetime, told: Told) -> None:
        """Take what a node lost for accounted for, where its log has shown it to be counted."""
        _, gaps = await self.check(since, told)
        for gap in gaps:
            hole = gap.hole
            if hole.whose != (made_good.namespace, made_good.node) or gap.kind is not GapKind.LOST:
                continue
            times = await self.completeness.event_times(hole.whose, [hole.first - 1, hole.last + 1])
            times = (
                times if len(times) > 1 else [hole.before_at, hole.after_at or told.until or since]
            )
            if made_good.from_ <= times[0] and times[-1] <= made_good.to:
                await self.completeness.make_good(hole)


def _by_name(whose: Whose) -> tuple[str, str]:
    return whose[1], whose[0]


def _node(whose: Whose, lane: Lane | None, gaps: Iterable[Gap], heard: Heard | None) -> NodeReport:
    counted: dict[GapKind, int] = defaultdict(int)
    for gap in gaps:
        counted[gap.kind] += gap.hole.size
    newest = heard.last if heard else None
    return NodeReport(
        node=whose[1],
        last=max(lane.last if lane else 0, newest.newest if newest else 0),
        late=counted[GapKind.LATE],
        lost=counted[GapKind.LOST],
        set_aside=newest.set_aside if newest else 0,
        refused=heard.risen(attrgetter("refused")) if heard else 0,
        bad=heard.risen(attrgetter("bad")) if heard else 0,
        waiting=newest.waiting if newest else None,
        heartbeat_at=newest.at if newest else None,
        sinks=newest.sinks if newest else 1,
        namespace=whose[0],
    )
