"""Opens a chDB directory that a killed process has left, sends everything once more, and reports."""

import asyncio
import json
import sys

from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore

from tests.integration.store.accepting import batch


async def report(directory: str, size: int, batches: int) -> None:
    """Print how many batches' events are there, and what became of sending them all again."""
    clickhouse = ClickHouse.embedded(directory)
    store = EventStore(clickhouse)
    await store.migrate()
    stored = {row[0] for row in await clickhouse.rows("SELECT id FROM events")}
    known = [(await store.accept(batch(number, size))).known for number in range(batches)]
    count = await store.count("default")
    print(json.dumps({"stored": sorted(stored), "known": known, "count": count}))  # noqa: T201 – the report
    await clickhouse.close()


if __name__ == "__main__":
    asyncio.run(report(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
