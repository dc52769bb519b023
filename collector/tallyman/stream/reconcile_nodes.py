"""Owns the check of the nodes' numbers: what of each node is late, lost or set aside, and what it refused.

It does not own how holes are found (`store/completeness.py`) nor what they mean (`domain/completeness.py`).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.domain.completeness import Gap, GapKind, Heartbeat, Whose, sort_gap
from tallyman.store.completeness import Completeness
from tallyman.store.lane_sql import NODES
from tallyman.stream.reconcile_report import NodeReport


@dataclass(frozen=True)
class MadeGood:
    """A node whose log of [from, to] has no call that is not counted."""

    node: str
    from_: datetime
    to: datetime
    namespace: str = DEFAULT_NAMESPACE


@dataclass(frozen=True)
class Nodes:
    """The nodes of every namespace: what one namespace's keys send says nothing of another's nodes."""

    completeness: Completeness

    async def check(
        self, since: datetime, until: datetime | None
    ) -> tuple[list[NodeReport], list[Gap]]:
        """What each node lacks of what came in since then; `until` is when the oldest message was sent
        that is not read."""
        lanes, holes = await self.completeness.holes(NODES, since)
        beats = await self.completeness.heartbeats.since(since)
        for (namespace, node), (_, last) in beats.items():
            holes += await self.completeness.behind(NODES, node, last.newest, last.at, namespace)
        by_node: dict[Whose, list[Gap]] = defaultdict(list)
        for hole in holes:
            beat = beats[hole.whose][1] if hole.whose in beats else None
            by_node[hole.whose] += sort_gap(hole, beat, until)
        numbered = {(lane.namespace, lane.name): lane.last for lane in lanes}
        nodes = [
            _node(whose, numbered.get(whose, 0), by_node[whose], beats.get(whose, ()))
            for whose in sorted(numbered.keys() | beats.keys() | by_node.keys(), key=_by_name)
        ]
        return nodes, [gap for whose in sorted(by_node, key=_by_name) for gap in by_node[whose]]

    async def make_good(self, made_good: MadeGood, since: datetime, until: datetime | None) -> None:
        """Take what a node lost for accounted for, where its log has shown it to be counted."""
        _, gaps = await self.check(since, until)
        for gap in gaps:
            hole = gap.hole
            if hole.whose != (made_good.namespace, made_good.node) or gap.kind is not GapKind.LOST:
                continue
            times = await self.completeness.event_times(hole.whose, [hole.first - 1, hole.last + 1])
            times = times if len(times) > 1 else [hole.before_at, hole.after_at or until or since]
            if made_good.from_ <= times[0] and times[-1] <= made_good.to:
                await self.completeness.make_good(hole)


def _by_name(whose: Whose) -> tuple[str, str]:
    return whose[1], whose[0]


def _node(whose: Whose, last: int, gaps: Iterable[Gap], beats: Sequence[Heartbeat]) -> NodeReport:
    counted: dict[GapKind, int] = defaultdict(int)
    for gap in gaps:
        counted[gap.kind] += gap.hole.size
    newest = beats[1] if beats else None
    return NodeReport(
        node=whose[1],
        last=max(last, newest.newest if newest else 0),
        late=counted[GapKind.LATE],
        lost=counted[GapKind.LOST],
        set_aside=newest.set_aside if newest else 0,
        refused=_rise(beats[0].refused, beats[1].refused) if beats else 0,
        bad=_rise(beats[0].bad, beats[1].bad) if beats else 0,
        waiting=newest.waiting if newest else None,
        heartbeat_at=newest.at if newest else None,
        sinks=newest.sinks if newest else 1,
        namespace=whose[0],
    )


def _rise(first: int, last: int) -> int:
    """By how much a count rose that begins anew with a new spool."""
    return last - first if last >= first else last
