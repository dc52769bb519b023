"""How long a call takes from its log phase to a meter's answer, through Kafka: `python -m bench.visible [--quick]`.

The plugin's command with its spool and sender, a real broker, and the consumer over chDB, at a steady
20 calls a second; the meter is asked all the time.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tallyman.demo.kong_driver import KongDriver
from tallyman.domain.meter import Aggregation, MeterQuery
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore
from tallyman.stream.batch import BatchLimits

from bench.figure import Figure, report
from bench.recorded import meter_of
from tests.rigs.kafka import Kafka
from tests.rigs.plugin import PluginCommand, entry
from tests.rigs.stream import Stream

CALLS = 600
PER_SECOND = 20


def measure(is_quick: bool) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="tallyman-") as folder:
        kafka = Kafka(Path(folder) / "kafka")
        kafka.start()
        try:
            waits = sorted(asyncio.run(_waits(Path(folder), kafka, 60 if is_quick else CALLS)))
        finally:
            kafka.stop()
    yield Figure("from the log phase to a meter's answer, median", waits[len(waits) // 2], "s")
    yield Figure(
        "from the log phase to a meter's answer, p99",
        waits[len(waits) * 99 // 100],
        "s",
        goal="≤ 2",
        key="visible_p99_s",
    )


async def _waits(folder: Path, kafka: Kafka, calls: int) -> list[float]:
    """How long each call was not yet counted, in their order."""
    stream = Stream(kafka, partitions=1)
    await stream.create()
    clickhouse = ClickHouse.embedded(str(folder / "chdb"))
    store = EventStore(clickhouse)
    await store.migrate()
    plugin = await PluginCommand(folder).start()
    try:
        async with stream.consumer(store, BatchLimits()):
            logging = asyncio.create_task(asyncio.to_thread(_log, plugin.socket, stream, calls))
            seen_at = await _watch(store, calls)
            logged_at = await logging
        await plugin.stop()
    finally:
        plugin.close()
        await clickhouse.close()
    first = calls // 10  # the first connection, the first batch
    return [seen - logged for seen, logged in zip(seen_at, logged_at, strict=True)][first:]


def _log(socket: Path, stream: Stream, calls: int) -> list[float]:
    config = {
        "sink": "kafka",
        "kafka": {"brokers": [stream.kafka.bootstrap], "topic": stream.topic},
    }
    logged_at = []
    with KongDriver(socket) as kong:
        instance = kong.start_instance(config)
        began = time.perf_counter()
        for number in range(calls):
            time.sleep(max(0.0, began + number / PER_SECOND - time.perf_counter()))
            logged_at.append(time.perf_counter())
            kong.log(instance, entry(f"r-{number}"))
    return logged_at


async def _watch(store: EventStore, calls: int) -> list[float]:
    """When each of so many calls was counted; a call is two events."""
    meter = meter_of(Aggregation.COUNT)
    seen_at: list[float] = []
    while len(seen_at) < calls:
        rows = await store.query(meter, MeterQuery())
        counted = sum(int(row.value) for row in rows) // 2
        seen_at += [time.perf_counter()] * (counted - len(seen_at))
    return seen_at


if __name__ == "__main__":
    report(measure)
