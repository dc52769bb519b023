"""A consumer with a chDB directory of its own, in a process of its own: see `consumers.py`.

`python -m bench.consumer_process FOLDER BROKER TOPIC EVENTS` says on its standard output, a line each, when
(on the system's one clock) it had committed how much; at last when the rollup had all of it.
"""

import asyncio
import sys
import time
from pathlib import Path

from prometheus_client import CollectorRegistry
from tallyman.garbage import collect_rarely
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore
from tallyman.store.rollup import Rollup
from tallyman.stream.batch import BatchLimits
from tallyman.stream.consumer import Consumer
from tallyman.stream.dead_letters import DeadLetters
from tallyman.stream.kafka_connection import KafkaConnection
from tallyman.stream.metrics import ConsumerMetrics

LOOK_SECONDS = 0.02


async def consume(folder: Path, broker: str, topic: str, events: int) -> None:
    clickhouse = ClickHouse.embedded(str(folder))
    store = EventStore(clickhouse)
    await store.migrate()
    connection, metrics = KafkaConnection((broker,)), ConsumerMetrics(CollectorRegistry())
    letters = DeadLetters(connection, f"{topic}.dead")
    consumer = Consumer(
        connection, topic, f"{topic}-readers", store, letters, metrics, limits=BatchLimits()
    )
    running = asyncio.create_task(consumer.run())
    collect_rarely()  # as `consume` does
    done = 0
    while done < events:
        await asyncio.sleep(LOOK_SECONDS)
        assert not running.done(), "the consumer has ended"
        now = metrics.registry.get_sample_value("tallyman_consumer_messages_total") or 0
        if now != done:
            done = int(now)
            print(time.monotonic(), done, flush=True)
    await Rollup(clickhouse).refresh()  # `serve` does it once a minute
    print(time.monotonic(), done, flush=True)
    consumer.stop()
    await running
    await clickhouse.close()


if __name__ == "__main__":
    asyncio.run(consume(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
