"""Owns the check that nothing that was accepted is missing: nodes, doors, hours, memory, rollup, customers.

It does not own how holes are found (`store/completeness.py`) nor what they mean
(`domain/completeness.py`); a log as second witness is the command's.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import msgspec

from tallyman.domain.completeness import (
    Ends,
    Gap,
    GapKind,
    Hole,
    HourBalance,
    below,
    without,
)
from tallyman.domain.period import EPOCH
from tallyman.errors import NotFound
from tallyman.store.completeness import Completeness
from tallyman.store.lane_sql import DOORS
from tallyman.store.rollup import Rollup
from tallyman.store.rollup_sql import HourOf
from tallyman.store.seen import Seen
from tallyman.store.unattributed import UnattributedUsage
from tallyman.stream.dead_letters import DeadLetter, read_dead_letters
from tallyman.stream.kafka_connection import KafkaConnection
from tallyman.stream.message import nearest_moment
from tallyman.stream.progress import Progress, consumed_until, first_since, read_progress
from tallyman.stream.reconcile_nodes import MadeGood, Nodes
from tallyman.stream.reconcile_report import (
    GapReport,
    HourReport,
    Report,
    RollupHourReport,
)

MOST_GAPS: Final = 100  # that a report names; all are counted
MOST: Final = 2**63 - 1  # that a report can say, if nodes name numbers that nobody has given
DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class KafkaTopics:
    """Where messages come from, who reads them, and where those go that are no events."""

    connection: KafkaConnection
    topic: str
    dead_topic: str
    group: str


@dataclass(frozen=True)
class Reconciliation:
    """The stores, and Kafka where there is one."""

    completeness: Completeness
    seen: Seen
    rollup: Rollup
    unattributed: UnattributedUsage
    kafka: KafkaTopics | None

    async def run(
        self, now: datetime, since: datetime, made_good: MadeGood | None = None
    ) -> Report:
        """Look at all that came in since then, and at the rollup of the hours since then; put right what
        can be, and keep the report.

        What a log has shown to be made good is taken for accounted for, now and from now on.

        Raises:
            Unavailable: a store or Kafka did not answer.
        """
        # In this order nothing that comes in meanwhile looks lost: what the nodes say, how far what they
        # had sent by then is read, and only then what is not stored.
        checked = Nodes(self.completeness, now)
        heard = await checked.hear(since)
        progress, dead, until = await self._kafka_says()
        told = await checked.judge(heard, since, until)
        if made_good is not None:
            await checked.make_good(made_good, since, told)
        nodes, node_gaps = await checked.check(since, told)
        missing = await self._missing(since, progress, dead)
        hours = _hours(await self.completeness.hours(since), dead, missing, since)
        forgotten = await self._forget(since, now)
        differing = await self.rollup.mend(since)
        nobodys = await self.unattributed.subjects(now)
        lost = _sum(node.lost for node in nodes)
        refused = _sum(node.refused for node in nodes)
        missing_numbers = _sum(hole.size for hole in missing)
        gaps = [*node_gaps, *(Gap(hole, GapKind.LOST) for hole in missing)]
        report = Report(
            at=now,
            since=since,
            is_complete=not (lost or refused or missing_numbers or forgotten or differing),
            lost=lost,
            missing=missing_numbers,
            refused=refused,
            forgotten=forgotten,
            late=_sum(node.late for node in nodes),
            waiting=sum(one.lag for one in progress),
            set_aside=_sum(node.set_aside for node in nodes),
            dead=sum(hour.dead for hour in hours),
            unattributed_events=sum(one.events for one in nobodys),
            unattributed_subjects=len(nobodys),
            nodes=nodes,
            gaps=[_gap(gap) for gap in gaps[:MOST_GAPS]],
            hours=[_hour(hour) for hour in hours],
            differing=len(differing),
            rollup=[_rollup_hour(one) for one in differing[:MOST_GAPS]],
        )
        await self.completeness.write_report(now, msgspec.json.encode(report).decode())
        return report

    async def _kafka_says(
        self,
    ) -> tuple[Sequence[Progress], Sequence[DeadLetter], datetime | None]:
        """How far it is read, what is dead, and when the oldest message was sent that is not read."""
        if self.kafka is None:
            return (), (), None
        progress = await read_progress(self.kafka.connection, self.kafka.topic, self.kafka.group)
        until = await consumed_until(self.kafka.connection, self.kafka.topic, progress)
        try:
            dead = [
                letter
                async for letter in read_dead_letters(self.kafka.connection, self.kafka.dead_topic)
            ]
        except NotFound:
            dead = []
        return progress, dead, until

    async def _missing(
        self, since: datetime, progress: Iterable[Progress], dead: Iterable[DeadLetter]
    ) -> list[Hole]:
        """What came in by a door and is neither stored, nor dropped, nor dead.

        Behind what is committed nothing is missing: a batch may be stored before the one before it.
        """
        _, holes = await self.completeness.holes.since(DOORS, since)
        begins: Mapping[int, int] = {}
        if self.kafka is not None:
            begins = await first_since(self.kafka.connection, self.kafka.topic, since)
        committed = (
            {f"{self.kafka.topic}/{one.partition}": one for one in progress} if self.kafka else {}
        )
        ends = {
            ("", door): Ends(begins.get(one.partition), one.committed - 1, since)
            for door, one in committed.items()
        }
        if ends:
            holes += await self.completeness.holes.at_the_ends(DOORS, ends, since)
        for door, one in committed.items():
            holes = below(holes, door, one.committed)
        found: dict[str, list[int]] = defaultdict(list)
        for letter in dead:
            door, _, place = letter.origin.rpartition("/")
            found[door].append(int(place))
        return without(holes, found)

    async def _forget(self, since: datetime, now: datetime) -> int:
        """Forget what is remembered and not stored; how many ids that were."""
        forgotten = 0
        begin, now = _minute_of(since), _minute_of(now)
        while begin < now:
            end = min(begin + DAY, now)
            ids = await self.seen.remembered_only(begin, end)
            if ids:
                await self.seen.forget(ids, begin, end)
                forgotten += len(ids)
            begin = end
        return forgotten


def _hours(
    stored: Mapping[datetime, HourBalance],
    dead: Iterable[DeadLetter],
    missing: Iterable[Hole],
    since: datetime,
) -> list[HourBalance]:
    hours = dict(stored)
    for letter in {letter.origin: letter for letter in dead}.values():
        at = nearest_moment(letter.origin_timestamp_ms)
        if at >= since:
            hour = hours.setdefault(_hour_of(at), HourBalance(_hour_of(at)))
            hours[hour.hour] = replace(hour, dead=hour.dead + 1)
    for hole in missing:
        begin = _hour_of(hole.before_at)
        hour = hours.setdefault(begin, HourBalance(begin))
        hours[begin] = replace(hour, missing=hour.missing + hole.size)
    return [hours[begin] for begin in sorted(hours)]


def _sum(counts: Iterable[int]) -> int:
    return min(sum(counts), MOST)


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _minute_of(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _hour(hour: HourBalance) -> HourReport:
    return HourReport(
        hour.hour,
        hour.accepted,
        hour.counted,
        hour.known,
        hour.conflicts,
        hour.dead,
        hour.missing,
    )


def _rollup_hour(one: HourOf) -> RollupHourReport:
    return RollupHourReport(one.namespace, one.type, EPOCH + timedelta(hours=one.hour))


def _gap(gap: Gap) -> GapReport:
    hole = gap.hole
    return GapReport(
        hole.lane,
        hole.first,
        hole.last,
        gap.kind,
        hole.before_at,
        gap.is_upper_bound,
        hole.namespace,
    )
