"""Owns how far a member of the group is behind what its partitions hold.

It does not own the group's progress as a whole: see `progress.py`.
"""

import asyncio
import logging

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from prometheus_client import Gauge

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0


async def keep_measuring(kafka: AIOKafkaConsumer, lag: Gauge) -> None:
    """Set the gauge of each assigned partition again and again, until it is cancelled."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        try:
            async with asyncio.timeout(EVERY_SECONDS):
                await _measure(kafka, lag)
        except (KafkaError, TimeoutError, OSError) as err:
            log.info("the lag could not be measured: %r", err)


async def _measure(kafka: AIOKafkaConsumer, lag: Gauge) -> None:
    partitions = list(kafka.assignment())
    if not partitions:
        return
    ends = await kafka.end_offsets(partitions)
    for partition in partitions:
        committed = await kafka.committed(partition) or 0
        lag.labels(partition.topic, str(partition.partition)).set(
            max(0, ends[partition] - committed)
        )
