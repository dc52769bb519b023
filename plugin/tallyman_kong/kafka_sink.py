"""Produces events to a Kafka topic: idempotent, acknowledged by all in-sync replicas."""

import asyncio
import json
import ssl
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    CorruptRecordException,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
)

from tallyman_kong import kafka_producer
from tallyman_kong.delivery import Away, Refused
from tallyman_kong.sink import KafkaSink
from tallyman_kong.spool import Spooled

LINGER_MS = 20
LARGEST_BATCH_BYTES = 64 * 1024  # of one partition, before compression
CLOSE_SECONDS = 5.0
REFUSALS = (MessageSizeTooLargeError, CorruptRecordException, InvalidTimestampError)


class KafkaClient:
    """A topic. The producer is made when first needed, and anew after a failure."""

    def __init__(self, sink: KafkaSink) -> None:
        self._sink = sink
        self._producer: AIOKafkaProducer | None = None

    async def send(self, events: Sequence[Spooled]) -> None:
        acknowledged: list[int] = []
        try:
            producer = await self._started()
            results = await self._produce(producer, events)
        except (KafkaError, OSError, TimeoutError, ValueError) as err:
            await self.close()
            raise Away(type(err).__name__, f"{type(err).__name__}: {err}") from err
        away: BaseException | None = None
        refused: BaseException | None = None
        for event, result in zip(events, results, strict=True):
            if result is None:
                acknowledged.append(event.position)
            elif isinstance(result, REFUSALS):
                refused = result
            else:
                away = result
        if away is not None:
            await self.close()
            raise Away(type(away).__name__, type(away).__name__, acknowledged=acknowledged)
        if refused is not None:
            raise Refused(type(refused).__name__, acknowledged)

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await kafka_producer.close(producer, CLOSE_SECONDS)

    async def _produce(
        self, producer: AIOKafkaProducer, events: Sequence[Spooled]
    ) -> list[BaseException | None]:
        """Per event, None where the brokers have it, else why not."""
        sent: list[Any] = []
        for event in events:
            try:
                sent.append(await producer.send(self._sink.topic, event.body.encode(), key(event)))
            except REFUSALS as err:
                sent.append(err)
        pending = [future for future in sent if isinstance(future, asyncio.Future)]
        if pending:
            await asyncio.wait(pending, timeout=_longest_wait_seconds(self._sink))
        return [_result(future) for future in sent]

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            sink = self._sink
            producer = AIOKafkaProducer(
                bootstrap_servers=list(sink.brokers),
                client_id="tallyman-kong",
                acks="all",
                enable_idempotence=True,
                compression_type="zstd",
                linger_ms=LINGER_MS,
                max_batch_size=LARGEST_BATCH_BYTES,
                request_timeout_ms=sink.timeout_ms,
                security_protocol=sink.security_protocol,
                ssl_context=_ssl_context(sink),
                sasl_mechanism=sink.sasl_mechanism or "PLAIN",
                sasl_plain_username=sink.sasl_username,
                sasl_plain_password=sink.sasl_password,
            )
            self._producer = producer
            # It asks for its number for ever where a broker answers, but cannot give one.
            async with asyncio.timeout(_longest_wait_seconds(sink)):
                await producer.start()
        return self._producer


def key(event: Spooled) -> bytes:
    """The subject: one consumer's events stay in one partition, in order."""
    return str(json.loads(event.body)["subject"]).encode("utf-8", "replace")


def _longest_wait_seconds(sink: KafkaSink) -> float:
    return 3 * sink.timeout_ms / 1000


def _result(sent: Any) -> BaseException | None:
    if isinstance(sent, BaseException):
        return sent
    if not sent.done():
        return TimeoutError("no acknowledgement")
    if sent.cancelled():
        return TimeoutError("cancelled")
    error: BaseException | None = sent.exception()
    return error


def _ssl_context(sink: KafkaSink) -> ssl.SSLContext | None:
    if not sink.security_protocol.endswith("SSL"):
        return None
    context = ssl.create_default_context(cafile=sink.ssl_cafile)
    if not sink.ssl_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
