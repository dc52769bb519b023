"""Owns the way in of production: a batch is taken when all in-sync replicas of Kafka have it.

It does not know what is stored already: the consumer drops what is known.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from tallyman_kong import kafka_producer
from tallyman_kong.durable_step import durable

from tallyman.errors import TooLarge, Unavailable
from tallyman.store.events import Accepted, Received
from tallyman.stream.kafka_connection import KafkaConnection
from tallyman.stream.message import Message, encode

log = logging.getLogger(__name__)


@dataclass
class KafkaIntake:
    """Produces events to a topic. `patience_seconds` bounds every wait for Kafka."""

    connection: KafkaConnection
    topic: str
    patience_seconds: float = 10.0
    _producer: AIOKafkaProducer | None = field(default=None, init=False)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _retired: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    async def accept(self, batch: Sequence[Received]) -> Accepted:
        """Produce the whole batch; on return all in-sync replicas have it.

        If a part was produced and the rest was not, the caller gets an error for all of it, and
        sends all of it again: the ids make the second copy known.

        Raises:
            Unavailable: Kafka did not answer in time, or refused.
            TooLarge: Kafka does not take so large an event.
        """
        messages = [encode(received) for received in batch]
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(self.patience_seconds):
                producer = await self._open()
                await self._produce(producer, messages)
        except MessageSizeTooLargeError as err:
            self._retire(producer)
            raise TooLarge("an event is larger than Kafka takes") from err
        except (KafkaError, TimeoutError, OSError) as err:
            # A batch that aiokafka gave up leaves a gap in the numbers of an idempotent producer,
            # and then the broker refuses all that follows: only a new one is sure to work.
            self._retire(producer)
            log.warning("Kafka did not take %d events: %r", len(messages), err)
            raise Unavailable("Kafka did not take the events; send them again") from err
        return Accepted(new=len(messages), known=0)

    async def ping(self) -> None:
        """Raises Unavailable when Kafka does not know the topic or does not answer."""
        try:
            async with asyncio.timeout(self.patience_seconds):
                producer = await self._open()
                await producer.partitions_for(self.topic)
        except (KafkaError, TimeoutError, OSError) as err:
            raise Unavailable("Kafka did not answer") from err

    async def close(self) -> None:
        """Send what is under way, within the bound, and close."""
        self._retire(self._producer)
        await asyncio.gather(*self._retired)

    @durable("producer.produce")
    async def _produce(self, producer: AIOKafkaProducer, messages: Sequence[Message]) -> None:
        # All are sent before one is awaited: a request is then a few batches, not one by one.
        deliveries: list[asyncio.Future[Any]] = []
        try:
            for message in messages:
                deliveries.append(
                    await producer.send(
                        self.topic,
                        key=message.key,
                        value=message.value,
                        headers=message.headers,
                    )
                )
            for delivery in deliveries:
                await delivery
        finally:
            for delivery in deliveries:
                delivery.add_done_callback(_forget)

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self.connection.durable_producer_options(),
                    linger_ms=2,
                    request_timeout_ms=int(self.patience_seconds * 1000),
                )
                try:
                    await producer.start()
                except BaseException:
                    await kafka_producer.close(producer, self.patience_seconds)
                    raise
                self._producer = producer
            return self._producer

    def _retire(self, producer: AIOKafkaProducer | None) -> None:
        """Let a producer go, without waiting for what it may still try to send."""
        if producer is None or producer is not self._producer:
            return
        self._producer = None
        task = asyncio.create_task(kafka_producer.close(producer, self.patience_seconds))
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)


def _forget(delivery: asyncio.Future[Any]) -> None:
    """Look at the outcome of a delivery that nobody waits for any more."""
    if not delivery.cancelled():
        delivery.exception()
