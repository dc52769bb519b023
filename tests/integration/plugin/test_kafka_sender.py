"""The sender to a real Kafka."""

import asyncio
import json
import os
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.producer.sender import Sender
from tallyman_kong.delivery import Away
from tallyman_kong.kafka_sink import KafkaClient
from tallyman_kong.sink import KafkaSink
from tallyman_kong.spool import Spooled

from tests.rigs.kafka import Kafka
from tests.rigs.plugin import PluginCommand, entry, ids_of, until
from tests.rigs.ports import free_ports

Command = Callable[..., PluginCommand]


def _config(bootstrap: str, topic: str) -> dict[str, Any]:
    return {"sink": "kafka", "timeout": 3000, "kafka": {"brokers": [bootstrap], "topic": topic}}


async def _topic(kafka: Kafka, **config: str) -> str:
    topic = f"usage-{uuid.uuid4().hex}"
    settings = {key.replace("_", "."): value for key, value in config.items()}
    await kafka.create_topic(topic, partitions=4, config=settings)
    return topic


async def _read(kafka: Kafka, topic: str, count: int) -> list[Any]:
    """All messages of the topic: at least `count`, and what else there is."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest"
    )
    async with consumer, asyncio.timeout(30):
        ends = await consumer.end_offsets(consumer.assignment())
        while sum(ends.values()) < count:
            ends = await consumer.end_offsets(consumer.assignment())
        messages: list[Any] = []
        while len(messages) < sum(ends.values()):
            batches = await consumer.getmany(timeout_ms=200)
            messages += [message for batch in batches.values() for message in batch]
    return messages


def _ids(messages: list[Any]) -> list[str]:
    return sorted(json.loads(message.value)["id"] for message in messages)


def _hand_over(plugin: PluginCommand, config: dict[str, Any], name: str, count: int) -> None:
    driver = plugin.connect()
    instance = driver.start_instance(config)
    for number in range(count):
        driver.log(instance, entry(f"{name}-{number}"))


async def test_events_are_in_the_topic_under_their_subject_once_and_in_order(
    plugin: PluginCommand, kafka: Kafka
) -> None:
    topic = await _topic(kafka)

    await asyncio.to_thread(_hand_over, plugin, _config(kafka.bootstrap, topic), "r", 500)
    await until(lambda: plugin.counter("tallyman_plugin_sent_total") == 1000)
    messages = await _read(kafka, topic, 1000)

    assert [json.loads(message.value)["id"] for message in messages] == ids_of(
        f"r-{number}" for number in range(500)
    )
    assert {message.key for message in messages} == {b"alice"}
    assert len({message.partition for message in messages}) == 1
    assert plugin.spooled() == []


async def test_a_broker_that_is_away_loses_nothing(plugin: PluginCommand, kafka: Kafka) -> None:
    topic = await _topic(kafka)
    config = _config(kafka.bootstrap, topic)
    await asyncio.to_thread(_hand_over, plugin, config, "before", 5)
    await until(lambda: plugin.counter("tallyman_plugin_sent_total") == 10)

    await asyncio.to_thread(kafka.kill)
    await asyncio.to_thread(_hand_over, plugin, config, "during", 5)
    await until(lambda: plugin.counter("tallyman_plugin_send_errors_total"))
    await asyncio.to_thread(kafka.start)
    await until(lambda: plugin.counter("tallyman_plugin_sent_total") == 20, patience=90)

    names = [f"{name}-{number}" for name in ("before", "during") for number in range(5)]
    assert set(_ids(await _read(kafka, topic, 20))) == set(ids_of(names))
    assert plugin.spooled() == []


async def test_an_event_that_is_too_large_is_set_aside_and_every_other_arrives(
    plugin: PluginCommand, kafka: Kafka
) -> None:
    topic = await _topic(kafka, max_message_bytes="3000")
    driver = plugin.connect()
    attributes = [
        {"source": "header", "look_up_value_in": f"x-{n}", "event_property_name": f"p{n}"}
        for n in range(60)
    ]
    config = {**_config(kafka.bootstrap, topic), "attributes": attributes}
    instance = driver.start_instance(config)

    for number in range(10):
        one = entry(f"r-{number}")
        if number == 4:
            one["request"]["headers"] |= {f"x-{n}": os.urandom(120).hex() for n in range(60)}
        driver.log(instance, one)
    await until(lambda: len(plugin.set_aside()) == 2 and plugin.spooled() == [], patience=60)

    expected = ids_of(f"r-{number}" for number in range(10) if number != 4)
    assert _ids(await _read(kafka, topic, 18)) == sorted(expected)
    assert [name for name, _ in plugin.set_aside()] == ids_of(["r-4"])


async def test_no_broker_at_all_is_counted_and_the_spool_keeps_everything(
    plugin: PluginCommand,
) -> None:
    config = _config(f"127.0.0.1:{free_ports(1)[0]}", "usage")

    await asyncio.to_thread(_hand_over, plugin, config, "r", 5)
    await until(lambda: plugin.counter("tallyman_plugin_send_errors_total"))
    status = await plugin.stop()

    assert status == 0
    assert [event["id"] for event in plugin.spooled()] == ids_of(f"r-{n}" for n in range(5))


async def test_a_broker_that_gives_a_producer_no_number_is_away(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does whose disk is full: aiokafka itself would ask for ever, and say nothing."""

    async def wait_for_ever(_: Sender) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Sender, "_maybe_wait_for_pid", wait_for_ever)
    client = KafkaClient(KafkaSink("s", (kafka.bootstrap,), await _topic(kafka), timeout_ms=300))

    with pytest.raises(Away):
        async with asyncio.timeout(30):
            await client.send([Spooled(1, json.dumps({"subject": "s"}))])
