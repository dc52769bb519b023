"""Consumers on bad days: a rebalance in mid-batch, offsets set back to the beginning, a store that is slow."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.event_block import EventBlock
from tallyman.store.events import Accepted, EventStore, Received
from tallyman.stream import consumer as consumer_module
from tallyman.stream.batch import BatchLimits

from tests.faults.arrived import tokens_of
from tests.faults.conftest import IS_LONG
from tests.rigs.clickhouse import Shim
from tests.rigs.kafka import Kafka
from tests.rigs.stream import WAIT_SECONDS, FailingStore, Running, Stream, until, usage

EVENTS = 1_000
BATCHES = BatchLimits(events=100, wait_seconds=0.05)
WHOLE = BatchLimits(events=100, wait_seconds=30)  # a batch is full, however slow the machine


class HeldStore:
    """A store that holds batches, before or after it has stored them, until they are let go."""

    def __init__(self, store: EventStore, *, before: bool) -> None:
        self._store, self._before = store, before
        self.held = 0
        self.let_go = asyncio.Event()

    async def accept(self, batch: Sequence[Received]) -> Accepted:
        if self._before:
            await self._hold()
        accepted = await self._store.accept(batch)
        await self._hold()
        return accepted

    async def accept_block(self, block: EventBlock) -> Sequence[int]:
        if self._before:
            await self._hold()
        others = await self._store.accept_block(block)
        await self._hold()
        return others

    async def _hold(self) -> None:
        self.held += 1
        await self.let_go.wait()


@pytest.fixture
async def stream(kafka: Kafka) -> Stream:
    return await _filled(kafka, partitions=4)


@pytest.fixture
async def line(kafka: Kafka) -> Stream:
    """A stream of one partition, whose first batch has the event of number 0."""
    return await _filled(kafka, partitions=1)


async def _filled(kafka: Kafka, partitions: int) -> Stream:
    stream = Stream(kafka, partitions)
    await stream.create()
    await stream.put([usage(number, tokens=number) for number in range(EVENTS)])
    return stream


@pytest.fixture
async def store(clickhouse_shim: Shim) -> AsyncIterator[EventStore]:
    with clickhouse_shim.address.database() as name:
        address = clickhouse_shim.address
        clickhouse = ClickHouse.server(f"http://default:@{address.host}:{address.port}/{name}")
        store = EventStore(clickhouse)
        await store.migrate()
        yield store
        await clickhouse.close()


def total(name: str, *consumers: Running) -> float:
    return sum(each.value(f"tallyman_consumer_{name}_total") for each in consumers)


def failed_to_store(running: Running) -> float:
    return running.value("tallyman_consumer_failures_total", step="store")


async def counted(store: EventStore) -> int:
    return sum((await tokens_of(store)).values())


async def test_a_rebalance_waits_for_the_batches_under_way_which_nobody_reads_again(
    stream: Stream, store: EventStore
) -> None:
    held = HeldStore(store, before=False)
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(stream.consumer(held, BATCHES))
        await until(lambda: held.held == 2, "two are under way")
        others = [
            await stack.enter_async_context(stream.consumer(store, BATCHES)) for _ in range(2)
        ]
        await stream.wait_until_rebalancing()
        assert total("messages", first, *others) == 0
        held.let_go.set()
        await until(lambda: all(one.consumer.partitions for one in others), "all three have some")
        await stream.wait_until_committed(EVENTS)

        assert total("known_events", first, *others) == 0
        assert total("messages", first, *others) == EVENTS
    assert await counted(store) == sum(range(EVENTS))


@pytest.mark.parametrize(
    "before", [True, False], ids=["before it is stored", "before it is committed"]
)
async def test_a_batch_that_is_taken_away_in_the_middle_counts_once(
    stream: Stream, store: EventStore, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """The store is so slow that the rebalance does not wait: others read and store the batch, too."""
    monkeypatch.setattr(consumer_module, "SETTLE_BEFORE_REVOKE_SECONDS", 0.1)
    held = HeldStore(store, before=before)
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(stream.consumer(held, BATCHES))
        await until(lambda: held.held == 2, "two are under way")
        others = [
            await stack.enter_async_context(stream.consumer(store, BATCHES)) for _ in range(2)
        ]
        await until(lambda: all(one.consumer.partitions for one in others), "all three have some")
        await until(lambda: total("messages", *others) > 0, "the others go on")
        held.let_go.set()
        await stream.wait_until_committed(EVENTS)

    dealt_with = total("stored_events", first, *others) + total("known_events", first, *others)
    assert dealt_with > EVENTS  # some were read twice, so the fault has come
    assert await counted(store) == sum(range(EVENTS))


async def test_what_is_stored_before_a_batch_that_fails_is_committed_behind_it(
    line: Stream, store: EventStore
) -> None:
    failing = FailingStore(store)
    async with line.consumer(failing, WHOLE) as running:
        await until(lambda: total("stored_events", running) > 0, "the second is stored")
        await until(lambda: failed_to_store(running) > 2, "the first fails")
        assert (await line.committed(), total("stored_events", running)) == (0, 100)
        assert running.consumer.failing_since is not None
        failing.is_mended = True
        await line.wait_until_committed(EVENTS)

    assert (total("stored_events", running), total("known_events", running)) == (EVENTS, 0)
    assert running.consumer.failing_since is None
    assert await counted(store) == sum(range(EVENTS))


async def test_what_is_stored_before_a_batch_that_fails_is_left_with_it_at_a_stop(
    line: Stream, store: EventStore
) -> None:
    async with line.consumer(FailingStore(store), WHOLE) as running:
        await until(lambda: total("stored_events", running) > 0, "the second is stored")
    assert await line.committed() == 0

    async with line.consumer(store, WHOLE) as again:
        await line.wait_until_committed(EVENTS)

    assert (total("stored_events", again), total("known_events", again)) == (EVENTS - 100, 100)
    assert await counted(store) == sum(range(EVENTS))


async def test_a_batch_that_fails_and_what_is_behind_it_are_left_to_whom_the_partitions_go(
    stream: Stream, store: EventStore
) -> None:
    failing = FailingStore(store)
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(stream.consumer(failing, BATCHES))
        await until(lambda: failed_to_store(first) > 0, "a batch fails")
        second = await stack.enter_async_context(stream.consumer(failing, BATCHES))
        await until(lambda: bool(second.consumer.partitions), "the second has some")
        failing.is_mended = True
        await stream.wait_until_committed(EVENTS)

        assert total("dropped_batches", first) > 0
    assert await counted(store) == sum(range(EVENTS))


async def test_of_two_events_with_one_identity_the_first_that_was_read_stays_though_it_failed(
    kafka: Kafka, store: EventStore, clickhouse_shim: Shim
) -> None:
    line = Stream(kafka, partitions=1)
    await line.create()
    await line.put([usage(number, tokens=1) for number in range(100)])
    await line.put([usage(number, tokens=2) for number in range(100)])
    clickhouse_shim.fail_inserts(before=1)
    async with line.consumer(store, WHOLE) as running:
        await line.wait_until_committed(200)

    assert (failed_to_store(running), total("conflicting_events", running)) == (1, 100)
    assert await counted(store) == 100


async def test_offsets_set_back_to_the_beginning_count_nothing_again(
    stream: Stream, store: EventStore
) -> None:
    async with stream.consumer(store, BATCHES):
        await stream.wait_until_committed(EVENTS)
    await stream.rewind(EVENTS)
    assert await stream.committed() == 0

    async with stream.consumer(store, BATCHES) as again:
        await stream.wait_until_committed(EVENTS)

    assert (total("stored_events", again), total("known_events", again)) == (0, EVENTS)
    assert await counted(store) == sum(range(EVENTS))


async def test_a_store_that_is_slow_is_waited_for_and_nothing_is_read_again(
    stream: Stream, store: EventStore, clickhouse_shim: Shim
) -> None:
    await asyncio.to_thread(clickhouse_shim.fail_inserts, delay_seconds=0.2)
    async with contextlib.AsyncExitStack() as stack:
        consumers = [
            await stack.enter_async_context(stream.consumer(store, BATCHES)) for _ in range(3)
        ]
        await stream.wait_until_committed(EVENTS)

    assert total("stored_events", *consumers) == EVENTS
    assert [failed_to_store(one) for one in consumers] == [0] * 3
    assert await counted(store) == sum(range(EVENTS))


class Stubborn(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """A member that does not give up what it reads until it may."""

    def __init__(self) -> None:
        self.is_asked, self.may = asyncio.Event(), asyncio.Event()

    async def on_partitions_revoked(self, revoked: object) -> None:
        if revoked:
            self.is_asked.set()
            await self.may.wait()

    async def on_partitions_assigned(self, assigned: object) -> None:
        """Nothing is done then."""


@pytest.mark.skipif(not IS_LONG, reason="the long form: aiokafka waits 40 s for the group's answer")
async def test_a_consumer_stops_also_while_the_group_waits_for_another_member(
    stream: Stream, store: EventStore
) -> None:
    stubborn = Stubborn()
    other = AIOKafkaConsumer(
        **stream.connection.options(), group_id=stream.group, rebalance_timeout_ms=3_600_000
    )
    other.subscribe([stream.topic], listener=stubborn)
    async with stream.consumer(store, BATCHES) as first:
        await until(lambda: len(first.consumer.partitions) == 4, "it reads all")
        await other.start()
        try:
            await until(lambda: len(other.assignment()) == 2, "it reads a half")
            async with stream.consumer(store, BATCHES) as second:
                async with asyncio.timeout(WAIT_SECONDS):
                    await stubborn.is_asked.wait()
                await asyncio.gather(first.stop(), second.stop())

                assert not stubborn.may.is_set()
        finally:
            stubborn.may.set()
            await other.stop()
