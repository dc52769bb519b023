"""The events behind a quantity, as they were known at a watermark.

How they are asked for is `counted_events_sql.py`'s.
"""

from typing import Any

from tallyman.domain.counted_event import Count, CountedPage, HourCounted
from tallyman.store import counted_events_sql
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.intake import FINAL_SETTINGS


class CountedEvents:
    """Lists what was counted, or with `before` what differs from what was counted then.

    Every call raises Unavailable where trying again may help.
    """

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def hours(self, count: Count, before: Count | None = None) -> list[HourCounted]:
        """By the hour, and by how the numbers were obtained."""
        rows = await self._rows(*counted_events_sql.render_hours(count, before))
        return counted_events_sql.read_hours(count, rows)

    async def page(
        self, count: Count, before: Count | None = None, size: int = 20, after: str | None = None
    ) -> CountedPage:
        """One page of the events, the oldest first.

        Raises:
            InvalidInput: `after` is no cursor.
        """
        rows = await self._rows(*counted_events_sql.render_page(count, before, size, after))
        return counted_events_sql.read_page(count, rows, size)

    async def _rows(self, sql: str, parameters: dict[str, Any]) -> list[Any]:
        return await self._clickhouse.rows(sql, parameters, FINAL_SETTINGS)
