"""The way in of production: durable when it answers, and an error that can be repeated otherwise."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from tallyman.domain.event import parse_event
from tallyman.errors import Unavailable
from tallyman.store.events import Accepted, EventStore, Received
from tallyman.stream.kafka_connection import KafkaConnection
from tallyman.stream.producer import KafkaIntake

from tests.integration.stream.test_consumer import tokens
from tests.rigs.kafka import Kafka
from tests.rigs.ports import free_ports
from tests.rigs.stream import Stream, usage

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
async def intake(stream: Stream) -> AsyncIterator[KafkaIntake]:
    intake = KafkaIntake(stream.connection, stream.topic, patience_seconds=2.0)
    yield intake
    await intake.close()


def received(numbers: range, namespace: str = "default") -> list[Received]:
    events = [parse_event(usage(number)) for number in numbers]
    return [Received(namespace, event, NOW) for event in events]


async def test_what_was_taken_is_stored_once_and_in_its_namespace(
    stream: Stream, intake: KafkaIntake, store: EventStore
) -> None:
    answers = await asyncio.gather(
        *(intake.accept(received(range(at, at + 100), "tenant-a")) for at in range(0, 2_000, 50))
    )

    async with stream.consumer(store):
        await stream.wait_until_committed(4_000)
    assert set(answers) == {Accepted(new=100, known=0)}
    assert [await tokens(store, name) for name in ("tenant-a", "default")] == [2_050, 0]


async def test_kafka_away_is_said_within_the_patience() -> None:
    (port,) = free_ports(1)
    intake = KafkaIntake(KafkaConnection((f"127.0.0.1:{port}",)), "none", patience_seconds=0.5)

    async with asyncio.timeout(10):
        with pytest.raises(Unavailable):
            await intake.accept(received(range(1)))
        with pytest.raises(Unavailable):
            await intake.ping()
        await intake.close()


async def test_a_batch_that_was_refused_and_is_sent_again_counts_once(
    kafka: Kafka, stream: Stream, intake: KafkaIntake, store: EventStore
) -> None:
    await intake.accept(received(range(100)))
    await asyncio.to_thread(kafka.kill)

    with pytest.raises(Unavailable):
        await intake.accept(received(range(50, 300)))
    await asyncio.to_thread(kafka.start)
    await _until_taken(intake, received(range(50, 300)))

    async with stream.consumer(store) as running:
        await stream.wait_until_committed(350)
        assert await tokens(store) == 300
    assert running.value("tallyman_consumer_dead_letters_total", code="invalid_event") == 0


async def test_a_part_that_was_taken_before_the_rest_failed_is_known_the_second_time(
    stream: Stream, intake: KafkaIntake, store: EventStore
) -> None:
    await stream.put([usage(number) for number in range(60)])  # the part that came through
    await intake.accept(received(range(100)))

    async with stream.consumer(store):
        await stream.wait_until_committed(160)
    assert await tokens(store) == 100


async def test_what_brokers_did_not_take_is_let_go_with_all_its_tasks_and_connections(
    kafka: Kafka, stream: Stream
) -> None:
    before = asyncio.all_tasks()
    intake = KafkaIntake(stream.connection, stream.topic, patience_seconds=0.5)
    await intake.accept(received(range(1)))
    await asyncio.to_thread(kafka.kill)

    with pytest.raises(Unavailable):
        await intake.accept(received(range(1, 100)))
    await intake.close()

    async with asyncio.timeout(10):
        await asyncio.gather(*asyncio.all_tasks() - before)
    await asyncio.to_thread(kafka.start)


async def _until_taken(intake: KafkaIntake, batch: list[Received]) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await intake.accept(batch)
                return
            except Unavailable:
                await asyncio.sleep(0.1)
