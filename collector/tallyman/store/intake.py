"""The way of a batch into the store: drop what is known, store the rest, and only then remember it.

It knows no HTTP and no Kafka; what is known is kept by `seen.py`, and read by `events.py`.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import msgspec
from clickhouse_connect.driver.exceptions import ClickHouseError

from tallyman.store.arrivals import ArrivalAt, Arrivals
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.event_block import EventBlock
from tallyman.store.event_row import row
from tallyman.store.incoming import Incoming
from tallyman.store.received import Accepted, EventConflict, Received
from tallyman.store.recent import Recent
from tallyman.store.revision_sql import AS_IT_CAME
from tallyman.store.seen import Seen, Trace, trace
from tallyman.store.write_ahead import WriteAhead

log = logging.getLogger(__name__)

# The time is in the key and decides the partition, so two rows of one event are always in the same
# one: FINAL need not look across them.
FINAL_SETTINGS: Final = {"do_not_merge_across_partitions_select_final": 1}
COMPARED_AT_ONCE: Final = 1000


class _Candidate(msgspec.Struct, frozen=True, gc=False):
    """An event of the batch, with the trace it would leave."""

    position: int
    received: Received
    trace: Trace
    is_derived: bool  # whether its time is the same whenever it is sent

    def differs(self, known: Trace) -> tuple[str, ...]:
        mine = self.trace
        timed = self.received.event.time is not None  # otherwise the time is only the server's
        pairs = (
            ("time", timed and mine.time_us != known.time_us),
            ("type", mine.type_hash != known.type_hash),
            ("subject", mine.subject_hash != known.subject_hash),
            ("data", mine.data_hash != known.data_hash),
        )
        return tuple(name for name, unequal in pairs if unequal)


class Intake:
    """Takes batches, several at once if no event is in two of them."""

    def __init__(
        self, clickhouse: ClickHouse, seen: Seen | Recent, ahead: WriteAhead | None = None
    ) -> None:
        """With `ahead`, what is accepted one by one is stored there."""
        self._clickhouse = clickhouse
        self._seen = seen
        self._ahead = ahead
        self._incoming = Incoming(clickhouse)
        self._arrivals = Arrivals(clickhouse)
        self._turn = asyncio.Condition()
        self._under_way: set[bytes] = set()
        self._doubtful = True  # something may be stored and not remembered

    async def accept(self, batch: Sequence[Received]) -> Accepted:
        """Drop what is known, store the rest, then remember it.

        A caller that goes away does not stop it halfway.
        """
        return await asyncio.shield(asyncio.ensure_future(self._accept(batch)))

    async def _accept(self, batch: Sequence[Received]) -> Accepted:
        candidates = [
            _Candidate(
                position,
                one,
                trace(one.namespace, one.event, one.event.time or one.ingested_at, one.raw_data),
                one.time_is_derived,
            )
            for position, one in enumerate(batch)
        ]
        with self._arrivals.numbered(batch) as arrival_at:
            async with self._alone_with({one.trace.id_hash for one in candidates}):
                fresh, repeated = await self._split(candidates)
                if fresh:
                    await self._store(fresh, arrival_at)
            conflicts = await self._conflicts(repeated)
            strangers = {conflict.position for conflict in conflicts}
            known_at = tuple(one.position for one, _ in repeated if one.position not in strangers)
            await self._arrivals.drop(batch, arrival_at, known_at, sorted(strangers))
        return Accepted(len(fresh), len(known_at), tuple(conflicts), known_at)

    async def accept_block(self, block: EventBlock) -> Sequence[int]:
        """Store what is new in a block, then remember it; returns where the others stand in it.

        The others are to be accepted one by one: they are known, or in conflict with what is. A caller
        that goes away does not stop it halfway.
        """
        return await asyncio.shield(asyncio.ensure_future(self._accept_block(block)))

    async def _accept_block(self, block: EventBlock) -> Sequence[int]:
        hashes = block.hashes
        async with self._alone_with(set(hashes)):
            known = await self._seen.by_minute(hashes, block.times_us)
            others = [at for at, one in enumerate(hashes) if one in known] if known else []
            fresh = block.without(set(others))
            try:
                if len(fresh):
                    await self._store_block(fresh)
            except ClickHouseError as err:
                # One by one it is found which of them it does not take, and why.
                log.warning("a block of %d events was refused: %s", len(block), type(err).__name__)
                return range(len(block))
        return others

    async def _store_block(self, block: EventBlock) -> None:
        """Store, and only then remember."""
        with self._doubted():
            await self._incoming.insert_read(block.rows)
            await self._seen.remember_rows(block.traces)

    @contextmanager
    def _doubted(self) -> Iterator[None]:
        """What fails in the block may have stored what is not remembered."""
        try:
            yield
        except BaseException:
            self._doubtful = True
            raise

    @asynccontextmanager
    async def _alone_with(self, ids: set[bytes]) -> AsyncIterator[None]:
        """Hold the ids: two batches with the same event come one after the other."""
        async with self._turn:
            await self._turn.wait_for(lambda: self._under_way.isdisjoint(ids))
            if self._doubtful:
                await self._mend()
            self._under_way |= ids
        try:
            yield
        finally:
            async with self._turn:
                self._under_way -= ids
                self._turn.notify_all()

    async def _mend(self) -> None:
        self._doubtful = False  # before: a batch that fails meanwhile makes it doubtful again
        with self._doubted():
            await self._seen.mend()

    async def _split(
        self, candidates: Sequence[_Candidate]
    ) -> tuple[list[_Candidate], list[tuple[_Candidate, Trace]]]:
        """What is new, and what is not with what was there before it, in the batch's order."""
        timed = [one.trace for one in candidates if one.received.event.time is not None]
        by_minute, by_id = await asyncio.gather(
            self._seen.by_minute([one.id_hash for one in timed], [one.time_us for one in timed]),
            self._seen.by_id([one.trace.id_hash for one in candidates if not one.is_derived]),
        )
        known = by_minute | by_id
        fresh: list[_Candidate] = []
        repeated: list[tuple[_Candidate, Trace]] = []
        for one in candidates:
            before = known.get(one.trace.id_hash)
            if before is None:
                known[one.trace.id_hash] = one.trace
                fresh.append(one)
            else:
                repeated.append((one, before))
        return fresh, repeated

    async def _store(self, fresh: Sequence[_Candidate], arrival_at: ArrivalAt) -> None:
        """Store, and only then remember."""
        with self._doubted():
            await self._insert(fresh, arrival_at)
            await self._seen.remember(
                [one.trace for one in fresh],
                [one.trace for one in fresh if not one.is_derived],
            )

    async def _insert(self, fresh: Sequence[_Candidate], arrival_at: ArrivalAt) -> None:
        """Insert all of it, or keep it ahead; what ClickHouse does not read as it came is written anew."""
        rows = [row(one.received, arrival_at(one.position)) for one in fresh]
        if self._ahead is not None:
            await self._ahead.append(rows)
            return
        try:
            await self._incoming.insert_json(rows)
        except ClickHouseError:
            if not any(one.received.line for one in fresh):
                raise
            anew = [
                (msgspec.structs.replace(one.received, line=b""), one.position) for one in fresh
            ]
            await self._incoming.insert_json(
                [row(received, arrival_at(at)) for received, at in anew]
            )

    async def _conflicts(self, repeated: Sequence[tuple[_Candidate, Trace]]) -> list[EventConflict]:
        """Those that are not what was there before; two ways of writing the same JSON are equal."""
        conflicts: list[EventConflict] = []
        rewritten: list[tuple[_Candidate, Trace]] = []
        for one, before in repeated:
            differs = one.differs(before)
            if differs == ("data",):
                rewritten.append((one, before))
            elif differs:
                conflicts.append(_conflict(one, differs))
        for start in range(0, len(rewritten), COMPARED_AT_ONCE):
            conflicts += await self._compare(rewritten[start : start + COMPARED_AT_ONCE])
        return sorted(conflicts, key=lambda conflict: conflict.position)

    async def _compare(self, rewritten: Sequence[tuple[_Candidate, Trace]]) -> list[EventConflict]:
        """Compare with what is stored as JSON: its bytes are known to differ, the rest is equal."""
        keys = ", ".join(_key(one.received, before.time_us) for one, before in rewritten)
        rows = await self._clickhouse.rows(
            "SELECT namespace, source, id, dataschema, data FROM events FINAL WHERE "  # noqa: S608 – texts are in hexadecimal
            f"{AS_IT_CAME} AND (namespace, type, subject, time, source, id) IN ({keys})",
            settings=FINAL_SETTINGS,
        )
        stored = {tuple(row[:3]): row[3:] for row in rows}
        conflicts = []
        for one, _ in rewritten:
            received, event = one.received, one.received.event
            schema, data = stored.get((received.namespace, event.source, event.id), (None, None))
            pairs = (
                ("dataschema", schema is not None and schema != (event.dataschema or "")),
                ("data", data is not None and _canonical(data) != _canonical(received.data)),
            )
            differs = tuple(name for name, unequal in pairs if unequal)
            if differs:
                conflicts.append(_conflict(one, differs))
        return conflicts


def _conflict(one: _Candidate, differs: tuple[str, ...]) -> EventConflict:
    event = one.received.event
    return EventConflict(one.received.namespace, event.source, event.id, differs, one.position)


def _key(received: Received, time_us: int) -> str:
    event = received.event
    namespace, type_, subject, source, id_ = (
        f"unhex('{text.encode().hex()}')"
        for text in (received.namespace, event.type, event.subject, event.source, event.id)
    )
    time = f"fromUnixTimestamp64Micro({time_us}, 'UTC')"
    return f"({namespace}, {type_}, {subject}, {time}, {source}, {id_})"


def _canonical(data: str | bytes) -> str:
    """The same text for the same JSON, however it was written."""
    if not data:
        return ""
    return json.dumps(json.loads(data, parse_float=_number), sort_keys=True)


def _number(literal: str) -> int | float:
    number = float(literal)
    return int(number) if number.is_integer() else number
