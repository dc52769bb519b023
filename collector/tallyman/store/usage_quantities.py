"""Exact usage behind rate cards, for many customers at once, as it was known at a watermark.

How it is asked is `usage_sql.py`'s, what it costs the domain's.

A watermark is a time by the event store's own clock, up to which everything that is stored is there
for good: what is stored later has a later `stored_at`. So the same question at the same watermark has
the same answer for ever. See docs/billing.md for what makes that so.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tallyman.domain.period import Period, microseconds, milliseconds
from tallyman.domain.usage import Usage
from tallyman.store import usage_sql
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.intake import FINAL_SETTINGS
from tallyman.store.slot_sql import IN_SLOT, STORED_LATER, Parts, slot_table
from tallyman.store.usage_sql import ADDITIVE, Plan, Question
from tallyman.store.watermark import newest_watermark

SLOTS_AT_ONCE: Final = 50_000  # they stand in the query
# How far behind a watermark what is stored may still have appeared, where clocks differ or replicas lag:
# late events are looked for from so much before it on. Few are, since by then the period is over; and
# to count them again changes nothing where they were counted.
_LOOK_BACK: Final = timedelta(hours=1)


class UsageQuantities:
    """The usage of every namespace; every call raises Unavailable where trying again may help.

    `settle_seconds` keeps the watermark so far behind: the most by which the clocks of several
    servers of the event store may differ.
    """

    def __init__(self, clickhouse: ClickHouse, settle_seconds: float = 0) -> None:
        self._clickhouse = clickhouse
        self._settle = timedelta(seconds=settle_seconds)

    async def watermark(self) -> datetime:
        """The newest there is: before every insert that is under way, and before now."""
        return await newest_watermark(self._clickhouse, self._settle)

    async def count(self, questions: Sequence[Question], watermark: datetime) -> list[Usage]:
        """The usage of each question, in their order."""
        usages = [Usage(usage_sql.NOTHING)] * len(questions)
        for plan in usage_sql.plans(questions):
            for part in usage_sql.portions(plan, SLOTS_AT_ONCE):
                for index, usage in (await self._answer(part, questions, watermark)).items():
                    usages[index] = usage
        return [
            replace(usage, unit=question.metered.meter.unit)
            for question, usage in zip(questions, usages, strict=True)
        ]

    async def late(
        self,
        namespace: str,
        slots: Sequence[Parts],
        after: Sequence[datetime],
        watermark: datetime,
    ) -> dict[int, Period]:
        """Of each slot, by its index, from when to when its events were that were stored after the
        moment and up to the watermark; what was stored shortly before it may be among them."""
        asked = [(at, slot) for at, slot in enumerate(slots) if slot]
        if not asked:
            return {}
        begins = [after[at] - _LOOK_BACK for at, _ in asked]
        table = slot_table([slot for _, slot in asked], begins)
        rows = await self._rows(
            "SELECT s.slot, min(time), max(time) FROM events "  # noqa: S608 – numbers and hexadecimal
            f"INNER JOIN {table} AS s ON events.subject = s.subject "
            "WHERE namespace = {namespace:String} "
            "AND stored_at > fromUnixTimestamp64Milli({after:Int64}, 'UTC') "
            "AND stored_at <= fromUnixTimestamp64Milli({watermark:Int64}, 'UTC') "
            "AND time < fromUnixTimestamp64Micro({to:Int64}, 'UTC') "
            f"AND {IN_SLOT} AND {STORED_LATER} GROUP BY s.slot",
            {
                "namespace": namespace,
                "after": milliseconds(min(begins)),
                "watermark": milliseconds(watermark),
                "to": microseconds(max(part.to for _, slot in asked for _, part in slot)),
            },
        )
        return {
            asked[slot][0]: Period(first.replace(tzinfo=UTC), last.replace(tzinfo=UTC))
            for slot, first, last in rows
        }

    async def _answer(
        self, plan: Plan, questions: Sequence[Question], watermark: datetime
    ) -> dict[int, Usage]:
        rows = await self._rows(*usage_sql.render(plan, watermark))
        if plan.meter.aggregation in ADDITIVE:
            return usage_sql.read(plan, questions, rows)
        whole = await self._rows(*usage_sql.render_whole(plan, watermark))
        return usage_sql.read(plan, questions, rows, whole)

    async def _rows(self, sql: str, parameters: dict[str, Any]) -> list[Any]:
        return await self._clickhouse.rows(sql, parameters, FINAL_SETTINGS)
