"""A way in, a topic, a consumer and its store, from the first event to the last reconciliation.

Events are produced, and spooled and sent by the plugin's sender, some messages are none, the store refuses one event until it is mended; Kong's log is
replayed, which has that event too, and its dead letter. It may be killed anywhere; in the end every event counts once.

`python -m tests.faults.kafka_world FOLDER SEED` with KAFKA's address takes faults on standard input.
"""

import asyncio
import json
import os
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prometheus_client import CollectorRegistry
from tallyman.domain.event import parse_event
from tallyman.errors import InvalidInput
from tallyman.kong_entry import events_of
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.completeness import Completeness
from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database
from tallyman.store.event_block import EventBlock
from tallyman.store.events import Accepted, EventStore, Received
from tallyman.store.rollup import Rollup
from tallyman.store.seen import Seen
from tallyman.store.unattributed import UnattributedUsage
from tallyman.stream import consumer as consumer_module
from tallyman.stream.batch import BatchLimits
from tallyman.stream.consumer import Consumer
from tallyman.stream.dead_letters import DeadLetters, read_dead_letters, replay_letter
from tallyman.stream.kafka_connection import KafkaConnection
from tallyman.stream.metrics import ConsumerMetrics
from tallyman.stream.producer import KafkaIntake
from tallyman.stream.progress import read_progress
from tallyman.stream.reconcile import KafkaTopics, Reconciliation
from tallyman.stream.replay import Produced
from tallyman_kong.sink import KafkaSink
from tallyman_kong.spool import Spool
from tallyman_kong.usage import read

from tests.faults.arrived import arrived
from tests.faults.embedded_world import NODE, PLUGIN, SINK, usage_events
from tests.faults.forked import serve
from tests.faults.sender_world import deliver, spool_once
from tests.faults.traffic import calls, groups

CALLS, IN_A_BATCH, REFUSED_CALL, SPOOLED = 12, 3, 5, 6
PARTITIONS = 2
PATIENCE_SECONDS = 240.0  # two worlds at once on a busy machine
# A killed member's partitions are given away soon.
consumer_module.SESSION_TIMEOUT_MS = 1_000
consumer_module.HEARTBEAT_MS = 200


class RefusingStore:
    """A store that does not take one call's events until it is mended."""

    def __init__(self, store: EventStore, call: str, mended: Path) -> None:
        self._store, self._call, self._mended = store, call, mended

    async def accept(self, batch: Sequence[Received]) -> Accepted:
        if not self._mended.exists() and any(one.event.id.startswith(self._call) for one in batch):
            raise InvalidInput("not yet")
        return await self._store.accept(batch)

    async def accept_block(self, block: EventBlock) -> Sequence[int]:
        if not self._mended.exists() and any(one.startswith(self._call) for one in block.ids):
            return range(len(block))  # as the store itself does with what it cannot take at once
        return await self._store.accept_block(block)


class World:
    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.connection = KafkaConnection((os.environ["KAFKA"],))
        self.mended = folder / "mended"
        self.calls = calls(
            seed, CALLS, datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        )
        self.spooled = calls(seed + 1, SPOOLED, datetime.now(UTC))
        named = folder / "topic"
        if not named.exists():
            named.write_text(f"sweep-{uuid.uuid4().hex[:12]}")
        self.topic = named.read_text()

    @property
    def topics(self) -> KafkaTopics:
        return KafkaTopics(self.connection, self.topic, f"{self.topic}.dead", f"{self.topic}-group")

    async def make_topics(self) -> None:
        admin = AIOKafkaAdminClient(**self.connection.options())
        await admin.start()
        topics = [NewTopic(self.topic, PARTITIONS, 1), NewTopic(f"{self.topic}.dead", 1, 1)]
        await admin.create_topics(topics)  # those that are there are left alone
        await admin.close()

    async def produce(self) -> None:
        """Each batch is sent again until it was acknowledged."""
        intake = KafkaIntake(self.connection, self.topic, PATIENCE_SECONDS)
        now = datetime.now(UTC)
        for number, these in enumerate(groups(self.calls, IN_A_BATCH)):
            mark = self.folder / f"acknowledged-{number}"
            if mark.exists():
                continue
            events = [event for call in these for event in read(call.entry, PLUGIN).events]
            parsed = [parse_event(json.dumps(event).encode()) for event in events]
            await intake.accept([Received("default", event, now) for event in parsed])
            mark.touch()
        await intake.close()
        mark = self.folder / "acknowledged-rubbish"
        if not mark.exists():
            producer = AIOKafkaProducer(**self.connection.durable_producer_options())
            await producer.start()
            await producer.send_and_wait(self.topic, b"no event", partition=0)
            await producer.stop()
            mark.touch()

    async def spool_and_send(self) -> list[str]:
        """Other calls go the plugin's way, spooled once and sent; gives the ids that may lack then."""
        sink = KafkaSink(SINK.name, self.connection.brokers, self.topic)
        spool = Spool(self.folder / "spool.db", NODE, max_bytes=10**9, survives_power_loss=True)
        may_lack: list[str] = []
        for number, these in enumerate(groups(self.spooled, IN_A_BATCH)):
            may_lack += spool_once(spool, these, self.folder / f"group-{number}")
            async with asyncio.timeout(PATIENCE_SECONDS):
                await deliver(spool, sink)
                while spool.figures().waiting:
                    await deliver(spool, sink)
        spool.close()
        return may_lack

    async def consume(self, store: EventStore) -> None:
        """Until nothing waits."""
        topics = self.topics
        consumer = Consumer(
            self.connection,
            self.topic,
            topics.group,
            RefusingStore(store, f"call-{self.seed}-{REFUSED_CALL}:", self.mended),
            DeadLetters(self.connection, topics.dead_topic),
            ConsumerMetrics(CollectorRegistry()),
            limits=BatchLimits(events=7, wait_seconds=0.05),
        )
        running = asyncio.create_task(consumer.run())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while any(
                one.lag for one in await read_progress(self.connection, self.topic, topics.group)
            ):
                assert not running.done(), running.exception()
                await asyncio.sleep(0.05)
        consumer.stop()
        await running

    async def replay_log(self, store: EventStore) -> None:
        """What the store does not know goes to Kafka once more."""
        intake = KafkaIntake(self.connection, self.topic, PATIENCE_SECONDS)
        produced = Produced(store, intake, "default")
        for these in groups(self.calls, IN_A_BATCH):
            events = [event for call in these for event in events_of(call.entry, PLUGIN)]
            await produced.take(events)
        await intake.close()

    async def replay_letters(self) -> None:
        """Those that the store refused; rubbish stays dead."""
        producer = AIOKafkaProducer(**self.connection.durable_producer_options())
        await producer.start()
        async for letter in read_dead_letters(self.connection, self.topics.dead_topic):
            if letter.replayed_at is None and letter.value != b"no event":
                await replay_letter(producer, self.topics.dead_topic, letter)
        await producer.stop()


async def prepare(folder: Path, _seed: int) -> dict[str, Any]:
    clickhouse = ClickHouse.embedded(str(folder / "chdb"))
    await EventStore(clickhouse).migrate()
    await clickhouse.close()
    database = Database.sqlite(folder / "tallyman.sqlite3")
    await database.migrate()
    await database.close()
    return {}


async def live(folder: Path, seed: int) -> dict[str, Any]:
    """From wherever the last life ended to the end."""
    world = World(folder, seed)
    await world.make_topics()
    clickhouse = ClickHouse.embedded(str(folder / "chdb"))
    database = Database.sqlite(folder / "tallyman.sqlite3")
    store = EventStore(clickhouse)
    await world.produce()
    may_lack = await world.spool_and_send()
    await world.consume(store)
    await world.replay_log(store)
    world.mended.touch()
    await world.replay_letters()
    await world.consume(store)
    nobodys = UnattributedUsage(clickhouse, CustomerStore(database))
    now = datetime.now(UTC) + timedelta(minutes=1)
    report = await Reconciliation(
        Completeness(clickhouse), Seen(clickhouse), Rollup(clickhouse), nobodys, world.topics
    ).run(now, now - timedelta(days=1))
    found = {
        **await arrived(clickhouse, [*world.calls, *world.spooled], may_lack),
        "events": await usage_events(clickhouse),
        "lost": report.lost,
        "missing": report.missing,
        "taken_away": 0,
        "lost_on_purpose": 0,
        "forgotten": report.forgotten,
        "waiting": report.waiting,
    }
    await database.close()
    await clickhouse.close()
    return found


if __name__ == "__main__":
    serve(prepare, live)
