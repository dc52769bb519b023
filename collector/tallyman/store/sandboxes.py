"""Sandbox namespaces and their test clocks: what time it is for whom.

What is done on the way when a clock is moved is `billing/clock_advance.py`'s.
"""

import time
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import Row, Select, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from tallyman.domain.access import LOCAL
from tallyman.domain.test_clock import TestClock
from tallyman.errors import Conflict, InvalidInput, InvalidParameter, NotFound
from tallyman.store.audit import AuditEntry, record, record_document
from tallyman.store.database import Database, upsert
from tallyman.store.shared_answer import SharedAnswers
from tallyman.store.tables import (
    api_keys,
    billing_progress,
    customers,
    features,
    invoices,
    meters,
    plans,
    sandboxes,
    subscriptions,
    test_clocks,
)

REMEMBERED_SECONDS: Final = 0.5  # so long may a server not know of a clock that another one made


class Sandboxes:
    """The sandboxes among all namespaces. A namespace is a sandbox from its beginning, or never."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._without_clock: dict[str, float] = {}
        self._read: SharedAnswers[str, datetime | None] = SharedAnswers()

    async def open(self, namespace: str, *, by: str = LOCAL) -> None:
        """Make an empty namespace a sandbox; one that is stays one.

        Raises:
            Conflict: it is a real one: something is there already.
        """
        async with self._database.writing() as connection:
            if await _is_sandbox(connection, namespace):
                return
            if await _is_used(connection, namespace, with_keys=True):
                raise Conflict(f"the namespace {namespace} is real, and a sandbox begins empty")
            now = datetime.now(UTC)
            values = {"namespace": namespace, "created_at": now}
            await connection.execute(upsert(connection, sandboxes).values(values))
            entry = AuditEntry(namespace, now, by, "created", "sandbox", namespace, None, values)
            await record_document(connection, entry)

    async def is_sandbox(self, namespace: str) -> bool:
        """Whether it is one, with a clock or without."""
        async with self._database.reading() as connection:
            return await _is_sandbox(connection, namespace)

    async def now(self, namespace: str, real: datetime) -> datetime:
        """What time it is in a namespace, where elsewhere it is `real`."""
        if self._without_clock.get(namespace, 0.0) > time.monotonic():
            return real
        return await self._read.ask(namespace, partial(self._read_clock, namespace)) or real

    async def _read_clock(self, namespace: str) -> datetime | None:
        until = time.monotonic() + REMEMBERED_SECONDS
        async with self._database.reading() as connection:
            found = await connection.execute(
                select(test_clocks.c.frozen_time).where(test_clocks.c.namespace == namespace)
            )
            frozen: datetime | None = found.scalar_one_or_none()
        if frozen is None:
            self._without_clock[namespace] = until
        return frozen

    async def frozen(self) -> dict[str, datetime]:
        """What time it is in each namespace that has a clock."""
        async with self._database.reading() as connection:
            rows = await connection.execute(
                select(test_clocks.c.namespace, test_clocks.c.frozen_time)
            )
            return {row.namespace: row.frozen_time for row in rows}

    async def create_clock(
        self, namespace: str, name: str | None, frozen_time: datetime, *, by: str = LOCAL
    ) -> TestClock:
        """Give a sandbox its clock.

        Raises:
            Conflict: the namespace is real, has a clock, or things that know another time.
        """
        async with self._database.writing() as connection:
            if not await _is_sandbox(connection, namespace):
                raise Conflict(
                    f"the namespace {namespace} is real, and its time is everybody's: "
                    "tallyman keys create --sandbox makes another one"
                )
            of_it = _clocks(namespace)
            if (await connection.execute(of_it)).one_or_none() is not None:
                raise Conflict(f"the namespace {namespace} has a test clock already")
            if await _is_used(connection, namespace):
                raise Conflict(
                    f"the namespace {namespace} is in use: a clock comes before features, plans "
                    "and customers, which know the time that they were made at"
                )
            now = datetime.now(UTC)
            values = {
                "id": str(ULID()),
                "namespace": namespace,
                "name": name,
                "frozen_time": frozen_time,
                "created_at": now,
                "updated_at": now,
            }
            await connection.execute(test_clocks.insert().values(values))
            row = (await connection.execute(of_it)).one()
            await record(connection, by, "created", "test_clock", None, row)
        self._read.forget()
        self._without_clock.pop(namespace, None)
        return _clock(row)

    async def clocks(self, namespace: str) -> list[TestClock]:
        """The namespace's clock, if it has one."""
        async with self._database.reading() as connection:
            return [_clock(row) for row in await connection.execute(_clocks(namespace))]

    async def get_clock(self, namespace: str, clock_id: str) -> TestClock:
        """The clock with this id.

        Raises:
            NotFound: there is none.
        """
        async with self._database.reading() as connection:
            return _clock(await _find(connection, namespace, clock_id))

    async def begin_advance(
        self, namespace: str, clock_id: str, to: datetime, *, by: str = LOCAL
    ) -> TestClock:
        """Say where the clock is moved to; whoever was killed on the way is gone on from.

        Raises:
            NotFound: there is no such clock.
            InvalidInput: it would go back.
        """
        async with self._database.writing() as connection:
            row = await _find(connection, namespace, clock_id)
            floor = row.advancing_to or row.frozen_time
            if to < floor:
                reason = f"must not be before {floor.isoformat()}: a clock goes forward only"
                raise InvalidInput(
                    f"frozen_time {reason}", [InvalidParameter("frozen_time", "min", reason)]
                )
            await _change(connection, clock_id, advancing_to=to)
            after = await _find(connection, namespace, clock_id)
            await record(connection, by, "advanced", "test_clock", row, after)
            return _clock(after)

    async def tick(self, clock: TestClock, at: datetime) -> None:
        """Put the clock to a moment on the way; it stays where another is further."""
        async with self._database.writing() as connection:
            await connection.execute(
                update(test_clocks)
                .where(test_clocks.c.id == clock.id, test_clocks.c.frozen_time < at)
                .values(frozen_time=at)
            )
        self._read.forget()

    async def end_advance(self, clock: TestClock, to: datetime) -> TestClock:
        """The clock has arrived, unless another moves it further."""
        async with self._database.writing() as connection:
            row = await _find(connection, clock.namespace, clock.id)
            if row.advancing_to is not None and row.advancing_to <= to:
                await _change(connection, clock.id, advancing_to=None)
            return _clock(await _find(connection, clock.namespace, clock.id))

    async def next_wake(self, namespace: str, after: datetime) -> datetime | None:
        """When billing next has something to do in the namespace, as far as it is known."""
        mine = subscriptions.c.namespace == namespace, subscriptions.c.deleted_at.is_(None)
        due = select(func.min(billing_progress.c.next_due_at)).join(
            subscriptions, subscriptions.c.id == billing_progress.c.subscription_id
        )
        asked = (
            due.where(*mine, billing_progress.c.next_due_at > after),
            select(func.min(subscriptions.c.active_from)).where(
                *mine, subscriptions.c.active_from > after
            ),
            select(func.min(subscriptions.c.active_to)).where(
                *mine, subscriptions.c.active_to > after
            ),
            select(func.min(invoices.c.wakes_at)).where(
                invoices.c.namespace == namespace, invoices.c.wakes_at > after
            ),
        )
        async with self._database.reading() as connection:
            found = [(await connection.execute(one)).scalar_one() for one in asked]
        return min((one for one in found if one is not None), default=None)


async def _is_sandbox(connection: AsyncConnection, namespace: str) -> bool:
    found = await connection.execute(
        select(sandboxes.c.namespace).where(sandboxes.c.namespace == namespace)
    )
    return found.one_or_none() is not None


async def _is_used(connection: AsyncConnection, namespace: str, *, with_keys: bool = False) -> bool:
    tables = (features, plans, customers, *((api_keys,) if with_keys else ()))
    used = [exists().where(table.c.namespace == namespace) for table in tables]
    used.append(exists().where(meters.c.namespace == namespace, meters.c.built_in.is_(False)))
    return bool((await connection.execute(select(or_(*used)))).scalar_one())


def _clocks(namespace: str) -> Select[Any]:
    return select(test_clocks).where(test_clocks.c.namespace == namespace)


async def _find(connection: AsyncConnection, namespace: str, clock_id: str) -> Row[Any]:
    found = await connection.execute(
        _clocks(namespace).where(test_clocks.c.id == clock_id).with_for_update()
    )
    row: Row[Any] | None = found.one_or_none()
    if row is None:
        raise NotFound(f"no test clock has the id {clock_id}")
    return row


async def _change(connection: AsyncConnection, clock_id: str, **values: datetime | None) -> None:
    await connection.execute(
        update(test_clocks)
        .where(test_clocks.c.id == clock_id)
        .values(**values, updated_at=datetime.now(UTC))
    )


def _clock(row: Row[Any]) -> TestClock:
    return TestClock(**row._mapping)
