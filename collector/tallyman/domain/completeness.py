"""What is missing of numbered things, and why: holes in the numbers of a node or a door.

It does not know where numbers are stored: see `store/completeness.py`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from operator import itemgetter
from typing import Final

HEARTBEAT: Final = "tallyman.heartbeat"  # the type of what a node says of itself; nobody's usage
# By how much clocks of nodes may differ, and how long a message may be on its way to Kafka.
CLOCKS_APART: Final = timedelta(minutes=5)
LARGEST_NUMBER: Final = 10**15 - 1  # 30,000 a second for a thousand years; none above is a node's

Whose = tuple[str, str]  # a namespace, and a node in it
Range = tuple[int, int]  # of numbers, both ends included


class GapKind(StrEnum):
    """Why numbers are missing. `late` ones may still come, `lost` ones will not by themselves."""

    LATE = "late"
    SET_ASIDE = "set_aside"
    LOST = "lost"


@dataclass(frozen=True)
class Hole:
    """The numbers from `first` to `last` that a lane lacks, with the times of their neighbours.

    `after_at` is None where nothing later is stored yet. `namespace` is whose node it is; a door is nobody's.
    """

    lane: str
    first: int
    last: int
    before_at: datetime
    after_at: datetime | None
    namespace: str = ""

    @property
    def size(self) -> int:
        return self.last - self.first + 1

    @property
    def whose(self) -> Whose:
        return self.namespace, self.lane


@dataclass(frozen=True)
class Ends:
    """The first and the last number that a lane must have, as far as it was known at a moment.

    `first` is None where it is not known where it begins.
    """

    first: int | None
    last: int
    at: datetime


@dataclass(frozen=True)
class Gap:
    """A hole, or a part of one, with the reason. `is_upper_bound`: the numbers may never have been given."""

    hole: Hole
    kind: GapKind
    is_upper_bound: bool = False


@dataclass(frozen=True)
class Heartbeat:
    """What a node last said of its spool; see the plugin's `heartbeat.py`.

    `set_aside_ranges` are in order and apart.
    """

    node: str
    at: datetime
    first: int
    newest: int
    oldest: int | None
    waiting: int = 0
    set_aside: int = 0
    set_aside_ranges: tuple[Range, ...] = ()
    refused: int = 0
    bad: int = 0
    sinks: int = 1
    namespace: str = ""

    @property
    def left(self) -> int:
        """The number up to which all had left its spool, but for those that are set aside."""
        return self.newest if self.oldest is None else self.oldest - 1

    @property
    def held(self) -> int | None:
        """The lowest number that its spool holds, to be sent or set aside."""
        aside = (first for first, _ in self.set_aside_ranges[:1])
        return min(filter(None, (self.oldest, *aside)), default=None)


@dataclass(frozen=True)
class Heard:
    """What was heard of a node since a moment: the first and last heartbeat of each of its spools, the
    newest spool at the end; the last one `before` that moment; and the last of all.

    `first_at` and `last_at` are when these came in.
    """

    spools: tuple[tuple[Heartbeat, Heartbeat], ...]
    before: Heartbeat | None
    last: Heartbeat
    first_at: datetime
    last_at: datetime

    def risen(self, count: Callable[[Heartbeat], int]) -> int:
        """By how much a count rose that begins at 0 with each spool, also before it was first said."""
        total = 0
        for first, last in self.spools:
            is_known = self.before is not None and self.before.first == first.first
            at = count(self.before) if self.before is not None and is_known else 0
            for beat in (first, last):
                # A spool file may have been made anew with the same first number.
                total += count(beat) - at if count(beat) >= at else count(beat)
                at = count(beat)
        return total

    def begins(self, is_new: bool) -> int:
        """The first number that must have come in since then, or be known to be missing.

        What had left the spool when it was first heard may have gone elsewhere, unless the node is new.
        """
        if self.before is not None:
            return self.before.left + 1
        first = self.spools[0][0]
        return first.first if is_new else first.left + 1


def sort_gap(hole: Hole, heartbeat: Heartbeat | None) -> list[Gap]:
    """Why the numbers of a node's hole are missing, in order.

    All that the node had sent before this heartbeat must have been read before the hole was looked for. A
    node that has not said that a number has left its spool may still send it.
    """
    if heartbeat is None:
        return [Gap(hole, GapKind.LATE)]
    if hole.first < heartbeat.first <= hole.last:
        spoilt = _part(hole, hole.first, heartbeat.first - 1)
        rest = _part(hole, heartbeat.first, hole.last)
        return [one for part in (spoilt, rest) for one in sort_gap(part, heartbeat)]
    left = heartbeat.left
    aside = heartbeat.set_aside_ranges
    gaps: list[Gap] = []
    if hole.first <= left:
        # Behind the last number of a spool file that is gone, some are reserved and never given.
        is_upper_bound = heartbeat.first - 1 == hole.last
        for first, last, is_aside in _runs(hole.first, min(hole.last, left), aside):
            kind = GapKind.SET_ASIDE if is_aside else GapKind.LOST
            gaps.append(Gap(_part(hole, first, last), kind, is_upper_bound and not is_aside))
    if hole.last > left:
        gaps.append(Gap(_part(hole, max(hole.first, left + 1), hole.last), GapKind.LATE))
    return gaps


def _part(hole: Hole, first: int, last: int) -> Hole:
    return replace(hole, first=first, last=last)


def _runs(first: int, last: int, aside: Sequence[Range]) -> Iterable[tuple[int, int, bool]]:
    """The stretches of [first, last] that are set aside, and those that are not.

    `aside` is in order, and only those of it are looked at that are in [first, last].
    """
    at = first
    behind = bisect_right(aside, last, key=itemgetter(0))
    for begin, end in aside[bisect_left(aside, first, key=itemgetter(1)) : behind]:
        begin, end = max(begin, at), min(end, last)
        if begin > end:
            continue
        if at < begin:
            yield at, begin - 1, False
        yield begin, end, True
        at = end + 1
    if at <= last:
        yield at, last, False


@dataclass(frozen=True)
class HourBalance:
    """What became of what was accepted in an hour: accepted = counted + known + conflicts + dead + missing."""

    hour: datetime
    counted: int = 0
    known: int = 0
    conflicts: int = 0
    dead: int = 0
    missing: int = 0

    @property
    def accepted(self) -> int:
        return self.counted + self.known + self.conflicts + self.dead + self.missing


def without(holes: Sequence[Hole], found: Mapping[str, Iterable[int]]) -> list[Hole]:
    """The holes without the numbers that were found elsewhere, by lane."""
    ranges = {lane: [(one, one) for one in sorted(numbers)] for lane, numbers in found.items()}
    return [
        _part(hole, first, last)
        for hole in holes
        for first, last, is_found in _runs(hole.first, hole.last, ranges.get(hole.lane, ()))
        if not is_found
    ]


def less(holes: Sequence[Hole], found: Mapping[Whose, Sequence[Range]]) -> list[Hole]:
    """The holes without these ranges of numbers, by whose they are."""
    ranges = {whose: _joined(each) for whose, each in found.items()}
    return [
        _part(hole, first, last)
        for hole in holes
        for first, last, is_found in _runs(hole.first, hole.last, ranges.get(hole.whose, ()))
        if not is_found
    ]


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """The same numbers in ranges that are in order and do not overlap."""
    joined: list[Range] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return joined


def below(holes: Sequence[Hole], lane: str, limit: int) -> list[Hole]:
    """The holes without a lane's numbers from `limit` on."""
    return [
        hole if hole.lane != lane else _part(hole, hole.first, min(hole.last, limit - 1))
        for hole in holes
        if hole.lane != lane or hole.first < limit
    ]
