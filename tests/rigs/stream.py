"""Owns the stream of one test: two fresh topics, messages put into them, and consumers at work.

Owns no broker and no store: see `kafka.py` and `clickhouse.py`.
"""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from prometheus_client import CollectorRegistry
from tallyman.errors import Unavailable
from tallyman.store.event_block import EventBlock
from tallyman.store.events import Accepted, EventStore, Received
from tallyman.stream.batch import BatchLimits
from tallyman.stream.consumer import Consumer
from tallyman.stream.dead_letters import DeadLetter, DeadLetters, read_dead_letters
from tallyman.stream.intake import BlockIntake
from tallyman.stream.kafka_connection import KafkaConnection
from tallyman.stream.metrics import ConsumerMetrics
from tallyman.stream.progress import Progress, read_progress

from tests.rigs.kafka import Kafka

WAIT_SECONDS = 60.0
QUICK = BatchLimits(wait_seconds=0.05)


def usage(number: int, tokens: int = 1, **changes: Any) -> bytes:
    """The plugin's event, as it produces it; each second one as others do, without its node and number."""
    node = {"nodeid": "kong-1", "sequence": f"{number // 2:018d}"} if number % 2 == 0 else {}
    event = {
        **node,
        "specversion": "1.0",
        "id": f"{number:032x}:proxy:request",
        "source": "kong",
        "type": "llm.tokens",
        "subject": f"consumer-{number % 7}",
        "time": f"2026-11-21T09:{number // 60 % 60:02d}:{number % 60:02d}.000Z",
        "datacontenttype": "application/json",
        "data": {"tokens": tokens, "type": "request", "provider": "openai", "model": "gpt-4o"},
    }
    return json.dumps({**event, **changes}, separators=(",", ":")).encode()


class FailingStore:
    """A store that fails for a batch with the event of number 0, until it is mended."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.is_mended = False

    async def accept(self, batch: Sequence[Received]) -> Accepted:
        if not self.is_mended and any(one.event.id.startswith(f"{0:032x}") for one in batch):
            raise Unavailable("a fault")
        return await self._store.accept(batch)

    async def accept_block(self, block: EventBlock) -> Sequence[int]:
        if not self.is_mended and any(one.startswith(f"{0:032x}") for one in block.ids):
            raise Unavailable("a fault")
        return await self._store.accept_block(block)


@dataclass
class Running:
    """A consumer at work in this process."""

    consumer: Consumer
    metrics: ConsumerMetrics
    task: asyncio.Task[None]

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def stop(self) -> None:
        self.consumer.stop()
        async with asyncio.timeout(WAIT_SECONDS):
            await self.task


@dataclass
class Stream:
    kafka: Kafka
    partitions: int
    topic: str = field(default_factory=lambda: f"usage-{uuid.uuid4().hex[:12]}")

    @property
    def group(self) -> str:
        return f"{self.topic}-readers"

    @property
    def dead_topic(self) -> str:
        return f"{self.topic}.dead"

    @property
    def connection(self) -> KafkaConnection:
        return KafkaConnection((self.kafka.bootstrap,))

    async def create(self) -> None:
        await self.kafka.create_topic(self.topic, self.partitions)
        await self.kafka.create_topic(self.dead_topic)

    async def put(
        self,
        values: Sequence[bytes | None],
        headers: Sequence[tuple[str, bytes]] = (),
        timestamp_ms: int | None = None,
    ) -> None:
        """Produce as the plugin does: keyed by subject."""
        async with self.producer() as producer:
            sent = [
                await producer.send(
                    self.topic,
                    key=_subject(value),
                    value=value,
                    headers=list(headers),
                    timestamp_ms=timestamp_ms,
                )
                for value in values
            ]
            await asyncio.gather(*sent)

    @contextlib.asynccontextmanager
    async def producer(self, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
        producer = AIOKafkaProducer(**self.connection.durable_producer_options() | options)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    @contextlib.asynccontextmanager
    async def consumer(
        self, store: BlockIntake, limits: BatchLimits = QUICK
    ) -> AsyncIterator[Running]:
        """A consumer at work until the end of the block."""
        metrics = ConsumerMetrics(CollectorRegistry())
        consumer = Consumer(
            self.connection,
            self.topic,
            self.group,
            store,
            DeadLetters(self.connection, self.dead_topic),
            metrics,
            limits=limits,
        )
        running = Running(consumer, metrics, asyncio.create_task(consumer.run()))
        try:
            yield running
        finally:
            await running.stop()

    async def rewind(self, messages: int) -> None:
        """Set the group's offsets back by so many in each partition, as an operator does.

        No consumer may run; a member that was killed is waited for until its session is over.
        """
        reset = AIOKafkaConsumer(
            **self.connection.options(), group_id=self.group, enable_auto_commit=False
        )
        await reset.start()
        partitions = [TopicPartition(self.topic, number) for number in range(self.partitions)]
        reset.assign(partitions)
        offsets = {one: await reset.committed(one) or 0 for one in partitions}
        deadline = time.monotonic() + WAIT_SECONDS
        is_set = False
        while not is_set:
            assert time.monotonic() < deadline, "the group has a member that does not go"
            with contextlib.suppress(KafkaError):
                await reset.commit({one: max(0, at - messages) for one, at in offsets.items()})
                is_set = True
            await asyncio.sleep(0.05)
        await reset.stop()

    async def wait_until_rebalancing(self) -> None:
        """Wait until the group waits for its members to join anew."""
        admin = AIOKafkaAdminClient(**self.connection.options())
        await admin.start()
        deadline = time.monotonic() + WAIT_SECONDS
        state = ""
        while state != "PreparingRebalance":
            assert time.monotonic() < deadline, f"the group is {state}"
            await asyncio.sleep(0.05)
            [answer] = await admin.describe_consumer_groups([self.group])
            [[_, _, state, *_]] = answer.groups
        await admin.close()

    async def committed(self) -> int:
        """How many messages the group has dealt with."""
        return sum(each.committed for each in await self._progress())

    async def lags(self) -> dict[int, int]:
        """How many messages of each partition it has yet to deal with."""
        return {each.partition: each.lag for each in await self._progress()}

    async def _progress(self) -> list[Progress]:
        with contextlib.suppress(Unavailable):  # a broker that was killed is asked again
            return await read_progress(self.connection, self.topic, self.group)
        return []

    async def is_read(self) -> bool:
        """Whether the group has dealt with every message."""
        lags = await self.lags()
        return bool(lags) and not any(lags.values())

    async def wait_until_committed(self, count: int) -> None:
        """Wait until every one of so many messages is stored or set aside."""
        deadline = time.monotonic() + WAIT_SECONDS
        while (done := await self.committed()) < count:
            assert time.monotonic() < deadline, f"{done} of {count} messages are committed"
            await asyncio.sleep(0.05)

    async def dead_letters(self) -> list[DeadLetter]:
        return [letter async for letter in read_dead_letters(self.connection, self.dead_topic)]


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        await asyncio.sleep(0.02)


def _subject(value: bytes | None) -> bytes | None:
    try:
        return str(json.loads(value or b"")["subject"]).encode()
    except (ValueError, KeyError, TypeError):
        return b"nobody"
