"""How near the way from Kafka to the store comes to the store's own limit: `python -m bench.ingest [--quick]`.

The limit is ClickHouse parsing the same JSON from a file into the same tables, on all cores: the events,
what is remembered of them, the rollup. The way is a consumer process for each core. It does more: it reads
Kafka, checks each event, drops what is known, and commits in order.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore
from tallyman.store.incoming import INSERT_SETTINGS
from tallyman.store.rollup import Rollup
from tallyman.store.seen import MINUTE, SUMS

from bench.consumers import per_second
from bench.figure import Figure, report
from bench.sent import Sent, events
from tests.rigs.kafka import Kafka

EVENTS = 400_000
ROUNDS = 3
SENT = {  # what is read of an event
    **dict.fromkeys(("type", "subject", "source", "id", "data", "nodeid", "sequence"), "String"),
    "time": "DateTime64(6, \\'UTC\\')",
}
UNIT = "events/s"
LIMIT = "ClickHouse parses the same from a file"


def measure(is_quick: bool) -> Iterator[Figure]:
    sent = events(EVENTS // 4 if is_quick else EVENTS)
    processes = os.cpu_count() or 1
    limits, ways = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kafka = Kafka(folder / "kafka")
        kafka.start()
        try:
            for number in range(1 if is_quick else ROUNDS):
                limits.append(asyncio.run(_from_file(folder / f"file-{number}", sent)))
                ways.append(per_second(folder / f"kafka-{number}", kafka, sent, processes))
        finally:
            kafka.stop()
    # The best of each: what else the machine did makes either slower, and neither faster.
    yield Figure(LIMIT, max(limits), UNIT, key="ingest_file_limit")
    yield Figure(
        f"Kafka → checked, deduplicated, stored, committed, {processes} processes",
        max(ways),
        UNIT,
        baseline=LIMIT,
        goal="≥ 0.70 × the limit",
        key="ingest_vs_file_limit",
    )


async def _from_file(folder: Path, sent: Sent) -> float:
    lines = folder.with_suffix(".jsonl")
    lines.write_bytes(b"\n".join(sent.values))
    clickhouse = ClickHouse.embedded(str(folder))
    await EventStore(clickhouse).migrate()
    await clickhouse.command(
        f"CREATE MATERIALIZED VIEW remembered TO seen AS SELECT {MINUTE} AS minute, {SUMS} FROM incoming"
    )
    settings = ", ".join(
        f"{k} = {v!r}"
        for k, v in INSERT_SETTINGS.items()
        if k != "input_format_parallel_parsing"  # one file is read the quicker by all cores
    )
    file = f"file('{lines}', JSONEachRow, '{', '.join(f'{name} {kind}' for name, kind in SENT.items())}')"
    names = ", ".join(SENT)
    began = time.perf_counter()
    await clickhouse.command(
        f"INSERT INTO incoming (namespace, ingested_at, {names}) "
        f"SELECT 'default', time, {names} FROM {file} SETTINGS {settings}"
    )
    await Rollup(clickhouse).refresh()
    seconds = time.perf_counter() - began
    await clickhouse.close()
    return len(sent.values) / seconds


if __name__ == "__main__":
    report(measure)
