"""Closes an aiokafka producer within a bound; what it sends is its owner's business."""

import asyncio
from contextlib import suppress

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError


async def close(producer: AIOKafkaProducer, within_seconds: float) -> None:
    """Send what is under way if that takes no longer than the bound; leave nothing behind.

    aiokafka's own `stop` waits for as long as brokers are away. If it is not waited for, the producer
    goes on trying for ever, keeps its connections, and sends late what was sent again long ago.
    """
    with suppress(KafkaError, TimeoutError, OSError):
        async with asyncio.timeout(within_seconds):
            await producer.flush()
            await producer.stop()
            return
    # aiokafka 0.14 has no public way to give up.
    producer._closed = True
    with suppress(KafkaError, TimeoutError, OSError):
        if producer._sender is not None:
            await producer._sender.close()  # ends with the request that is under way
    with suppress(KafkaError, TimeoutError, OSError):
        await producer.client.close()
