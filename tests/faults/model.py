"""A small world in memory: nodes, a broker, consumers and a store, and a history of faults by a seed.

The consumer's way through a batch and the store's intake are the real ones; spool, broker and tables are
models of what they promise. Time is the model's own. `Bug` breaks an order on purpose.
"""

import asyncio
import contextlib
import random
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec
from aiokafka.errors import CommitFailedError, KafkaError
from aiokafka.structs import TopicPartition
from prometheus_client import CollectorRegistry
from tallyman.domain.event import CloudEvent
from tallyman.errors import Unavailable
from tallyman.store.arrivals import ArrivalAt, Arrivals
from tallyman.store.event_block import EventBlock
from tallyman.store.intake import Intake
from tallyman.store.seen import Trace, id_hash, minute_of, trace
from tallyman.stream import consumer as consumer_module
from tallyman.stream.batch import Batch, BatchLimits
from tallyman.stream.consumer import Consumer
from tallyman.stream.dead_letters import Rejected
from tallyman.stream.kafka_connection import KafkaConnection
from tallyman.stream.metrics import ConsumerMetrics
from tallyman.stream.under_way import UnderWay
from tallyman.stream.work import Work

from tests.rigs.row_binary import rows_of

BEGIN = datetime(2026, 11, 30, 23, 55, tzinfo=UTC)  # a month ends on the way
TOPIC = "usage"
PARTITIONS = 2
AT_ONCE = 3
METRICS = ConsumerMetrics(CollectorRegistry())
NOBODY = KafkaConnection(("127.0.0.1:1",))


class Bug(StrEnum):
    """An order that is broken on purpose."""

    NONE = "none"
    REMEMBERED_BEFORE_STORED = "remembered before stored"
    COMMITTED_BEFORE_STORED = "committed before stored"
    ACKNOWLEDGED_BEFORE_SENT = "acknowledged before sent"
    COMMITTED_ONE_TOO_FAR = "committed one too far"
    DROPPED_UNSEEN = "what is known is dropped without a note"
    COMMITTED_OUT_OF_TURN = "committed before what was read before"


class Killed(BaseException):
    """The process that this happens in is gone."""


@dataclass(frozen=True)
class Message:
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class Faults:
    """What goes wrong next: chances per step, drawn from the history's seed."""

    chance: random.Random
    kill: float
    fail: float
    is_killed: bool = False

    def of_a_process(self) -> "Faults":
        """For one process: where it is killed, all of it is."""
        return replace(self, is_killed=False)

    def here(self) -> None:
        self.is_killed = self.is_killed or self.chance.random() < self.kill
        if self.is_killed:
            raise Killed

    def fails(self) -> bool:
        return self.chance.random() < self.fail


@dataclass
class Tables:
    """What survives: the events by the table's key, the memory of ids, and what was dropped."""

    events: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    seen: dict[bytes, Trace] = field(default_factory=dict)
    by_id: dict[bytes, Trace] = field(default_factory=dict)
    dropped: set[tuple[str, int]] = field(default_factory=set)
    places: set[tuple[str, int]] = field(default_factory=set)


class ModelClickHouse:
    """Inserts that fail before or after, and a process that is killed before or after."""

    def __init__(self, tables: Tables, faults: Faults, bug: Bug) -> None:
        self._tables = tables
        self._faults = faults
        self._bug = bug

    async def insert(self, table: str, block: bytes, *_: Any) -> None:
        await asyncio.sleep(0)
        self._faults.here()
        if self._faults.fails():
            raise Unavailable("a fault: not stored")
        for row in _rows(table, block):
            place = (row["door"], row["place"])
            if table == "dropped":
                if self._bug is not Bug.DROPPED_UNSEEN:
                    self._tables.dropped.add(place)
                continue
            keys = ("namespace", "type", "subject", "time", "source", "id")
            self._tables.events.setdefault(tuple(row[name] for name in keys), row)
            self._tables.places.add(place)
        await asyncio.sleep(0)
        self._faults.here()
        if self._faults.fails():
            raise Unavailable("a fault: stored")


def _rows(table: str, block: bytes) -> Iterator[dict[str, Any]]:
    """What is inserted, each with its time as a text and its data as JSON."""
    if table == "incoming_read":
        for row in rows_of(block):
            read = {"time": row["time"].isoformat(), "data": msgspec.json.decode(row["data"])}
            yield {"dataschema": "", **row, **read}
        return
    for line in block.splitlines():
        row = {"dataschema": "", "nodeid": "", "sequence": "", **msgspec.json.decode(line)}
        if "time" in row:
            row["time"] = datetime.fromisoformat(row["time"]).isoformat()
        yield row


class ModelSeen:
    """The memory of ids, as `Seen` keeps it."""

    def __init__(self, tables: Tables, faults: Faults) -> None:
        self._tables = tables
        self._faults = faults

    async def by_minute(
        self, hashes: Sequence[bytes], times_us: Sequence[int]
    ) -> dict[bytes, Trace]:
        await asyncio.sleep(0)
        self._faults.here()
        seen, minutes = self._tables.seen, set(map(minute_of, times_us))
        return {one: seen[one] for one in hashes if one in seen and seen[one].minute in minutes}

    async def by_id(self, hashes: Iterable[bytes]) -> dict[bytes, Trace]:
        return {one: self._tables.by_id[one] for one in hashes if one in self._tables.by_id}

    async def remember(self, traces: Iterable[Trace], by_id: Iterable[Trace]) -> None:
        self._faults.here()
        if self._faults.fails():
            raise Unavailable("a fault: not remembered")
        self._tables.seen |= {one.id_hash: one for one in traces}
        self._tables.by_id |= {one.id_hash: one for one in by_id}
        self._faults.here()

    async def remember_rows(self, rows: bytes) -> None:
        traces = [Trace(*row) for row in struct.iter_unpack("<4x16sqIII", rows)]
        await self.remember(traces, ())

    async def mend(self) -> None:
        self._faults.here()
        for row in self._tables.events.values():
            found = _trace_of(row)
            self._tables.seen[found.id_hash] = found
            if not (row["nodeid"] and row["sequence"]):
                self._tables.by_id[found.id_hash] = found


def _trace_of(row: dict[str, Any]) -> Trace:
    event = CloudEvent(
        id=row["id"], source=row["source"], type=row["type"], subject=row["subject"],
        dataschema=row["dataschema"] or None,
    )  # fmt: skip
    time = datetime.fromisoformat(row["time"])
    found = trace(row["namespace"], event, time, msgspec.json.encode(row["data"]))
    return msgspec.structs.replace(
        found, id_hash=id_hash(row["namespace"], row["source"], row["id"])
    )


class BrokenIntake(Intake):
    """Marks before it stores, as others did."""

    async def _store(self, fresh: Sequence[Any], arrival_at: ArrivalAt) -> None:
        await self._seen.remember([one.trace for one in fresh], [])
        await super()._store(fresh, arrival_at)

    async def _store_block(self, block: EventBlock) -> None:
        await self._seen.remember_rows(block.traces)
        await super()._store_block(block)


class BrokenUnderWay(UnderWay):
    """Waits for nobody's commit."""

    async def turn(self, work: Work) -> bool:
        return True


class ModelGroup:
    """The broker's side of one consumer: commits, refused when the partitions are another's."""

    def __init__(self, world: "World", faults: Faults) -> None:
        self._world = world
        self._faults = faults
        self.is_revoked = False
        self._closed = True

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self._faults.here()
        if self.is_revoked:
            raise CommitFailedError
        if self._faults.fails():
            raise KafkaError
        for partition, offset in offsets.items():
            is_too_far = self._world.bug is Bug.COMMITTED_ONE_TOO_FAR
            self._world.committed[partition.partition] = offset + is_too_far
        self._faults.here()
        if self._faults.fails():
            raise KafkaError


class World:
    """All that survives a kill, and what was ever logged by the gateway."""

    def __init__(self, seed: int, bug: Bug) -> None:
        self.chance = random.Random(seed)
        self.bug = bug
        self.now = BEGIN
        self.tables = Tables()
        self.log: list[list[Message]] = [[] for _ in range(PARTITIONS)]
        self.committed = dict.fromkeys(range(PARTITIONS), 0)
        self.dead: list[tuple[str, int]] = []
        self.spool: list[dict[str, Any]] = []
        self.number = 0
        self.called: dict[str, int] = {}
        self.lost_in_the_gateway: list[dict[str, Any]] = []

    def event(self) -> dict[str, Any]:
        name = f"call-{len(self.called)}"
        tokens = self.chance.randrange(1, 10**6)
        self.called[name] = tokens
        return {
            "specversion": "1.0",
            "id": name,
            "source": "kong",
            "type": "llm.tokens",
            "subject": f"consumer-{self.chance.randrange(3)}",
            "time": f"{self.now:%Y-%m-%dT%H:%M:%S}.{self.now.microsecond // 1000:03d}Z",
            "data": {"tokens": tokens},
        }

    def append(self, event: dict[str, Any] | None) -> None:
        """A message into the topic, keyed by subject; None is rubbish."""
        partition = int(event["subject"][-1]) % PARTITIONS if event else 0
        value = msgspec.json.encode(event) if event else b"no event"
        log = self.log[partition]
        timestamp = int(self.now.timestamp() * 1000)
        log.append(Message(TOPIC, partition, len(log), timestamp, None, value))

    async def bury(self, rejected: Sequence[Rejected]) -> None:
        self.dead += [(f"{TOPIC}/{one.record.partition}", one.record.offset) for one in rejected]

    def consumer(self, faults: Faults) -> tuple[Consumer, ModelGroup]:
        """A process that has just started."""
        made = BrokenIntake if self.bug is Bug.REMEMBERED_BEFORE_STORED else Intake
        clickhouse: Any = ModelClickHouse(self.tables, faults, self.bug)
        seen: Any = ModelSeen(self.tables, faults)
        intake = made(clickhouse, seen)
        intake._arrivals = Arrivals(clickhouse)
        letters: Any = self
        consumer = Consumer(NOBODY, TOPIC, "readers", intake, letters, METRICS, at_once=AT_ONCE)
        consumer._kafka._closed = True  # it was never opened
        group = consumer._kafka = ModelGroup(self, faults)
        if self.bug is Bug.COMMITTED_OUT_OF_TURN:
            consumer._under_way = BrokenUnderWay(AT_ONCE)

        async def pause(_seconds: float) -> None:
            await _steps(self.chance.choice((1, 20)))

        consumer._pause = pause  # type: ignore[method-assign,assignment]  # the model's time
        return consumer, group

    def batches(self, assignment: int, limit: int) -> Iterator[Batch]:
        """What a consumer reads from the committed offsets on."""
        at = self.committed.copy()
        while True:
            batch = Batch(assignment, BatchLimits())
            for partition, log in enumerate(self.log):
                read = log[at[partition] : at[partition] + limit]
                batch.add(read)
                at[partition] += len(read)
            if not batch.records:
                return
            yield batch


async def live(seed: int, bug: Bug = Bug.NONE) -> str | None:
    """One history; what is wrong in the end, or None."""
    world = World(seed, bug)
    chance = world.chance
    faults = Faults(chance, kill=chance.choice((0, 0.02, 0.05)), fail=chance.choice((0, 0.05, 0.3)))
    for _ in range(chance.randrange(4, 16)):
        world.now += timedelta(seconds=chance.choice((0, 1, 45, 3600)))
        await chance.choice((_call, _send, _consume, _consume, _disturb))(world, faults)
    await _end(world)
    return _wrong(world)


async def _call(world: World, _: Faults) -> None:
    for _number in range(world.chance.randrange(1, 12)):
        event = world.event()
        if world.chance.random() < 0.2:  # a client of the API, which leaves the time to the server
            del event["time"]
            world.append(event)
            continue
        if world.chance.random() < 0.1:  # the server was away: only the log has it
            world.lost_in_the_gateway.append(event)
            continue
        world.number += 1
        world.spool.append({"nodeid": "kong-1", "sequence": f"{world.number:018d}", **event})


async def _send(world: World, faults: Faults) -> None:
    """The sender: what is acknowledged leaves the spool; an acknowledgement may be lost."""
    batch = world.spool[: world.chance.randrange(1, 16)]
    if world.bug is Bug.ACKNOWLEDGED_BEFORE_SENT:
        del world.spool[: len(batch)]
    faults = faults.of_a_process()
    try:
        for event in batch:
            faults.here()
            world.append(event)
        faults.here()
    except Killed:
        return
    if not faults.fails() and world.bug is not Bug.ACKNOWLEDGED_BEFORE_SENT:
        del world.spool[: len(batch)]


async def _consume(world: World, faults: Faults) -> None:
    """One consumer, or one whose partitions are taken in mid-batch and the one that takes them."""
    running = [_settle(world, faults, revoke=False)]
    if world.chance.random() < 0.3:
        running.append(_settle(world, faults, revoke=True))
    world.chance.shuffle(running)
    await asyncio.gather(*running)


async def _settle(world: World, faults: Faults, *, revoke: bool) -> None:
    """A consumer's life: it reads some batches, and its partitions may be taken and given back."""
    faults = faults.of_a_process()
    consumer, group = world.consumer(faults)
    limit = world.chance.choice((1, 2, 8))
    left = world.chance.randrange(1, 9)
    shaky = world.chance.choice((0, 0.3))
    batches = world.batches(0, limit)
    group.is_revoked = revoke

    async def prepare() -> Work | None:
        nonlocal batches, left
        left -= 1
        await _steps(world.chance.choice((0, 3, 20)))
        if world.chance.random() < shaky:
            await _rebalance(consumer, world.chance)
            batches = world.batches(consumer._assignment, limit)
        if left < 0 or world.chance.random() < 0.05:
            consumer.stop()
        batch = next(batches, None) if left >= 0 else None
        return None if batch is None else Work.check(batch, "default")

    consumer._prepare = prepare  # type: ignore[method-assign]
    with contextlib.suppress(KafkaError, Killed):
        if world.bug is Bug.COMMITTED_BEFORE_STORED and (batch := next(world.batches(0, 9), None)):
            await group.commit(batch.next_offsets)
        try:
            await consumer._settle_all()
        except* Killed:
            pass


async def _steps(count: int) -> None:
    """While all else that is under way goes on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def _rebalance(consumer: Consumer, chance: random.Random) -> None:
    """The same partitions again, from what is committed; the group may wait for the store, or not."""
    patience = consumer_module.SETTLE_BEFORE_REVOKE_SECONDS
    consumer_module.SETTLE_BEFORE_REVOKE_SECONDS = chance.choice((0.0, patience))
    try:
        await consumer.on_partitions_revoked(())
    finally:
        consumer_module.SETTLE_BEFORE_REVOKE_SECONDS = patience


async def _disturb(world: World, _: Faults) -> None:
    """What else befalls a stream."""
    match world.chance.randrange(5):
        case 0:
            world.append(None)
        case 1:  # offsets reset to the beginning, or some way back
            for partition, offset in world.committed.items():
                world.committed[partition] = world.chance.randrange(offset + 1)
        case 2:  # an old message once more
            for log in world.log:
                if log and (old := world.chance.choice(log)).value != b"no event":
                    world.append(msgspec.json.decode(old.value or b""))
        case 3:  # the log is replayed while things are under way, without nodes and numbers
            _replay(world)
        case 4:  # a spool that sends all of it again
            for event in world.spool:
                world.append(event)


def _replay(world: World) -> None:
    for event in (*world.spool, *world.lost_in_the_gateway):
        bare = {name: value for name, value in event.items() if name not in ("nodeid", "sequence")}
        world.append(bare)


async def _end(world: World) -> None:
    """No more faults: everything is sent, the log is replayed, and everything is read."""
    none = Faults(random.Random(0), 0, 0)
    world.chance = random.Random(0)
    for event in world.spool:
        world.append(event)
    _replay(world)
    world.spool.clear()
    while next(world.batches(0, 1), None) is not None:
        await _settle(world, none, revoke=False)


def _wrong(world: World) -> str | None:
    """The meter against what was called, and each offset against what became of it."""
    metered: Counter[str] = Counter()
    for row in world.tables.events.values():
        metered[row["id"]] += row["data"]["tokens"]
    if metered != world.called:
        wrong = {
            name: (metered[name], world.called.get(name))
            for name in metered.keys() | world.called.keys()
            if metered[name] != world.called.get(name)
        }
        return f"metered and called differ: {wrong}"
    accounted = world.tables.places | world.tables.dropped | set(world.dead)
    offsets = {
        (f"{TOPIC}/{partition}", offset)
        for partition, log in enumerate(world.log)
        for offset in range(len(log))
    }
    if missing := offsets - accounted:
        return f"offsets that nothing became of: {sorted(missing)}"
    return None
