"""Owns how far each partition is read: what a failed read took and did not hand out is read again.

It does not own what is read, nor what is committed: see `consumer.py`.
"""

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from tallyman.stream.message import Record

GO_BACK_SECONDS = 10.0


class Reader:
    """Reads what is assigned, some messages twice where an error comes between, but none never.

    aiokafka reads on behind what it took from a partition, also where the error of another one kept
    it from handing that out.
    """

    def __init__(self, kafka: AIOKafkaConsumer) -> None:
        self._kafka = kafka
        self._handed_out_to: dict[TopicPartition, int] = {}
        self._has_failed = False

    async def read(
        self, wait_seconds: float, at_most: int
    ) -> Mapping[TopicPartition, Sequence[Record]]:
        """The next messages of some partitions; none if none came in time.

        Raises:
            Exception: Kafka, or what it gave, could not be read; to be called again.
        """
        if self._has_failed:
            async with asyncio.timeout(GO_BACK_SECONDS):
                await self._go_back()
        self._has_failed = True
        read: Mapping[TopicPartition, Sequence[Record]] = await self._kafka.getmany(
            timeout_ms=max(1, int(wait_seconds * 1000)), max_records=at_most
        )
        self._has_failed = False
        for partition, records in read.items():
            self._handed_out_to[partition] = records[-1].offset + 1
        return read

    def forget(self) -> None:
        """What is assigned changes: each partition is read from what is committed."""
        self._handed_out_to.clear()

    async def _go_back(self) -> None:
        """Those that are where they ought to be stay there: after a seek, all would fail together again."""
        for partition in self._kafka.assignment():
            position = await self._kafka.position(partition)
            # Nothing is awaited between the look and the seek: behind a rebalance it would skip.
            offset = self._handed_out_to.get(partition)
            if offset is None:
                offset = await self._begin_of(partition)
            if position != offset:
                self._kafka.seek(partition, offset)

    async def _begin_of(self, partition: TopicPartition) -> int:
        """Where reading began; behind a rebalance this is too early, never too late."""
        offset: int | None = await self._kafka.committed(partition)
        if offset is None:
            offset = (await self._kafka.beginning_offsets([partition]))[partition]
        return offset
