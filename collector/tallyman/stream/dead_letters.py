"""Owns the topic of dead letters: messages that are no events, kept as they came, with the reason.

It does not decide what is dead: see `message.py` and the store.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError as TooLarge
from aiokafka.structs import TopicPartition
from tallyman_kong import kafka_producer
from tallyman_kong.durable_step import durable

from tallyman.errors import InvalidInput, NotFound
from tallyman.stream.kafka_connection import KafkaConnection
from tallyman.stream.message import Record
from tallyman.stream.topics import partitions_of

log = logging.getLogger(__name__)

REPLAYED_FROM_HEADER: Final = "replayed_from"
_CODE: Final = "dead_code"
_REASON: Final = "dead_reason"
_AT: Final = "dead_at"
_TOPIC: Final = "origin_topic"
_PARTITION: Final = "origin_partition"
_OFFSET: Final = "origin_offset"
_TIMESTAMP: Final = "origin_timestamp_ms"
_CUT: Final = "value_left_out_bytes"
_REPLAYED: Final = "replayed_offset"
OWN_HEADERS: Final = frozenset(
    {_CODE, _REASON, _AT, _TOPIC, _PARTITION, _OFFSET, _TIMESTAMP, _CUT, _REPLAYED}
)
LONGEST_REASON: Final = 500
START_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 10.0
LARGEST_REQUEST_BYTES: Final = 64 * 1024 * 1024
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True)
class Rejected:
    """A message that is no event, and why."""

    record: Record
    error: InvalidInput


@dataclass(frozen=True)
class DeadLetter:
    """One message of the dead topic. `place` is where it is now, `origin` where it came from.

    `value` is None for a tombstone, and for a message that was too large to be set aside whole:
    `left_out_bytes` then says how large.
    """

    place: tuple[int, int]
    origin: str
    died_at: datetime
    code: str
    reason: str
    origin_timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    left_out_bytes: int = 0
    replayed_at: datetime | None = None

    @property
    def size_bytes(self) -> int:
        """The length of the value as it came."""
        return self.left_out_bytes or len(self.value or b"")

    @property
    def origin_topic(self) -> str:
        return self.origin.rpartition("/")[0].rpartition("/")[0]


class DeadLetters:
    """Writes to the dead topic. Called by the consumer loop alone."""

    def __init__(self, connection: KafkaConnection, topic: str) -> None:
        self._connection = connection
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None

    @durable("consumer.bury")
    async def bury(self, rejected: Sequence[Rejected]) -> None:
        """Set messages aside; on return all in-sync replicas have them.

        Raises:
            KafkaError: not all of them are; to be called again with all. A letter may then be
                there twice, with the same origin.
            TimeoutError: no broker can be written to; the same holds.
        """
        letters = [(dead, True) for dead in rejected]
        try:
            while letters:
                letters = await self._send(letters)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let the producer go; what it still held is not known to be written."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await kafka_producer.close(producer, CLOSE_SECONDS)

    async def _open(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **self._connection.durable_producer_options()
                | {"max_request_size": LARGEST_REQUEST_BYTES},
                request_timeout_ms=10_000,
            )
            try:
                # It asks for its number for ever where a broker answers, but cannot give one.
                async with asyncio.timeout(START_SECONDS):
                    await producer.start()
            except BaseException:
                await kafka_producer.close(producer, CLOSE_SECONDS)
                raise
            self._producer = producer
        return self._producer

    async def _send(self, letters: Sequence[tuple[Rejected, bool]]) -> list[tuple[Rejected, bool]]:
        """Send each whole or without its value; returns those that are to be sent again, and how.

        One that the broker refuses as too large leaves a gap in the producer's numbers, at which all
        behind it are refused too: another producer sends them. The origin still has its whole.
        """
        producer = await self._open()
        deliveries = [await self._produce(producer, *letter) for letter in letters]
        errors = await asyncio.gather(*deliveries, return_exceptions=True)
        failed = [
            (dead, is_whole, error)
            for (dead, is_whole), error in zip(letters, errors, strict=True)
            if isinstance(error, BaseException)
        ]
        if any(is_whole and isinstance(error, TooLarge) for _, is_whole, error in failed):
            await self.close()
            return [
                (dead, is_whole and not isinstance(error, TooLarge))
                for dead, is_whole, error in failed
            ]
        for _, _, error in failed:
            raise error
        return []

    async def _produce(
        self, producer: AIOKafkaProducer, dead: Rejected, is_whole: bool
    ) -> asyncio.Future[Any]:
        key, value = (dead.record.key, dead.record.value) if is_whole else (None, None)
        # aiokafka refuses a message of nothing at all, which other clients can send
        value = b"" if key is None and value is None else value
        delivery: asyncio.Future[Any] = await producer.send(
            self._topic, key=key, value=value, headers=_letter_headers(dead, is_whole)
        )
        return delivery


def _letter_headers(dead: Rejected, is_whole: bool) -> Headers:
    record = dead.record
    broken = dead.error.parameters[0] if dead.error.parameters else None
    own = {
        _CODE: f"{dead.error.code}.{broken.rule}" if broken else dead.error.code,
        _REASON: _readable(str(dead.error)),
        _AT: datetime.now(UTC).isoformat(),
        _TOPIC: record.topic,
        _PARTITION: str(record.partition),
        _OFFSET: str(record.offset),
        _TIMESTAMP: str(record.timestamp),
    }
    if not is_whole:
        own[_CUT] = str(len(record.value or b""))
    kept = [h for h in record.headers if h[0] not in OWN_HEADERS] if is_whole else []
    return [(_as_utf8(name), value) for name, value in kept] + [
        (name, text.encode()) for name, text in own.items()
    ]


def _as_utf8(name: str) -> str:
    """A header's name with a mark in place of what is not UTF-8."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _readable(reason: str) -> str:
    """The reason without what it quotes: that may be anything that the producer sent."""
    return _QUOTED.sub("'…'", reason)[:LONGEST_REASON]


async def read_dead_letters(connection: KafkaConnection, topic: str) -> AsyncIterator[DeadLetter]:
    """Every letter of the topic as it stands now, in the order of each partition.

    Read twice: first for the marks of what was replayed, then for the letters, so that only the
    marks are held in memory.

    Raises:
        NotFound: there is no such topic.
    """
    partitions = await partitions_of(connection, topic)
    if not partitions:
        raise NotFound(f"there is no topic {topic}: nothing has been set aside yet")
    consumer = AIOKafkaConsumer(
        **connection.options(), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        await consumer.start()
        marks: dict[tuple[int, int], datetime] = {}
        async for record in _read_all(consumer, partitions):
            if mark := dict(record.headers).get(_REPLAYED):
                when = datetime.fromtimestamp(record.timestamp / 1000, UTC)
                marks[(record.partition, int(mark))] = when
        async for record in _read_all(consumer, partitions):
            letter = _letter(record, marks.get((record.partition, record.offset)))
            if letter is not None:
                yield letter
    finally:
        await consumer.stop()


async def _read_all(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
) -> AsyncIterator[Record]:
    consumer.assign(partitions)
    begins = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    for partition in partitions:
        consumer.seek(partition, begins[partition])
    left = {partition for partition in partitions if begins[partition] < ends[partition]}
    while left:
        for partition, records in (await consumer.getmany(timeout_ms=1000)).items():
            for record in records:
                if record.offset < ends[partition]:
                    yield record
        left = {tp for tp in left if await consumer.position(tp) < ends[tp]}


def _letter(record: Record, replayed_at: datetime | None) -> DeadLetter | None:
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    if _OFFSET not in headers:
        return None  # a mark, or something that is not ours
    left_out_bytes = int(headers.get(_CUT, 0))
    return DeadLetter(
        place=(record.partition, record.offset),
        origin=f"{headers[_TOPIC]}/{headers[_PARTITION]}/{headers[_OFFSET]}",
        died_at=datetime.fromisoformat(headers[_AT]),
        code=headers[_CODE],
        reason=headers[_REASON],
        origin_timestamp_ms=int(headers[_TIMESTAMP]),
        key=record.key,
        value=None if left_out_bytes else record.value,
        headers=tuple(h for h in record.headers if h[0] not in OWN_HEADERS),
        left_out_bytes=left_out_bytes,
        replayed_at=replayed_at,
    )


async def replay_letter(producer: AIOKafkaProducer, topic: str, letter: DeadLetter) -> None:
    """Produce a letter to where it came from, then mark it; on return both are durable.

    Cut off between the two, the letter is produced again the next time: its event's id makes the
    second one known. It keeps its headers and the timestamp of its origin, so that an event without
    a time is still the same event.
    """
    await _produce_again(producer, topic, letter)
    await _mark(producer, topic, letter)


@durable("dead.produce")
async def _produce_again(producer: AIOKafkaProducer, topic: str, letter: DeadLetter) -> None:
    place = f"{topic}/{letter.place[0]}/{letter.place[1]}".encode()
    kept = [h for h in letter.headers if h[0] != REPLAYED_FROM_HEADER]
    await producer.send_and_wait(
        letter.origin_topic,
        key=letter.key,
        value=letter.value,
        timestamp_ms=letter.origin_timestamp_ms if letter.origin_timestamp_ms >= 0 else None,
        headers=[*kept, (REPLAYED_FROM_HEADER, place)],
    )


@durable("dead.mark")
async def _mark(producer: AIOKafkaProducer, topic: str, letter: DeadLetter) -> None:
    await producer.send_and_wait(
        topic,
        partition=letter.place[0],
        value=b"",
        headers=[(_REPLAYED, str(letter.place[1]).encode())],
    )
