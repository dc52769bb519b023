"""A storm over Kafka: consumers come and go, offsets go back, brokers and stores fail; it counts exactly.

In the long form it is the soak: ten minutes (FAULTS_MINUTES) of it, in which nothing of the process grows.
"""

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.completeness import Completeness
from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database
from tallyman.store.events import EventStore
from tallyman.store.seen import Seen
from tallyman.store.unattributed import UnattributedUsage
from tallyman.stream import consumer as consumer_module
from tallyman.stream.batch import BatchLimits
from tallyman.stream.reconcile import KafkaTopics, Reconciliation
from tallyman.stream.reconcile_report import Report

from tests.faults.conftest import IS_LONG, repeat_with
from tests.faults.embedded_world import tokens_of
from tests.rigs.clickhouse import Shim
from tests.rigs.kafka import Kafka
from tests.rigs.stream import Running, Stream, usage

MINUTES = float(os.environ.get("FAULTS_MINUTES", "10"))
SECONDS = MINUTES * 60 if IS_LONG else 6.0
BATCHES = BatchLimits(events=200, wait_seconds=0.02)
CONSUMERS = 3
RATE = 300.0  # events a second: the load is steady
FAR = 1_000  # messages of a partition
PATIENCE_SECONDS = 240.0
MOST_GROWTH = 1.10  # of memory, after the first third of a soak
MOST_MORE = 20  # file handles and threads


class Storm:
    """What is sent, counted apart, and what befalls the parts meanwhile."""

    def __init__(self, stream: Stream, shim: Shim, store: EventStore, seed: int) -> None:
        self.stream, self.shim, self.store = stream, shim, store
        self.chance = random.Random(seed)
        self.expected: dict[int, int] = {}
        self.messages = 0
        self.consumers: list[tuple[Running, contextlib.AsyncExitStack]] = []
        self.befell: list[str] = []

    async def send(self) -> None:
        """New events, some that were sent before, and rubbish in every tenth place."""
        values: list[bytes | None] = []
        for _ in range(self.chance.randrange(20, 120)):
            if self.messages % 10 == 9:
                values.append(self.chance.choice((None, b"{", b"\xff\xfe", b"[1]", b'{"id": 5}')))
            elif self.expected and self.chance.random() < 0.1:
                number = self.chance.choice(list(self.expected))
                values.append(usage(number, self.expected[number]))
            else:
                number = len(self.expected)
                self.expected[number] = self.chance.randrange(10**6)
                values.append(usage(number, self.expected[number]))
            self.messages += 1
        await self.stream.put(values)

    async def join(self) -> None:
        stack = contextlib.AsyncExitStack()
        running = await stack.enter_async_context(self.stream.consumer(self.store, BATCHES))
        self.consumers.append((running, stack))

    async def leave(self) -> None:
        if self.consumers:
            _, stack = self.consumers.pop(self.chance.randrange(len(self.consumers)))
            await stack.aclose()

    async def disturb(self) -> None:
        what = self.chance.choices(
            [self.join, self.leave, self.fail, self.slow, self.rewind, self.kill_store],
            [3, 3, 4, 2, 1, 1],
        )[0]
        self.befell.append(what.__name__)
        await what()
        while len(self.consumers) > CONSUMERS:
            await self.leave()
        while not self.consumers:
            await self.join()

    async def fail(self) -> None:
        """Some inserts fail unstored, some though stored."""
        before, after = self.chance.randrange(4), self.chance.randrange(4)
        await asyncio.to_thread(self.shim.fail_inserts, before=before, after=after)

    async def slow(self) -> None:
        await asyncio.to_thread(self.shim.fail_inserts, delay_seconds=0.3)

    async def kill_store(self) -> None:
        await asyncio.to_thread(self.shim.kill)
        await asyncio.to_thread(self.shim.start)

    async def rewind(self) -> None:
        """Offsets set back, also to the beginning, as an operator does while no consumer runs."""
        while self.consumers:
            await self.leave()
        reset = AIOKafkaConsumer(
            **self.stream.connection.options(), group_id=self.stream.group, enable_auto_commit=False
        )
        await reset.start()
        partitions = [TopicPartition(self.stream.topic, n) for n in range(self.stream.partitions)]
        reset.assign(partitions)
        begin = {one: await reset.committed(one) or 0 for one in partitions}
        far = self.chance.choice((FAR, 10**9)) if self.messages < 10 * FAR else FAR
        await reset.commit({one: max(0, offset - far) for one, offset in begin.items()})
        await reset.stop()

    async def calm(self) -> None:
        """All is well again, and everything is read."""
        await asyncio.to_thread(self.shim.fail_inserts)
        while len(self.consumers) < CONSUMERS:
            await self.join()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (done := await self.stream.committed()) < self.messages:
            assert time.monotonic() < deadline, f"{done} of {self.messages}: {self.befell}"
            await asyncio.sleep(0.1)
        while self.consumers:
            await self.leave()


@pytest.fixture
async def storm(
    kafka: Kafka, clickhouse_shim: Shim, seed: int, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Storm]:
    for name in ("tallyman", "aiokafka"):  # what is logged is kept by the test itself
        monkeypatch.setattr(logging.getLogger(name), "level", logging.CRITICAL + 1)
    monkeypatch.setattr(consumer_module, "SESSION_TIMEOUT_MS", 3_000)
    monkeypatch.setattr(consumer_module, "HEARTBEAT_MS", 500)
    stream = Stream(kafka, partitions=4)
    await stream.create()
    with clickhouse_shim.address.database() as name:
        address = clickhouse_shim.address
        clickhouse = ClickHouse.server(f"http://default:@{address.host}:{address.port}/{name}")
        store = EventStore(clickhouse)
        await store.migrate()
        yield Storm(stream, clickhouse_shim, store, seed)
        await clickhouse.close()


async def test_in_a_storm_every_event_counts_once_and_every_offset_is_accounted_for(
    storm: Storm, kafka: Kafka, tmp_path: Path
) -> None:
    gc.collect()
    began = time.monotonic()
    grown: list[dict[str, float]] = []
    disturbing_at = 0.0
    await storm.join()
    killed_at = SECONDS / 2
    while (passed := time.monotonic() - began) < SECONDS:
        await storm.send()
        await asyncio.sleep(max(0.0, storm.messages / RATE - passed))
        if passed > disturbing_at:
            disturbing_at = passed + storm.chance.uniform(0.5, 2.0)
            await storm.disturb()
        if passed > killed_at:
            killed_at = passed + 120
            storm.befell.append("kill_broker")
            await asyncio.to_thread(kafka.kill)
            await asyncio.to_thread(kafka.start)
        if IS_LONG:
            grown.append(_size())
    await storm.calm()

    again = f"{storm.befell}; {repeat_with('tests/faults/test_storm.py')}"
    assert sum((await tokens_of(storm.store)).values()) == sum(storm.expected.values()), again
    report = await _report(storm, tmp_path)
    accepted = sum(hour.accepted for hour in report.hours)
    assert (report.missing, report.forgotten, report.waiting) == (0, 0, 0), again
    assert (accepted, report.dead) == (storm.messages, storm.messages // 10), again
    _check_growth(grown)


async def _report(storm: Storm, tmp_path: Path) -> Report:
    database = Database.sqlite(tmp_path / "tallyman.sqlite3")
    await database.migrate()
    stream = storm.stream
    clickhouse = storm.store._clickhouse
    nobodys = UnattributedUsage(clickhouse, CustomerStore(database))
    topics = KafkaTopics(stream.connection, stream.topic, stream.dead_topic, stream.group)
    now = datetime.now(UTC) + timedelta(minutes=1)
    report = await Reconciliation(Completeness(clickhouse), Seen(clickhouse), nobodys, topics).run(
        now, now - timedelta(days=1)
    )
    await database.close()
    return report


def _size() -> dict[str, float]:
    status = Path("/proc/self/status").read_text()
    return {
        "memory": float(status.split("VmRSS:")[1].split()[0]),
        "files": float(len(os.listdir("/proc/self/fd"))),
        "threads": float(threading.active_count()),
    }


def _check_growth(grown: list[dict[str, float]]) -> None:
    """After a third of the time nothing grows; the counts of the test itself are small."""
    third = len(grown) // 3
    if third:
        early = {name: max(one[name] for one in grown[:third]) for name in grown[0]}
        late = {name: max(one[name] for one in grown[-third:]) for name in grown[0]}
        assert late["memory"] <= early["memory"] * MOST_GROWTH, json.dumps([early, late])
        assert late["files"] <= early["files"] + MOST_MORE, json.dumps([early, late])
        assert late["threads"] <= early["threads"] + MOST_MORE, json.dumps([early, late])
