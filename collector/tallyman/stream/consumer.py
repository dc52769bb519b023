"""Owns the way from Kafka to the store: check, store, set aside what is no event, commit; in order.

It does not own how events are stored, nor the process around it: see `commands/consume.py`.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import TopicPartition
from tallyman_kong.durable_step import durable

from tallyman.errors import InvalidInput
from tallyman.store.events import Received
from tallyman.stream.batch import Batch, BatchLimits
from tallyman.stream.dead_letters import DeadLetters, Rejected
from tallyman.stream.intake import BlockIntake
from tallyman.stream.kafka_connection import KafkaConnection
from tallyman.stream.lag import keep_measuring
from tallyman.stream.message import Record
from tallyman.stream.metrics import ConsumerMetrics
from tallyman.stream.reader import Reader
from tallyman.stream.record_batches import read_every_header
from tallyman.stream.under_way import UnderWay
from tallyman.stream.work import Work

log = logging.getLogger(__name__)

BATCHES_AT_ONCE = 2
LONGEST_POLL_SECONDS = 0.5  # until a stop is seen, however long a batch may wait
RECORDS_AT_ONCE = 500  # bounds by how much a batch can exceed its bytes
LONGEST_BACKOFF_SECONDS = 30.0
COMMIT_TIMEOUT_SECONDS = 10.0
SESSION_TIMEOUT_MS = 10_000  # how long the partitions of a consumer that was killed wait
HEARTBEAT_MS = 3_000
REBALANCE_TIMEOUT_MS = 60_000
SETTLE_BEFORE_REVOKE_SECONDS = 40.0  # less than that, or the group goes on without us
# A batch is retried for ever while the store is away, which is not a dead consumer: the heartbeats
# tell whether it lives.
POLL_WHENEVER_MS = 2**31 - 1


class Consumer(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One member of the group: stores some batches at a time, and commits them as they were read."""

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        group: str,
        store: BlockIntake,
        dead_letters: DeadLetters,
        metrics: ConsumerMetrics,
        default_namespace: str = "default",
        limits: BatchLimits = BatchLimits(),  # noqa: B008 – frozen
        at_once: int = BATCHES_AT_ONCE,
    ) -> None:
        self._topic = topic
        self._store = store
        self._dead_letters = dead_letters
        self.metrics = metrics
        self._default_namespace = default_namespace
        self._limits = limits
        self._assignment = 0
        self._under_way = UnderWay(at_once)
        self._stop = asyncio.Event()
        self.failing_since: float | None = None
        read_every_header()
        self._kafka = AIOKafkaConsumer(
            **connection.options(),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=SESSION_TIMEOUT_MS,
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=POLL_WHENEVER_MS,
            max_partition_fetch_bytes=4 * 1024 * 1024,
        )
        self._reader = Reader(self._kafka)

    async def run(self) -> None:
        """Consume until `stop`; then what is under way is finished, committed, and the group left.

        Raises:
            KafkaError: no broker answered at the start, or the group refuses this consumer.
        """
        await self._start()
        self._kafka.subscribe([self._topic], listener=self)
        measuring = asyncio.create_task(keep_measuring(self._kafka, self.metrics.lag))
        try:
            await self._settle_all()
        finally:
            measuring.cancel()
            await self._kafka.stop()
            await self._dead_letters.close()

    def stop(self) -> None:
        """Ask `run` to end; a batch that cannot be stored is left for the next start."""
        self._stop.set()

    @property
    def partitions(self) -> Sequence[TopicPartition]:
        """What this member reads at the moment."""
        return sorted(self._kafka.assignment())

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called by aiokafka before a rebalance: what is being stored is committed, the rest dropped."""
        try:
            async with asyncio.timeout(SETTLE_BEFORE_REVOKE_SECONDS):
                await self._under_way.rest()
        except TimeoutError:
            log.warning("the store is too slow for the rebalance: what it has will be read again")
        self._assignment += 1
        self._reader.forget()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by aiokafka after a rebalance."""
        self.metrics.lag.clear()
        log.info("reading partitions %s", sorted(tp.partition for tp in assigned))

    async def _start(self) -> None:
        try:
            await self._kafka.start()
        except BaseException:
            await self._kafka.stop()
            raise

    async def _settle_all(self) -> None:
        """Settle some batches at a time; the next is read and checked meanwhile."""
        async with asyncio.TaskGroup() as settling:
            while True:
                work = await self._prepare()
                if work is None and self._stop.is_set():
                    return
                if work is not None:
                    if not await self._under_way.begin(work):
                        return
                    settling.create_task(self._settle(work))

    async def _prepare(self) -> Work | None:
        """The next batch, checked; None if nothing came, or at a stop.

        While the group decides who reads what, aiokafka waits for that as long as it takes.
        """
        gathering = asyncio.create_task(self._gather())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((gathering, stopping), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((gathering,), timeout=2 * LONGEST_POLL_SECONDS)
            batch = gathering.result() if gathering.done() else None
        finally:
            gathering.cancel()
            stopping.cancel()
        return None if batch is None else Work.check(batch, self._default_namespace)

    async def _gather(self) -> Batch | None:
        """Read until the batch is full or has waited long enough; None if nothing came."""
        batch = Batch(self._assignment, self._limits)
        wait_seconds = self._limits.wait_seconds
        while wait_seconds and not self._stop.is_set():
            try:
                read = await self._reader.read(
                    min(wait_seconds, LONGEST_POLL_SECONDS), min(RECORDS_AT_ONCE, batch.room)
                )
            except Exception as err:  # noqa: BLE001 – whatever it is, nothing may be skipped for it
                self.metrics.failures.labels("read").inc()
                log.warning("Kafka could not be read, and is tried again: %r", err)
                await self._pause(1.0)
                wait_seconds = batch.seconds_left
                continue
            if batch.assignment != self._assignment:
                # Nothing was awaited since these were read: they are of the newest assignment.
                self._drop(batch)
                batch = Batch(self._assignment, self._limits)
            for records in read.values():
                batch.add(records)
            wait_seconds = batch.seconds_left
        return batch if batch.records else None

    async def _settle(self, work: Work) -> None:
        """Store, set aside, commit; repeated until it is done, revoked, or the consumer stops."""
        began_at = time.monotonic()
        failures = 0
        while self._under_way.has(work):
            async with self._under_way.attempt(work):
                is_failed = self._under_way.has(work) and not await self._attempt(work)
            if is_failed:
                failures += 1
                await self._pause(backoff_seconds(failures))
                if self._stop.is_set():
                    await self._under_way.leave(work)
        if work.committed:
            self.metrics.consumed.inc(len(work.batch.records))
            self.metrics.batch_events.observe(len(work.batch.records))
            self.metrics.batch_seconds.observe(time.monotonic() - began_at)

    async def _attempt(self, work: Work) -> bool:
        """Go on where the last attempt ended, as far as it goes. Returns False if a step failed."""
        try:
            if self._is_ours(work) and not work.stored:
                work.step = "store"
                await self._put_block(work)
                work.rejected += await self._put(work.events)
                work.stored = True
            if self._is_ours(work) and not await self._under_way.turn(work):
                return True
            if self._is_ours(work):
                await self._finish(work)
            else:
                self._drop(work.batch)
        except Exception as err:  # noqa: BLE001 – nothing may be skipped: whatever it is, try again
            self._note_failure(work, err)
            return False
        await self._under_way.over(work)
        return True

    def _is_ours(self, work: Work) -> bool:
        return work.batch.assignment == self._assignment

    async def _finish(self, work: Work) -> None:
        """Set aside and commit, when all that was read before it is committed."""
        if not work.buried:
            work.step = "dead_letter"
            await self._bury(work.rejected)
            work.buried = True
        work.step = "commit"
        await self._commit(work)
        self.failing_since = None

    def _note_failure(self, work: Work, err: Exception) -> None:
        self.failing_since = self.failing_since or time.time()
        self.metrics.failures.labels(work.step).inc()
        first = work.batch.records[0]
        log.warning(
            "step %s failed for %d messages from partition %d offset %d on, and is repeated: %r",
            work.step,
            len(work.batch.records),
            first.partition,
            first.offset,
            err,
        )

    async def _put_block(self, work: Work) -> None:
        """Store what is new in the block; the others are among the work's events then."""
        if len(work.block):
            others = await self._store.accept_block(work.block)
            self.metrics.stored.inc(len(work.block) - len(others))
            work.open_block(others)

    async def _put(self, events: Sequence[tuple[Record, Received]]) -> list[Rejected]:
        """Store events; those that the store itself refuses are found by halving, and returned."""
        if not events:
            return []
        try:
            accepted = await self._store.accept([received for _, received in events])
        except InvalidInput as err:
            if len(events) == 1:
                return [Rejected(events[0][0], err)]
            middle = len(events) // 2
            return await self._put(events[:middle]) + await self._put(events[middle:])
        self.metrics.stored.inc(accepted.new)
        self.metrics.known.inc(accepted.known)
        self.metrics.conflicts.inc(len(accepted.conflicts))
        return []

    async def _bury(self, rejected: Sequence[Rejected]) -> None:
        if not rejected:
            return
        await self._dead_letters.bury(rejected)
        for dead in rejected:
            self.metrics.dead.labels(dead.error.code).inc()
            log.warning(
                "set aside partition %d offset %d: %s",
                dead.record.partition,
                dead.record.offset,
                dead.error.code,
            )

    @durable("consumer.commit")
    async def _commit(self, work: Work) -> None:
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_SECONDS):
                await self._kafka.commit(work.batch.next_offsets)
            work.committed = True
        except (CommitFailedError, IllegalStateError):
            # The partitions are another consumer's by now. It reads the batch again, and knows it.
            self._drop(work.batch)

    def _drop(self, batch: Batch) -> None:
        if batch.records:
            self.metrics.dropped.inc()
            log.info("left %d messages to whom they are assigned now", len(batch.records))

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond a stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return


def backoff_seconds(failures: int) -> float:
    """How long to wait after so many failures in a row, which may be any number."""
    return min(0.1 * 2.0 ** min(failures, 10), LONGEST_BACKOFF_SECONDS)
