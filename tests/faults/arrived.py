"""What has arrived of calls before anything is made good, and a sender whose bug must be found by that.

It does not know why something may lack: its caller does.
"""

from collections.abc import Collection, Sequence
from typing import Any

from tallyman.domain.meter import MeterQuery
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore
from tallyman_kong.delivery import Delivery
from tallyman_kong.spool import Spooled

from tests.faults.traffic import Call, expected
from tests.rigs.meters import tokens_meter


class AcknowledgesFirst(Delivery):
    """Acknowledges before it sends: a kill between the two loses a batch."""

    async def _send(self, batch: list[Spooled]) -> None:
        await self._acknowledge([event.position for event in batch], "http")
        await super()._send(batch)


DELIVERIES = {"": Delivery, "acknowledges_first": AcknowledgesFirst}


async def arrived(
    clickhouse: ClickHouse, these: Sequence[Call], may_lack: Collection[str]
) -> dict[str, Any]:
    """What lacks that may not, what the meter counts, and what it should of what may not lack.

    Also whether it counts just what is stored. What may lack has lost whole calls.
    """
    rows = await clickhouse.rows("SELECT id FROM events FINAL WHERE type = 'llm.tokens'")
    stored = [str(row[0]) for row in rows]
    tokens = {name: number for call in these for name, number in call.tokens_by_id.items()}
    counted = await tokens_of(EventStore(clickhouse))
    lacks = tokens.keys() - set(stored)
    sums = {
        kind: sum(tokens[name] for name in stored if name.endswith(f":{kind}"))
        for kind in ("request", "response")
    }
    looked = {
        "lacks": len(lacks),
        "unexplained": sorted(lacks - set(may_lack)),
        "adds_up": counted == sums and len(set(stored)) == len(stored),
    }
    excused = lacks & set(may_lack)
    return {
        "arrived": looked,
        "tokens": counted,
        "expected": expected(call for call in these if not excused & call.tokens_by_id.keys()),
    }


async def tokens_of(store: EventStore) -> dict[str, int]:
    rows = await store.query(tokens_meter(), MeterQuery(group_by=("type",)))
    return {str(row.dimensions["type"]): int(row.value) for row in rows}
