"""From a real Kafka to a real store: what the consumer promises, each promise by its sentence."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CorruptRecordException
from aiokafka.producer import message_accumulator
from aiokafka.producer.sender import Sender
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from tallyman.domain.meter import MeterQuery
from tallyman.store.events import EventStore, Received
from tallyman.stream import dead_letters, message, work
from tallyman.stream.batch import BatchLimits
from tallyman.stream.message import Record

from tests.rigs.clickhouse import Shim
from tests.rigs.kafka import Kafka
from tests.rigs.meters import tokens_meter
from tests.rigs.stream import WAIT_SECONDS, Stream, until, usage


async def tokens(store: EventStore, namespace: str = "default") -> int:
    return sum(int(row.value) for row in await store.query(tokens_meter(namespace), MeterQuery()))


async def test_what_is_produced_is_metered_exactly(stream: Stream, any_store: EventStore) -> None:
    await stream.put([usage(number, tokens=number) for number in range(5_000)])

    async with stream.consumer(any_store) as running:
        await stream.wait_until_committed(5_000)

    assert await tokens(any_store) == sum(range(5_000))
    assert running.value("tallyman_consumer_stored_events_total") == 5_000
    assert running.value("tallyman_consumer_messages_total") == 5_000


async def test_a_message_that_is_delivered_twice_counts_once(
    stream: Stream, any_store: EventStore
) -> None:
    await stream.put([usage(number) for number in range(1_000)] * 2)
    async with stream.consumer(any_store):
        await stream.wait_until_committed(2_000)
    await stream.put([usage(number) for number in range(1_500)])
    async with stream.consumer(any_store) as running:
        await stream.wait_until_committed(3_500)

    assert await tokens(any_store) == 1_500
    assert running.value("tallyman_consumer_stored_events_total") == 500
    assert running.value("tallyman_consumer_known_events_total") == 1_000


async def test_an_answer_of_kafka_that_is_spoilt_for_one_partition_loses_nothing_of_the_others(
    stream: Stream, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    await stream.put([usage(number) for number in range(100)])
    async with one_partition_spoilt() as (_, may_fetch), stream.consumer(store):
        may_fetch.set()
        await stream.wait_until_committed(100)
        at_first = await tokens(store)
        async with one_partition_spoilt() as (is_asked, may_fetch):
            await is_asked.wait()
            await stream.put([usage(number) for number in range(100, 200)])
            may_fetch.set()
            await stream.wait_until_committed(200)
        in_the_midst = await tokens(store)

    await stream.put([usage(number) for number in range(200, 300)])
    async with one_partition_spoilt() as (_, may_fetch), stream.consumer(store):
        may_fetch.set()
        await stream.wait_until_committed(300)

    assert (at_first, in_the_midst, await tokens(store)) == (100, 200, 300)
    assert caplog.text.count(CorruptRecordException.__name__) == 3


async def test_a_partition_that_stays_spoilt_does_not_keep_the_others_from_being_read(
    stream: Stream, store: EventStore
) -> None:
    await stream.put([usage(number) for number in range(100)])
    async with stream.consumer(store):
        async with one_partition_spoilt(for_good=True) as (_, may_fetch):
            may_fetch.set()
            await wait_until_one_partition_lags(stream)
            assert 0 < await tokens(store) < 100
        await stream.wait_until_committed(100)

    assert await tokens(store) == 100


async def wait_until_one_partition_lags(stream: Stream) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while sum(map(bool, (lags := await stream.lags()).values())) != 1:
        assert time.monotonic() < deadline, f"the partitions lag: {lags}"
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def one_partition_spoilt(
    *, for_good: bool = False
) -> AsyncIterator[tuple[asyncio.Event, asyncio.Event]]:
    """Kafka's next answer with messages of several partitions has a wrong byte in its last one's.

    The first event says that messages are asked for, which waits for the second: all that is there
    then is in one answer. For good, that partition's messages have it in every answer from then on.
    """
    is_asked, may_fetch = asyncio.Event(), asyncio.Event()
    spoilt: int | None = None
    as_it_was = AIOKafkaClient.send

    async def send(client: AIOKafkaClient, node: int, request: Any, **options: Any) -> Any:
        nonlocal spoilt
        is_fetch = type(request).__name__ == "FetchRequest"
        if is_fetch:
            is_asked.set()
            await may_fetch.wait()
        answer = await as_it_was(client, node, request, **options)
        if not is_fetch or (spoilt is not None and not for_good):
            return answer
        [(_, partitions)] = answer.topics
        filled = [partition[0] for partition in partitions if partition[-1]]
        if spoilt is None and len(filled) > 1:
            spoilt = filled[-1]
        for at, (number, *fields, messages) in enumerate(partitions):
            if number == spoilt and messages:
                partitions[at] = (number, *fields, messages[:-1] + bytes([messages[-1] ^ 1]))
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AIOKafkaClient, "send", send)
        yield is_asked, may_fetch


async def test_a_poison_message_never_stops_the_stream(stream: Stream, store: EventStore) -> None:
    poison = [None, b"", b"{", b"\xff\xfe", b"[]", b'{"id": 5}', usage(1, subject=None), b"\0" * 99]
    messages = [
        poison[number // 10 % len(poison)] if number % 10 == 0 else usage(number, tokens=number)
        for number in range(800)
    ]
    await stream.put(messages)

    async with stream.consumer(store) as running:
        await stream.wait_until_committed(800)

    letters = await stream.dead_letters()
    assert await tokens(store) == sum(number for number in range(800) if number % 10)
    assert running.value("tallyman_consumer_dead_letters_total", code="invalid_event") == 80
    assert sorted(letter.value or b"" for letter in letters) == sorted(
        [message or b"" for message in messages[::10]]
    )
    assert len({letter.origin for letter in letters}) == 80


async def test_a_message_that_the_check_itself_fails_at_never_stops_the_stream(
    stream: Stream, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of the check, put in here, as garbage has found one before."""
    bad = usage(5, subject="bad")

    def decode(record: Record, namespace: str) -> Received:
        if record.value == bad:
            raise RuntimeError("canary")
        return message.decode(record, namespace)

    monkeypatch.setattr(work, "decode", decode)
    await stream.put([usage(1), bad, usage(3)])
    async with stream.consumer(store):
        await stream.wait_until_committed(3)

    [letter] = await stream.dead_letters()
    assert (letter.value, letter.reason) == (bad, "the check itself failed: RuntimeError")
    assert await tokens(store) == 2


async def test_a_message_of_nothing_at_all_does_not_stop_the_stream(
    stream: Stream, store: EventStore
) -> None:
    async with stream.producer() as producer:  # other clients can send it, aiokafka only like this
        batch = producer.create_batch()
        batch.append(key=None, value=None, timestamp=None)
        await (await producer.send_batch(batch, stream.topic, partition=0))

    async with stream.consumer(store):
        await stream.wait_until_committed(1)

    assert [letter.size_bytes for letter in await stream.dead_letters()] == [0]


@pytest.mark.parametrize("compression", [None, "gzip"])
async def test_a_message_with_a_headers_name_that_is_not_utf8_does_not_stop_the_stream(
    stream: Stream, store: EventStore, compression: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NotUtf8(str):
        def encode(self, *_: str) -> bytes:
            return b"na\xffme"

    monkeypatch.setattr(
        message_accumulator, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy
    )
    bad = usage(3)
    async with stream.producer(compression_type=compression) as producer:
        batch = producer.create_batch()
        for value in [usage(1), usage(2), bad, usage(4), usage(5)]:
            headers = [(NotUtf8("name"), b"value")] if value == bad else []
            batch.append(key=None, value=value, timestamp=None, headers=headers)
        await (await producer.send_batch(batch, stream.topic, partition=0))

    async with stream.consumer(store):
        await stream.put([usage(6)])
        await stream.wait_until_committed(6)

    [letter] = await stream.dead_letters()
    assert (letter.value, letter.headers) == (bad, (("na\ufffdme", b"value"),))
    assert letter.origin.endswith("/0/2")
    assert await tokens(store) == 5


async def test_a_dead_letter_keeps_the_message_its_origin_and_the_reason(
    stream: Stream, store: EventStore
) -> None:
    sent_at = datetime(2026, 11, 21, 9, 0, 0, 123000, UTC)
    value = usage(1, specversion="my secret")
    await stream.put([value], [("namespace", b"tenant-a")], int(sent_at.timestamp() * 1000))

    async with stream.consumer(store):
        await stream.wait_until_committed(1)

    (letter,) = await stream.dead_letters()
    assert (letter.value, letter.key) == (value, b"consumer-1")
    assert letter.headers == (("namespace", b"tenant-a"),)
    assert letter.origin_topic == stream.topic
    assert letter.origin.endswith("/0")
    assert letter.origin_timestamp_ms == int(sent_at.timestamp() * 1000)
    assert letter.code.startswith("invalid_event.")
    assert "specversion" in letter.reason
    assert "secret" not in letter.reason


async def test_a_header_of_no_value_is_kept_in_a_dead_letter(
    stream: Stream, store: EventStore
) -> None:
    async with stream.producer() as producer:
        batch = producer.create_batch()
        batch.append(key=None, value=b"no event", timestamp=None, headers=[("name", None)])
        await (await producer.send_batch(batch, stream.topic, partition=0))

    async with stream.consumer(store):
        await stream.wait_until_committed(1)

    [letter] = await stream.dead_letters()
    assert (letter.value, letter.headers) == (b"no event", (("name", None),))


async def test_a_broker_that_gives_a_producer_no_number_fails_the_step_and_it_is_repeated(
    stream: Stream, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does whose disk is full: aiokafka itself would ask for ever, and say nothing."""
    await stream.put([b"no event"])
    monkeypatch.setattr(dead_letters, "START_SECONDS", 0.5)
    may_go_on = asyncio.Event()
    as_it_was = Sender._maybe_wait_for_pid

    async def wait(sender: Sender) -> None:
        await may_go_on.wait()
        await as_it_was(sender)

    monkeypatch.setattr(Sender, "_maybe_wait_for_pid", wait)
    async with stream.consumer(store) as running:
        await until(
            lambda: running.value("tallyman_consumer_failures_total", step="dead_letter") >= 1,
            "a failure",
        )
        assert running.consumer.failing_since is not None
        may_go_on.set()
        await stream.wait_until_committed(1)

    assert [letter.value for letter in await stream.dead_letters()] == [b"no event"]


async def test_a_message_too_large_to_be_set_aside_whole_does_not_stop_the_stream(
    stream: Stream, store: EventStore
) -> None:
    largest = secrets.token_bytes(1_048_400)  # with the reason's headers more than a broker takes
    await stream.put([usage(1), largest, usage(2)])

    async with stream.consumer(store):
        await stream.wait_until_committed(3)

    (letter,) = await stream.dead_letters()
    assert (letter.value, letter.size_bytes) == (None, 1_048_400)
    assert await tokens(store) == 2


async def test_messages_too_large_to_be_set_aside_whole_do_not_keep_others_from_it(
    stream: Stream, store: EventStore
) -> None:
    largest = secrets.token_bytes(1_048_400)
    await stream.put([b"w", largest, b"x", largest, b"y"])  # of no subject: all of one partition

    async with stream.consumer(store) as running:
        await stream.wait_until_committed(5)

    letters = await stream.dead_letters()
    assert sorted((letter.value or b"", letter.size_bytes) for letter in letters) == [
        *[(b"", 1_048_400)] * 2,
        *[(b"w", 1), (b"x", 1), (b"y", 1)],
    ]
    assert running.value("tallyman_consumer_failures_total", step="dead_letter") == 0


@pytest.mark.parametrize("value", [None, b""])
async def test_a_message_of_nothing_but_large_headers_does_not_stop_the_stream(
    stream: Stream, store: EventStore, value: bytes | None
) -> None:
    await stream.put([value], [("name", secrets.token_bytes(1_048_400))])

    async with stream.consumer(store):
        await stream.wait_until_committed(1)

    [letter] = await stream.dead_letters()
    assert (letter.size_bytes, letter.headers) == (0, ())


async def test_events_are_stored_before_offsets_are_committed(
    stream: Stream, http_store: EventStore, clickhouse_shim: Shim
) -> None:
    clickhouse_shim.fail_inserts(before=1_000_000)
    await stream.put([usage(number, tokens=number) for number in range(1, 101)])

    async with stream.consumer(http_store) as running:
        await until(
            lambda: running.value("tallyman_consumer_failures_total", step="store") >= 3,
            "a failure",
        )
        assert await stream.committed() == 0

        clickhouse_shim.fail_inserts()
        await stream.wait_until_committed(100)
    assert await tokens(http_store) == sum(range(1, 101))


async def test_an_insert_whose_answer_is_lost_counts_once(
    stream: Stream, http_store: EventStore, clickhouse_shim: Shim
) -> None:
    clickhouse_shim.fail_inserts(after=2)
    await stream.put([usage(number, tokens=number) for number in range(1, 501)])

    async with stream.consumer(http_store):
        await stream.wait_until_committed(500)

    assert await tokens(http_store) == sum(range(1, 501))


async def test_a_store_that_is_away_skips_nothing(
    stream: Stream, http_store: EventStore, clickhouse_shim: Shim
) -> None:
    async with stream.consumer(http_store) as running:
        await stream.put([usage(number, tokens=number) for number in range(1, 201)])
        await stream.wait_until_committed(200)
        clickhouse_shim.kill()
        await stream.put([usage(number, tokens=number) for number in range(201, 401)])
        await until(
            lambda: running.value("tallyman_consumer_failures_total", step="store") >= 1,
            "a failure",
        )
        clickhouse_shim.start()
        await stream.wait_until_committed(400)

    assert await tokens(http_store) == sum(range(1, 401))


async def test_a_stop_while_the_store_is_away_leaves_the_batch_for_the_next_start(
    stream: Stream, http_store: EventStore, clickhouse_shim: Shim
) -> None:
    clickhouse_shim.fail_inserts(before=1_000_000)
    await stream.put([usage(number) for number in range(50)])
    async with stream.consumer(http_store) as running:
        await until(
            lambda: running.value("tallyman_consumer_failures_total", step="store") >= 1,
            "a failure",
        )
    clickhouse_shim.fail_inserts()

    async with stream.consumer(http_store):
        await stream.wait_until_committed(50)
    assert await tokens(http_store) == 50


async def test_what_was_read_behind_a_batch_that_is_not_stored_is_not_committed_at_a_stop(
    stream: Stream, http_store: EventStore, clickhouse_shim: Shim
) -> None:
    await stream.put([usage(number) for number in range(50)])
    clickhouse_shim.fail_inserts(before=1)
    async with stream.consumer(http_store, BatchLimits(events=10)) as running:
        await until(
            lambda: running.value("tallyman_consumer_failures_total", step="store") == 1,
            "a failure",
        )

    async with stream.consumer(http_store):
        await stream.wait_until_committed(50)

    assert await tokens(http_store) == 50


async def test_the_namespace_is_the_headers_and_never_the_bodys(
    stream: Stream, store: EventStore
) -> None:
    await stream.put([usage(1, tokens=10, namespace="tenant-b")])
    await stream.put([usage(2, tokens=20, namespace="tenant-b")], [("namespace", b"tenant-a")])

    async with stream.consumer(store):
        await stream.wait_until_committed(2)

    seen = [await tokens(store, name) for name in ("default", "tenant-a", "tenant-b")]
    assert seen == [10, 20, 0]


async def test_three_consumers_that_come_and_go_count_every_event_once(
    stream: Stream, http_store: EventStore
) -> None:
    producing = asyncio.create_task(_produce_slowly(stream, 6_000))
    async with stream.consumer(http_store) as first:
        await until(lambda: first.value("tallyman_consumer_messages_total") > 0, "the first works")
        async with stream.consumer(http_store) as second:
            await until(lambda: len(second.consumer.partitions) == 2, "the second has its share")
            async with stream.consumer(http_store) as third:
                await until(lambda: len(third.consumer.partitions) >= 1, "the third has its share")
                await producing
            await until(lambda: len(second.consumer.partitions) == 2, "the third is gone")
        await stream.wait_until_committed(6_000)

    assert await tokens(http_store) == sum(range(1, 6_001))


async def test_a_broker_that_is_killed_and_comes_back_loses_nothing(
    kafka: Kafka, stream: Stream, store: EventStore
) -> None:
    await stream.put([usage(number) for number in range(300)])
    async with stream.consumer(store):
        await stream.wait_until_committed(300)
        await asyncio.to_thread(kafka.kill)
        await asyncio.to_thread(kafka.start)
        await stream.put([usage(number) for number in range(250, 600)])
        await stream.wait_until_committed(650)

    assert await tokens(store) == 600


async def _produce_slowly(stream: Stream, count: int) -> None:
    for begin in range(1, count, 200):
        await stream.put([usage(number, tokens=number) for number in range(begin, begin + 200)])
