"""Asks the event store for what entitlements are held to: usage counted, and what is new.

How it is asked is `entitlement_sql.py`'s.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Final

from tallyman.domain.counting import Metered
from tallyman.domain.period import EPOCH
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.entitlement_sql import (
    Share,
    Stored,
    read_counts,
    read_stored,
    render_counts,
    render_stored,
)
from tallyman.store.intake import FINAL_SETTINGS

SHARES_AT_ONCE: Final = 1000
METERS_AT_ONCE: Final = 100


class EntitlementUsage:
    """Counts of usage, exact: duplicates never count. Raises Unavailable as the event store does."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def count(
        self, counted: Sequence[Metered], shares: Sequence[Share]
    ) -> dict[int, list[Decimal]]:
        """The values of each group, in the order of `counted`; a group without usage is absent.

        The meters must be of one namespace, in any number and of any type of event. Shares of a
        group must be next to one another.
        """
        found: dict[int, list[Decimal]] = {}
        by_type: dict[str, list[int]] = {}
        for at, one in enumerate(counted):
            by_type.setdefault(one.meter.event_type, []).append(at)
        for places in by_type.values():
            for first in range(0, len(places), METERS_AT_ONCE):
                some = places[first : first + METERS_AT_ONCE]
                asked = [counted[at] for at in some]
                for portion in _portions(shares):
                    sql, parameters = render_counts(asked, portion)
                    rows = await self._clickhouse.rows(sql, parameters, FINAL_SETTINGS)
                    for group, values in read_counts(asked, rows).items():
                        whole = found.setdefault(group, [Decimal(0)] * len(counted))
                        for at, value in zip(some, values, strict=True):
                            whole[at] = value
        return found

    async def stored_since(self, since: datetime, within: timedelta) -> list[Stored]:
        """What was stored from `since` on by the store's clock, or within that long where it was set back."""
        sql, parameters = render_stored(since, within)
        return read_stored(await self._clickhouse.rows(sql, parameters))

    async def newest_stored_at(self) -> datetime:
        """When the last event was stored, by the store's clock, which may have been set back since.

        1970 where there is none.
        """
        rows = await self._clickhouse.rows(
            "SELECT toUnixTimestamp(least(max(stored_at), now64(3))) FROM events"
        )
        return EPOCH + timedelta(seconds=int(rows[0][0]))


def _portions(shares: Sequence[Share]) -> list[list[Share]]:
    """Shares in portions that one query takes; a group is never divided."""
    portions: list[list[Share]] = [[]]
    for _, group in groupby(shares, key=lambda share: share.group):
        whole = list(group)
        if portions[-1] and len(portions[-1]) + len(whole) > SHARES_AT_ONCE:
            portions.append([])
        portions[-1] += whole
    return portions if portions[0] else []
