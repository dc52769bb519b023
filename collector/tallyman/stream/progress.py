"""Owns how far a group has read a topic, as the brokers know it: also while no consumer runs.

It does not own the lag that a running consumer shows: see `consumer.py`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError
from aiokafka.structs import TopicPartition

from tallyman.errors import Unavailable
from tallyman.stream.kafka_connection import KafkaConnection
from tallyman.stream.message import nearest_moment
from tallyman.stream.topics import partitions_of


@dataclass(frozen=True)
class Progress:
    """Of one partition: every message below `committed` is dealt with; `end` is the next to come."""

    partition: int
    committed: int
    end: int

    @property
    def lag(self) -> int:
        return self.end - self.committed


async def read_progress(
    connection: KafkaConnection, topic: str, group: str, patience_seconds: float = 10.0
) -> list[Progress]:
    """Each partition's progress; none where there is no such topic.

    Raises:
        Unavailable: Kafka did not answer.
    """
    try:
        async with asyncio.timeout(patience_seconds):
            committed = await _committed(connection, group)
            return await _progress(connection, topic, committed)
    except (KafkaError, TimeoutError, OSError) as err:
        raise Unavailable(f"Kafka did not answer: {err!r}") from err


async def consumed_until(
    connection: KafkaConnection,
    topic: str,
    progress: Sequence[Progress],
    patience_seconds: float = 10.0,
) -> datetime | None:
    """The time of the oldest message that is not dealt with; None where there is none.

    Raises:
        Unavailable: Kafka did not answer.
    """
    behind = {TopicPartition(topic, one.partition): one.committed for one in progress if one.lag}
    if not behind:
        return None
    consumer = AIOKafkaConsumer(**connection.options(), enable_auto_commit=False)
    try:
        async with asyncio.timeout(patience_seconds):
            await consumer.start()
            consumer.assign(list(behind))
            for partition, offset in behind.items():
                consumer.seek(partition, offset)
            oldest = [(await consumer.getone(partition)).timestamp for partition in behind]
    except (KafkaError, TimeoutError, OSError) as err:
        raise Unavailable(f"Kafka did not answer: {err!r}") from err
    finally:
        await consumer.stop()
    return nearest_moment(min(oldest))


async def first_since(
    connection: KafkaConnection, topic: str, since: datetime, patience_seconds: float = 10.0
) -> dict[int, int]:
    """The offset of each partition's first message that is kept and was sent since then, where there is one.

    Raises:
        Unavailable: Kafka did not answer.
    """
    moment = int(since.timestamp() * 1000)
    try:
        async with asyncio.timeout(patience_seconds):
            partitions = await partitions_of(connection, topic)
            if not partitions:
                return {}
            consumer = AIOKafkaConsumer(**connection.options(), enable_auto_commit=False)
            try:
                await consumer.start()
                found = await consumer.offsets_for_times(dict.fromkeys(partitions, moment))
            finally:
                await consumer.stop()
    except (KafkaError, TimeoutError, OSError) as err:
        raise Unavailable(f"Kafka did not answer: {err!r}") from err
    return {partition.partition: one.offset for partition, one in found.items() if one is not None}


async def _committed(connection: KafkaConnection, group: str) -> Any:
    admin = AIOKafkaAdminClient(**connection.options())
    try:
        await admin.start()
        while True:
            try:
                return await admin.list_consumer_group_offsets(group)
            except GroupCoordinatorNotAvailableError:  # a new cluster makes it when first asked
                await asyncio.sleep(0.2)
    finally:
        await admin.close()


async def _progress(connection: KafkaConnection, topic: str, committed: Any) -> list[Progress]:
    partitions = await partitions_of(connection, topic)
    if not partitions:
        return []
    consumer = AIOKafkaConsumer(**connection.options(), enable_auto_commit=False)
    try:
        await consumer.start()
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    return [
        Progress(
            partition.partition,
            max(begins[partition], committed[partition].offset if partition in committed else 0),
            ends[partition],
        )
        for partition in partitions
    ]
