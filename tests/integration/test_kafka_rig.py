"""The Kafka that tests run on keeps Kafka's promises; what we do with it is tested elsewhere."""

import asyncio
import uuid

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import TopicAlreadyExistsError

from tests.rigs.kafka import Kafka


def _producer(kafka: Kafka) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap,
        enable_idempotence=True,
        acks="all",
        compression_type="zstd",
    )


def _consumer(kafka: Kafka, topic: str, group: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka.bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )


async def _send(kafka: Kafka, topic: str, values: list[bytes]) -> None:
    async with _producer(kafka) as producer:
        sent = [await producer.send(topic, value, key=value) for value in values]
        await asyncio.wait_for(asyncio.gather(*sent), timeout=30)


async def _read(consumer: AIOKafkaConsumer, count: int) -> list[bytes]:
    values: list[bytes] = []
    async with asyncio.timeout(30):
        while len(values) < count:
            batches = await consumer.getmany(timeout_ms=500)
            values += [message.value for batch in batches.values() for message in batch]
    return values


async def test_kill_9_and_a_restart_lose_nothing_that_was_acknowledged(kafka: Kafka) -> None:
    topic = f"acknowledged-{uuid.uuid4().hex}"
    before = [b"before %d" % number for number in range(500)]
    after = [b"after %d" % number for number in range(500)]
    await kafka.create_topic(topic, partitions=3)

    await _send(kafka, topic, before)
    await asyncio.to_thread(kafka.kill)
    await asyncio.to_thread(kafka.start)
    await _send(kafka, topic, after)
    async with _consumer(kafka, topic, "readers") as consumer:
        read = await _read(consumer, 1000)

    assert sorted(read) == sorted(before + after)


async def test_a_producer_that_waits_through_kill_9_delivers_each_message_once(
    kafka: Kafka,
) -> None:
    topic = f"through-{uuid.uuid4().hex}"
    values = [b"%d" % number for number in range(300)]
    await kafka.create_topic(topic)

    async with _producer(kafka) as producer:
        await producer.send_and_wait(topic, values[0])
        await asyncio.to_thread(kafka.kill)
        waiting = [await producer.send(topic, value) for value in values[1:]]
        await asyncio.to_thread(kafka.start)
        await asyncio.wait_for(asyncio.gather(*waiting), timeout=30)
    async with _consumer(kafka, topic, "readers") as consumer:
        read = await _read(consumer, len(values))

    assert read == values


async def test_a_group_goes_on_from_its_committed_offset_after_kill_9(kafka: Kafka) -> None:
    topic = f"committed-{uuid.uuid4().hex}"
    group = f"group-{uuid.uuid4().hex}"
    await kafka.create_topic(topic)
    await _send(kafka, topic, [b"first"])
    async with _consumer(kafka, topic, group) as consumer:
        await _read(consumer, 1)
        await consumer.commit()

    await asyncio.to_thread(kafka.kill)
    await asyncio.to_thread(kafka.start)
    await _send(kafka, topic, [b"second"])
    async with _consumer(kafka, topic, group) as consumer:
        read = await _read(consumer, 1)

    assert read == [b"second"]


async def test_a_restart_keeps_address_and_data(kafka: Kafka) -> None:
    topic = f"kept-{uuid.uuid4().hex}"
    address = kafka.bootstrap
    await kafka.create_topic(topic)
    await _send(kafka, topic, [b"kept"])

    await asyncio.to_thread(kafka.restart)
    async with _consumer(kafka, topic, "readers") as consumer:
        read = await _read(consumer, 1)

    assert (kafka.bootstrap, read) == (address, [b"kept"])


async def test_a_topic_takes_its_configuration_and_is_refused_a_second_time(kafka: Kafka) -> None:
    topic = f"configured-{uuid.uuid4().hex}"
    await kafka.create_topic(topic, partitions=2, config={"retention.ms": "60000"})

    with pytest.raises(TopicAlreadyExistsError):
        await kafka.create_topic(topic)
