"""A broker on bad days, from both ways into it to the meters: its disk full, itself away for a minute."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tallyman.errors import Unavailable
from tallyman.kong_entry import events_of
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore, Received
from tallyman.stream.producer import KafkaIntake
from tallyman_kong import delivery as delivery_module
from tallyman_kong.delivery import Delivery, SpoolAccess
from tallyman_kong.kafka_sink import KafkaClient
from tallyman_kong.metrics import SEND_ERRORS
from tallyman_kong.sink import KafkaSink
from tallyman_kong.spool import Spool

from tests.faults.arrived import tokens_of
from tests.faults.conftest import IS_LONG
from tests.faults.embedded_world import PLUGIN, SINK, group_of
from tests.faults.traffic import Call, calls, expected, groups
from tests.rigs.kafka import Kafka, KafkaUnavailable
from tests.rigs.plugin import until
from tests.rigs.small_disk import SmallDisk, SmallDiskUnavailable, small_disk
from tests.rigs.stream import Stream

DISK_MEGABYTES = 24
ROOM_BYTES = 16 * 1024  # that is left when the disk fills up
AWAY_SECONDS = 60.0
PATIENCE_SECONDS = 240.0
GROUP = 10


@dataclass
class Way:
    """Calls on their way to the meters: half of them by the plugin, half by `serve`."""

    stream: Stream
    store: EventStore
    spool: Spool
    intake: KafkaIntake
    refused: int = 0

    async def call(self, these: Sequence[Call]) -> None:
        """Return when `serve` has acknowledged its half; the plugin's is in its spool."""
        for number, group in enumerate(groups(these, GROUP)):
            if number % 2:
                self.spool.append(group_of(group))
            else:
                await self._post(group)

    async def _post(self, these: Sequence[Call]) -> None:
        now = datetime.now(UTC)
        batch = [
            Received("default", event, now)
            for call in these
            for event in events_of(call.entry, PLUGIN)
        ]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                await self.intake.accept(batch)
                return
            except Unavailable:
                self.refused += 1
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)

    def send_errors(self) -> int:
        """How often the plugin's sender was told no."""
        counts = self.spool.figures().counts
        return sum(n for count, n in counts.items() if count.name == SEND_ERRORS.name)

    async def arrived(self) -> dict[str, int]:
        """The meters' tokens by type, when everything is read."""
        await until(lambda: not self.spool.figures().waiting, PATIENCE_SECONDS)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not await self.stream.is_read():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        return await tokens_of(self.store)


@contextlib.asynccontextmanager
async def way(kafka: Kafka, folder: Path) -> AsyncIterator[Way]:
    """A plugin's sender, a producer of `serve`, a consumer and its store, all at work."""
    stream = Stream(kafka, partitions=4)
    await stream.create()
    clickhouse = ClickHouse.embedded(str(folder / "chdb"))
    store = EventStore(clickhouse)
    await store.migrate()
    sink = KafkaSink(SINK.name, (kafka.bootstrap,), stream.topic, timeout_ms=2_000)
    delivery = Delivery(
        SpoolAccess(Spool(folder / "spool.db", "kong-1", max_bytes=10**9)),
        sink,
        lambda _: KafkaClient(sink),
    )
    made = Way(
        stream,
        store,
        Spool(folder / "spool.db", "kong-1", max_bytes=10**9),
        KafkaIntake(stream.connection, stream.topic, patience_seconds=2.0),
    )
    sending = asyncio.create_task(delivery.run())
    try:
        async with stream.consumer(store):
            yield made
    finally:
        delivery.stop()
        await sending
        await made.intake.close()
        made.spool.close()
        await clickhouse.close()


@pytest.fixture(autouse=True)
def _quick_and_quiet(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("tallyman", "tallyman_kong", "aiokafka"):
        caplog.set_level(logging.CRITICAL + 1, name)
    monkeypatch.setattr(delivery_module, "BATCH_EVENTS", 50)
    monkeypatch.setattr(delivery_module, "_pause_after", lambda _: 0.2)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with contextlib.ExitStack() as stack:
        try:
            mounted = stack.enter_context(small_disk(tmp_path / "disk", DISK_MEGABYTES))
        except SmallDiskUnavailable as why:
            pytest.skip(f"needs a small file system: {why}")
        yield mounted


@pytest.fixture
def small_kafka(disk: SmallDisk, tmp_path: Path) -> Iterator[Kafka]:
    """A broker of its own on a disk that can be filled."""
    try:
        broker = Kafka(tmp_path / "kafka", disk)
    except KafkaUnavailable as missing:
        pytest.skip(f"needs a real Kafka: {missing}")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


async def test_a_broker_whose_disk_is_full_loses_and_doubles_nothing(
    small_kafka: Kafka, disk: SmallDisk, tmp_path: Path, seed: int
) -> None:
    """It takes what fits, then nothing; with room again it is started anew, as an operator would."""
    these = calls(seed, 600)
    async with way(small_kafka, tmp_path) as on_it:
        await on_it.call(these[:100])
        await until(lambda: not on_it.spool.figures().waiting, PATIENCE_SECONDS)
        disk.fill(ROOM_BYTES)
        calling = asyncio.create_task(on_it.call(these[100:]))
        await until(lambda: on_it.refused and on_it.send_errors(), PATIENCE_SECONDS)
        disk.make_room()
        await asyncio.to_thread(small_kafka.restart)
        await calling

        assert await on_it.arrived() == expected(these)


@pytest.mark.skipif(
    not IS_LONG, reason="the long form, `make faults`, has a broker away for a minute"
)
async def test_a_broker_that_is_away_for_a_minute_loses_and_doubles_nothing(
    kafka: Kafka, tmp_path: Path, seed: int
) -> None:
    these = calls(seed, 600)
    async with way(kafka, tmp_path) as on_it:
        await on_it.call(these[:100])
        await asyncio.to_thread(kafka.kill)
        gone_at = time.monotonic()
        calling = asyncio.create_task(on_it.call(these[100:]))
        await until(lambda: time.monotonic() > gone_at + AWAY_SECONDS, AWAY_SECONDS * 2)
        assert on_it.refused
        assert on_it.send_errors()
        await asyncio.to_thread(kafka.start)
        await calling

        assert await on_it.arrived() == expected(these)
