"""The time up to which everything that is stored is there for good, by the event store's own clock.

What is stored later has a later `stored_at`. What an invoice makes of that is `usage_quantities.py`'s,
and what the rollup does, `rollup.py`'s.
"""

import math
from datetime import datetime, timedelta
from typing import Final

from tallyman.domain.period import EPOCH
from tallyman.store.clickhouse import ClickHouse

_MILLISECOND: Final = timedelta(milliseconds=1)


async def newest_watermark(clickhouse: ClickHouse, settle: timedelta) -> datetime:
    """The newest there is: before every insert that is under way, and `settle` before now.

    It never goes back, as long as the clock and `settle` do not.
    """
    everywhere = (
        f"clusterAllReplicas('{clickhouse.cluster}', system.processes)"
        if clickhouse.cluster
        else "system.processes"
    )
    [(now_ms, longest)] = await clickhouse.rows(
        "SELECT toUnixTimestamp64Milli(now64(3)), "  # noqa: S608 – the cluster's name is a setting
        f"(SELECT max(elapsed) FROM {everywhere} WHERE query_kind LIKE '%Insert%')"
    )
    now: datetime = EPOCH + now_ms * _MILLISECOND
    under_way = timedelta(milliseconds=math.ceil((longest or 0) * 1000))
    return now - max(under_way, settle) - _MILLISECOND
