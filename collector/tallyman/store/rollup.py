"""What counts of each hour, summed up beside the events: kept up to date, and asked.

It is derived: an hour is always computed anew from the events, as a meter would count them, and never
added to. How that is written is `rollup_sql.py`'s.

Why a meter that takes hours from it is exact, whatever is killed and however late it is refreshed:

- Everything that was stored up to its watermark W could be seen when the hours were computed that had
  anything new (`watermark.py`); W is written after them, and each row of an hour that is there has
  what W says, or more.
- A meter reads W, then which hours have anything stored after W, and only then the rollup. So an hour
  that is not among those has nothing after W of what was stored before the meter was asked, and
  its row, also one that was written meanwhile, counts it all. Every other hour is asked of the events.
- A change of an event decides about all rows with its (source, id): their hours are changed too.
- Which hours are taken from where is in the text of the query, so each is counted once.

A kill leaves the older W, and the same hours are computed again. Two processes may do it at once: of an
hour the row with the newer W stays, and it has all that the other one has. That the clock was set back is
seen by rows from the future, or later by a clock that cannot be: then nothing is taken until those rows are
past and all of it is computed anew.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from tallyman_kong.durable_step import durable

from tallyman.domain.period import EPOCH, milliseconds
from tallyman.store import rollup_sql
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.intake import FINAL_SETTINGS
from tallyman.store.rollup_sql import HOUR, HourOf
from tallyman.store.watermark import newest_watermark

_log = logging.getLogger(__name__)

AT_ONCE: Final = 250  # hours that are computed by one statement, of one month
_WRITE_SETTINGS: Final[dict[str, Any]] = {
    **FINAL_SETTINGS,
    "distributed_foreground_insert": 1,
    "parallel_distributed_insert_select": 0,  # an hour's events are on all shards
}
# W is the newest row of the one key, and that the clock was set back, one of the other; no event has them.
_WATERMARK: Final = HourOf("", "", 0)
_SET_BACK: Final = HourOf("", "", 1)
_MILLISECOND: Final = timedelta(milliseconds=1)
_CLOCKS_DIFFER: Final = timedelta(seconds=1)  # two that are right may, between two refreshes
_STORED_AFTER: Final = "stored_at > fromUnixTimestamp64Milli({after:Int64}, 'UTC')"


class _Standing(NamedTuple):
    """How far the rollup is, if it can be asked; its newest row, and the event store's clock."""

    watermark: datetime | None
    newest: datetime
    now: datetime

    @property
    def is_ahead(self) -> bool:
        """Whether there are rows of the future."""
        return self.newest > self.now


class Rollup:
    """The hours of every namespace; every call raises Unavailable where trying again may help.

    `settle_seconds` keeps W so far behind: see `UsageQuantities`. `monotonic` are the seconds by which it is
    seen that the event store's clock was set back.
    """

    def __init__(
        self,
        clickhouse: ClickHouse,
        settle_seconds: float = 0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clickhouse = clickhouse
        self._settle = timedelta(seconds=settle_seconds)
        self._monotonic = monotonic
        self._last_clock: tuple[float, datetime] | None = None  # when it was read, and what it said
        self._write_settings = _WRITE_SETTINGS
        if clickhouse.cluster:
            # Whoever sees the watermark must see the hours, also at another replica.
            self._write_settings = {**_WRITE_SETTINGS, "insert_quorum": "auto"}

    async def changed(self, namespace: str, type_: str) -> set[int] | None:
        """The hours of a type of event that must not be taken from the rollup; None if none may be."""
        standing = await self._standing()
        if standing.watermark is None or standing.is_ahead:
            return None
        watermark = standing.watermark
        changed = await self._changed(watermark, only=(namespace, type_))
        return {one.hour for one in changed if one.type == type_}

    async def refresh(self) -> datetime | None:
        """Compute the hours anew that have anything new; returns W, or None where it cannot be asked."""
        asked_at = self._monotonic()
        standing = await self._standing()
        before = standing.watermark
        if self._was_set_back(asked_at, standing.now) or standing.is_ahead:
            _log.warning("the event store's clock was set back: meters do without the rollup")
            if before is not None:
                await self._mark(_SET_BACK, standing.newest + _MILLISECOND)
            return None
        watermark = await newest_watermark(self._clickhouse, self._settle)
        if watermark <= standing.newest:
            return before
        await self.write(await self._changed(before, watermark), watermark)
        await self._mark(_WATERMARK, watermark)
        return watermark

    async def write(self, hours: Iterable[HourOf], as_of: datetime) -> None:
        """Compute hours that have events anew; a few are written at a time, each of them whole."""
        for part in _portions(hours):
            await self._write(rollup_sql.render_write(part, as_of))

    async def mend(self, since: datetime) -> list[HourOf]:
        """Compare the hours from then on with the events, and compute those anew that differ; which
        these were. What has anything newer than W is not compared, but is not asked either.

        W is read first, and what is newer last: so nothing that came meanwhile is taken for a difference.
        """
        await self.refresh()
        standing = await self._standing()
        watermark = standing.watermark
        as_of = await newest_watermark(self._clickhouse, self._settle)
        if watermark is None or as_of < standing.newest:
            return []
        rows = await self._clickhouse.rows(*rollup_sql.render_hours(since))
        found: dict[HourOf, bool] = {}
        for part in _portions(HourOf(*row) for row in rows):
            found |= await self._differing(part)
        newer = await self._changed(watermark)
        differing = {one: has_events for one, has_events in found.items() if one not in newer}
        await self.write([one for one, has_events in differing.items() if has_events], as_of)
        empty = sorted(one for one, has_events in differing.items() if not has_events)
        for at in range(0, len(empty), AT_ONCE):
            await self._write(rollup_sql.render_empty(empty[at : at + AT_ONCE], as_of))
        return sorted(differing)

    async def _standing(self) -> _Standing:
        marks = ", ".join(
            f"toUnixTimestamp64Milli(maxIf(as_of, (namespace, type, hour) = {tuple(mark)}))"
            for mark in (_WATERMARK, _SET_BACK)
        )
        [(watermark, set_back, newest, now)] = await self._clickhouse.rows(
            f"SELECT {marks}, toUnixTimestamp64Milli(max(as_of)), toUnixTimestamp64Milli(now64(3)) "  # noqa: S608 – ours
            "FROM rollup"
        )
        return _Standing(
            EPOCH + watermark * _MILLISECOND if watermark > set_back else None,
            EPOCH + newest * _MILLISECOND,
            EPOCH + now * _MILLISECOND,
        )

    def _was_set_back(self, asked_at: float, now: datetime) -> bool:
        """Whether the clock says less than it must, since it was read for the last refresh."""
        last, self._last_clock = self._last_clock, (self._monotonic(), now)
        if last is None:
            return False
        read_at, clock = last
        must_be = clock + timedelta(seconds=asked_at - read_at)
        return now < must_be - max(self._settle / 2, _CLOCKS_DIFFER)

    async def _differing(self, hours: Collection[HourOf]) -> dict[HourOf, bool]:
        """Those of which the rollup says something else than the events, with whether they have any."""
        rows = await self._clickhouse.rows(
            rollup_sql.render_compared(hours), settings=FINAL_SETTINGS
        )
        return {HourOf(*row[:3]): bool(row[3]) for row in rows}

    async def _changed(
        self,
        after: datetime | None,
        until: datetime | None = None,
        only: tuple[str, str] | None = None,
    ) -> set[HourOf]:
        """The hours that have anything stored after the one moment, and up to the other.

        With `only`, those of a namespace's type of event; there may be some of its other types.
        """
        parameters: dict[str, Any] = {}
        stored = theirs = "1"
        if only is not None:
            parameters |= {"namespace": only[0], "type": only[1]}
            stored = "namespace = {namespace:String}"
            theirs = f"{stored} AND type = {{type:String}}"
        if after is not None:
            parameters["after"] = milliseconds(after)
            stored += f" AND {_STORED_AFTER}"
        if until is not None:
            parameters["until"] = milliseconds(until)
            stored += " AND stored_at <= fromUnixTimestamp64Milli({until:Int64}, 'UTC')"
        rows = await self._clickhouse.rows(
            f"SELECT namespace, type, {HOUR} AS hour, max(revision) FROM events "  # noqa: S608 – ours
            f"WHERE {stored} GROUP BY namespace, type, hour",
            parameters,
        )
        hours = {HourOf(*row[:3]) for row in rows}
        if after is not None and any(row[3] for row in rows):
            rows = await self._clickhouse.rows(
                f"SELECT DISTINCT namespace, type, {HOUR} FROM events "  # noqa: S608 – ours
                f"WHERE {theirs} AND (namespace, source, id) GLOBAL IN (SELECT namespace, source, id "
                f"FROM events WHERE revision > 0 AND {stored})",
                parameters,
            )
            hours |= {HourOf(*row) for row in rows}
        return hours

    @durable("rollup.write")
    async def _write(self, insert: str) -> None:
        await self._clickhouse.command(insert, settings=self._write_settings)

    @durable("rollup.mark")
    async def _mark(self, mark: HourOf, as_of: datetime) -> None:
        """Say how far the rollup is, after all hours up to then are written; or that it is of no use."""
        insert = rollup_sql.render_empty([mark], as_of)
        await self._clickhouse.command(insert, settings=self._write_settings)


def _portions(hours: Iterable[HourOf]) -> Iterator[Sequence[HourOf]]:
    """The hours of one month at a time, which is a partition of the events, and not too many."""
    by_month: dict[tuple[int, int], list[HourOf]] = {}
    for one in sorted(hours):
        begin = EPOCH + timedelta(hours=one.hour)
        by_month.setdefault((begin.year, begin.month), []).append(one)
    for month in sorted(by_month):
        for at in range(0, len(by_month[month]), AT_ONCE):
            yield by_month[month][at : at + AT_ONCE]
