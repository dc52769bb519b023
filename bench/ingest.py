"""How near the way from Kafka to the store comes to the store's own limit: `python -m bench.ingest [--quick]`.

The limit is ClickHouse parsing the same JSON from a file into the same table. The consumer does more:
it reads Kafka, checks each event, drops what is known, remembers what is new, and commits in order.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tallyman.garbage import collect_rarely
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore
from tallyman.store.intake import INSERT_SETTINGS
from tallyman.stream.batch import BatchLimits

from bench.figure import Figure, report
from bench.sent import Sent, events, produce
from tests.rigs.kafka import Kafka
from tests.rigs.stream import Running, Stream, until

EVENTS = 400_000
ROUNDS = 3
NAMES = ("type", "subject", "time", "source", "id", "nodeid", "sequence")
UNIT = "events/s"
LIMIT = "ClickHouse parses the same from a file"


def measure(is_quick: bool) -> Iterator[Figure]:
    sent = events(EVENTS // 20 if is_quick else EVENTS)
    collect_rarely()  # as `consume` does
    with tempfile.TemporaryDirectory() as folder:
        kafka = Kafka(Path(folder) / "kafka")
        kafka.start()
        try:
            limits, ways = asyncio.run(
                _rounds(Path(folder), kafka, sent, 1 if is_quick else ROUNDS)
            )
        finally:
            kafka.stop()
    # The best of each: what else the machine did makes either slower, and neither faster.
    yield Figure(LIMIT, max(limits), UNIT, key="ingest_file_limit")
    yield Figure(
        "Kafka → checked, deduplicated, stored, committed",
        max(ways),
        UNIT,
        baseline=LIMIT,
        goal="≥ 0.70 × the limit",
        key="ingest_vs_file_limit",
    )


async def _rounds(
    folder: Path, kafka: Kafka, sent: Sent, rounds: int
) -> tuple[list[float], list[float]]:
    limits, ways = [], []
    for number in range(rounds):
        limits.append(await _from_file(folder / f"file-{number}", sent))
        ways.append(await _from_kafka(folder / f"kafka-{number}", kafka, sent))
    return limits, ways


async def _from_file(folder: Path, sent: Sent) -> float:
    lines = folder.with_suffix(".jsonl")
    lines.write_bytes(b"\n".join(map(_row, sent.values)))
    clickhouse = ClickHouse.embedded(str(folder))
    await EventStore(clickhouse).migrate()
    settings = ", ".join(
        f"{k} = {v!r}"
        for k, v in INSERT_SETTINGS.items()
        if k != "input_format_parallel_parsing"  # one file is read the quicker by two threads
    )
    began = time.perf_counter()
    await clickhouse.command(
        f"INSERT INTO incoming SELECT * FROM file('{lines}', JSONEachRow) SETTINGS {settings}"
    )
    seconds = time.perf_counter() - began
    await clickhouse.close()
    return len(sent.values) / seconds


async def _from_kafka(folder: Path, kafka: Kafka, sent: Sent) -> float:
    stream = Stream(kafka, partitions=1)
    await stream.create()
    await produce(stream, sent)
    clickhouse = ClickHouse.embedded(str(folder))
    store = EventStore(clickhouse)
    await store.migrate()
    async with stream.consumer(store, BatchLimits()) as running:
        await until(lambda: bool(running.consumer.partitions), "the group was joined")
        began = time.perf_counter()
        await until(lambda: _settled(running) == len(sent.values), "all was committed")
        seconds = time.perf_counter() - began
    await clickhouse.close()
    return len(sent.values) / seconds


def _settled(running: Running) -> int:
    return int(running.value("tallyman_consumer_messages_total"))


def _row(value: bytes) -> bytes:
    """As a row of `incoming`."""
    event = json.loads(value)
    row = {"namespace": "default", "ingested_at": event["time"]}
    row |= {k: event[k] for k in (*NAMES, "data")}
    return json.dumps(row, separators=(",", ":")).encode()


if __name__ == "__main__":
    report(measure)
