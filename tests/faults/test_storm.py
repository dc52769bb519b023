"""A storm over Kafka: consumers come and go, offsets go back, brokers and stores fail; it counts exactly.

Each fault comes at least once, then at random; a seed repeats the kinds of faults, not their moments. In
the long form it is the soak: ten minutes of it (FAULTS_MINUTES), in which nothing grows.
"""

import asyncio
import contextlib
import gc
import logging
import os
import random
import time
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.completeness import Completeness
from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database
from tallyman.store.events import EventStore
from tallyman.store.rollup import Rollup
from tallyman.store.seen import Seen
from tallyman.store.unattributed import UnattributedUsage
from tallyman.stream import consumer as consumer_module
from tallyman.stream.batch import BatchLimits
from tallyman.stream.reconcile import KafkaTopics, Reconciliation
from tallyman.stream.reconcile_report import Report

from tests.faults.arrived import tokens_of
from tests.faults.conftest import IS_LONG
from tests.faults.growth import Size, check_flat, measure
from tests.rigs.clickhouse import Shim
from tests.rigs.kafka import Kafka
from tests.rigs.stream import Running, Stream, usage

MINUTES = float(os.environ.get("FAULTS_MINUTES", "10"))
SECONDS = MINUTES * 60 if IS_LONG else 6.0
BATCHES = BatchLimits(events=200, wait_seconds=0.02)
CONSUMERS = 3
RATE = 300.0  # events a second: the load is steady
TO_THE_BEGINNING, FAR = 10**9, 1_000  # messages of a partition
BROKER_EVERY_SECONDS = 120.0
MEASURE_EVERY_SECONDS = 10.0
PATIENCE_SECONDS = 120.0  # in which nothing at all is read


class Storm:
    """What is sent, counted apart, and what befalls the parts meanwhile."""

    def __init__(self, stream: Stream, shim: Shim, clickhouse: ClickHouse, seed: int) -> None:
        self.stream, self.shim, self.clickhouse = stream, shim, clickhouse
        self.store = EventStore(clickhouse)
        self.chance = random.Random(seed)
        self.events = self.tokens = 0  # that are sent, each once
        self.seed = seed
        self.messages = 0
        self.consumers: list[tuple[Running, contextlib.AsyncExitStack]] = []
        self.befell: list[str] = []
        self.to_come = [
            self.join, self.leave, self.fail, self.slow, self.rewind, self.kill_store,
            self.kill_broker,
        ]  # fmt: skip
        self.chance.shuffle(self.to_come)

    async def send(self) -> None:
        """New events, some that were sent before, and rubbish in every tenth place."""
        values: list[bytes | None] = []
        for _ in range(self.chance.randrange(20, 120)):
            if self.messages % 10 == 9:
                values.append(self.chance.choice((None, b"{", b"\xff\xfe", b"[1]", b'{"id": 5}')))
            elif self.events and self.chance.random() < 0.1:
                number = self.chance.randrange(self.events)
                values.append(usage(number, self._tokens_of(number)))
            else:
                values.append(usage(self.events, self._tokens_of(self.events)))
                self.tokens += self._tokens_of(self.events)
                self.events += 1
            self.messages += 1
        await self.stream.put(values)

    def _tokens_of(self, number: int) -> int:
        """Of an event: by its number, as a list of an hour's would grow."""
        return zlib.crc32(b"%d/%d" % (self.seed, number)) % 10**6

    async def join(self) -> None:
        stack = contextlib.AsyncExitStack()
        running = await stack.enter_async_context(self.stream.consumer(self.store, BATCHES))
        self.consumers.append((running, stack))

    async def leave(self) -> None:
        """One goes; it may be gone already, if the broker was killed when it was to join."""
        if self.consumers:
            _, stack = self.consumers.pop(self.chance.randrange(len(self.consumers)))
            with contextlib.suppress(KafkaConnectionError):
                await stack.aclose()

    async def disturb(self) -> None:
        """What has not come yet, then whatever comes."""
        if self.to_come:
            what = self.to_come.pop()
        else:
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
        before, after = self.chance.randrange(1, 4), self.chance.randrange(1, 4)
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
        far = TO_THE_BEGINNING if self.befell.count("rewind") == 1 else FAR
        await self.stream.rewind(far)

    async def kill_broker(self) -> None:
        await asyncio.to_thread(self.stream.kafka.kill)
        await asyncio.to_thread(self.stream.kafka.start)

    async def calm(self) -> None:
        """All is well again, and everything is read, however long a busy machine takes for that."""
        await asyncio.to_thread(self.shim.fail_inserts)
        while len(self.consumers) < CONSUMERS:
            await self.join()
        most, deadline = -1, 0.0
        while (done := await self.stream.committed()) < self.messages:
            if done > most:
                most, deadline = done, time.monotonic() + PATIENCE_SECONDS
            assert time.monotonic() < deadline, f"{await self.stream.lags()} left: {self.befell}"
            await asyncio.sleep(0.1)
        while self.consumers:
            await self.leave()


@pytest.fixture
async def storm(
    kafka: Kafka,
    clickhouse_shim: Shim,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> AsyncIterator[Storm]:
    for name in ("tallyman", "aiokafka", "clickhouse_connect", "urllib3"):  # pytest keeps it all
        caplog.set_level(logging.CRITICAL + 1, name)
    monkeypatch.setattr(consumer_module, "SESSION_TIMEOUT_MS", 3_000)
    monkeypatch.setattr(consumer_module, "HEARTBEAT_MS", 500)
    stream = Stream(kafka, partitions=4)
    await stream.create()
    with clickhouse_shim.address.database() as name:
        address = clickhouse_shim.address
        clickhouse = ClickHouse.server(f"http://default:@{address.host}:{address.port}/{name}")
        made = Storm(stream, clickhouse_shim, clickhouse, seed)
        await made.store.migrate()
        yield made
        await clickhouse.close()


async def test_in_a_storm_every_event_counts_once_and_every_offset_is_accounted_for(
    storm: Storm, kafka: Kafka, tmp_path: Path
) -> None:
    gc.collect()
    sizes: list[Size] = []
    disturb_at, broker_at, measure_at = 0.0, BROKER_EVERY_SECONDS, MEASURE_EVERY_SECONDS
    await storm.join()
    began = time.monotonic()
    while (passed := time.monotonic() - began) < SECONDS or storm.to_come:
        await storm.send()
        await asyncio.sleep(max(0.0, storm.messages / RATE - passed))
        if passed > disturb_at:
            disturb_at = passed + storm.chance.uniform(0.5, 2.0)
            await storm.disturb()
        if passed > broker_at:
            broker_at = passed + BROKER_EVERY_SECONDS
            storm.befell.append("kill_broker")
            await storm.kill_broker()
        if passed > measure_at:
            measure_at = passed + MEASURE_EVERY_SECONDS
            sizes.append(await measure(storm.clickhouse, kafka.data, storm.messages))
    await storm.calm()

    befell = f"{storm.befell}"
    assert sum((await tokens_of(storm.store)).values()) == storm.tokens, befell
    report = await _report(storm, tmp_path)
    accepted = sum(hour.accepted for hour in report.hours)
    assert (report.missing, report.forgotten, report.waiting) == (0, 0, 0), befell
    assert (accepted, report.dead) == (storm.messages, storm.messages // 10), befell
    if IS_LONG:
        check_flat(sizes)


async def _report(storm: Storm, tmp_path: Path) -> Report:
    database = Database.sqlite(tmp_path / "tallyman.sqlite3")
    await database.migrate()
    stream = storm.stream
    clickhouse = storm.clickhouse
    nobodys = UnattributedUsage(clickhouse, CustomerStore(database))
    topics = KafkaTopics(stream.connection, stream.topic, stream.dead_topic, stream.group)
    now = datetime.now(UTC) + timedelta(minutes=1)
    report = await Reconciliation(
        Completeness(clickhouse), Seen(clickhouse), Rollup(clickhouse), nobodys, topics
    ).run(now, now - timedelta(days=1))
    await database.close()
    return report
