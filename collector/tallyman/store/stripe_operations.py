"""Credit notes, refunds and top-ups as they are asked of Stripe: kept here first, and done later.

Whoever asks does so in the transaction of what it is for, and hears in one of what became of it. What
is done at Stripe is `payments/`'s.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, func, or_, select, update

from tallyman.domain.access import LOCAL
from tallyman.domain.stripe_operation import OperationKind, OperationState, StripeOperation
from tallyman.errors import Conflict, NotFound
from tallyman.store.audit import AuditEntry, record_document
from tallyman.store.database import Database, upsert
from tallyman.store.stripe_invoices import CLAIM
from tallyman.store.stripe_operation_rows import (
    HeldOperation,
    asked_values,
    audited_values,
    held_of,
    operation_of,
)
from tallyman.store.tables import stripe_operations

BY: Final = "stripe"
Heard = Callable[[StripeOperation], Awaitable[None]]
"""Called in the transaction that keeps an operation's new state."""


class StripeOperationStore:
    """The operations of every namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ask(
        self, operation: StripeOperation, now: datetime, *, by: str = LOCAL
    ) -> StripeOperation:
        """Have it done; asked again, it is the one that is there, however far that is.

        Raises:
            Conflict: another thing was asked for under this id.
        """
        values = asked_values(operation) | {
            "id": operation.id,
            "namespace": operation.namespace,
            "state": str(OperationState.ASKED),
            "is_canceling": False,
            "generation": 0,
            "round": 0,
            "failures": 0,
            "hints": 0,
            "work_at": now,
            "created_at": now,
            "updated_at": now,
        }
        async with self._database.together():
            async with self._database.writing() as connection:
                insert = upsert(connection, stripe_operations).values(values)
                await connection.execute(insert.on_conflict_do_nothing())
            kept = await self.get(operation.namespace, operation.id)
            if asked_values(kept) != asked_values(operation):
                raise Conflict(f"{operation.id} was asked of Stripe already, and as another thing")
            if kept.state is OperationState.ASKED and kept.created_at == now:
                await self._record(by, "asked", None, kept, now)
        return kept

    async def get(self, namespace: str, operation_id: str) -> StripeOperation:
        """How far it is.

        Raises:
            NotFound: nothing was asked for under this id.
        """
        row = await self._row(operation_id, namespace)
        if row is None:
            raise NotFound(f"Stripe was asked for nothing with the id {operation_id}")
        return operation_of(row)

    async def of_invoice(self, namespace: str, invoice_id: str) -> list[StripeOperation]:
        """What was asked for about an invoice, the first one first."""
        table = stripe_operations.c
        statement = (
            select(stripe_operations)
            .where(table.namespace == namespace, table.invoice_id == invoice_id)
            .order_by(table.created_at, table.id)
        )
        async with self._database.reading() as connection:
            return [operation_of(row) for row in await connection.execute(statement)]

    async def cancel(
        self, namespace: str, operation_id: str, now: datetime, *, by: str = LOCAL
    ) -> StripeOperation:
        """Let a top-up be paid no more, or take a credit note back; its state says later whether that
        came in time.

        Raises:
            NotFound: there is none.
        """
        async with self._database.together():
            before = await self.get(namespace, operation_id)
            is_note = before.kind is OperationKind.CREDIT_NOTE  # which can be void once it is made
            takes_back = is_note and before.state is OperationState.SUCCEEDED
            if (before.state.is_over or before.is_canceling) and not takes_back:
                return before
            async with self._database.writing() as connection:
                await connection.execute(
                    update(stripe_operations)
                    .where(stripe_operations.c.id == operation_id)
                    .values(
                        is_canceling=True,
                        work_at=now,
                        updated_at=now,
                        hints=stripe_operations.c.hints + 1,
                    )
                )
            after = await self.get(namespace, operation_id)
            await self._record(by, "canceled", before, after, now)
        return after

    async def due(self, namespace: str, now: datetime, limit: int) -> list[tuple[str, str]]:
        """(id, customer id) of what is to be worked on now, what waits longest first."""
        table = stripe_operations.c
        statement = (
            select(table.id, table.customer_id)
            .where(
                table.namespace == namespace,
                table.work_at <= now,
                or_(table.claimed_until.is_(None), table.claimed_until <= now),
            )
            .order_by(table.work_at, table.id)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            rows = await connection.execute(statement)
            return [(row.id, row.customer_id) for row in rows]

    async def claim(self, operation_id: str, now: datetime) -> HeldOperation | None:
        """Keep others from it until it is released, or a while; None if another has it."""
        table = stripe_operations.c
        free = or_(table.claimed_until.is_(None), table.claimed_until <= now)
        async with self._database.writing() as connection:
            taken = await connection.execute(
                update(stripe_operations)
                .where(table.id == operation_id, table.work_at.is_not(None), free)
                .values(claimed_until=now + CLAIM)
                .returning(*table)
            )
            row = taken.one_or_none()
        return None if row is None else held_of(row)

    async def held(self, operation_id: str) -> HeldOperation:
        """It as it was last noted, for whoever has claimed it."""
        statement = select(stripe_operations).where(stripe_operations.c.id == operation_id)
        async with self._database.reading() as connection:
            return held_of((await connection.execute(statement)).one())

    async def note(self, held: HeldOperation, now: datetime) -> HeldOperation:
        """Keep how far it is, before or after a call."""
        async with self._database.writing() as connection:
            await connection.execute(
                update(stripe_operations)
                .where(stripe_operations.c.id == held.operation.id)
                .values(
                    stripe_id=held.operation.stripe_id,
                    payment_id=held.operation.payment_id,
                    generation=held.generation,
                    attempted_at=held.attempted_at,
                    round=held.round,
                    asked_at=held.asked_at,
                    updated_at=now,
                )
            )
        return held

    async def release(
        self, held: HeldOperation, work_at: datetime | None, now: datetime, heard: Heard | None
    ) -> None:
        """Let others at it, in its new state; what was hinted at meanwhile is looked at right away."""
        table, operation = stripe_operations.c, held.operation
        async with self._database.together():
            before = await self.get(operation.namespace, operation.id)
            async with self._database.writing() as connection:
                which = table.id == operation.id
                await connection.execute(
                    update(stripe_operations)
                    .where(which)
                    .values(
                        state=str(operation.state),
                        stripe_id=operation.stripe_id,
                        payment_id=operation.payment_id,
                        said=operation.said,
                        failures=held.failures,
                        claimed_until=None,
                        updated_at=now,
                    )
                )
                await connection.execute(
                    update(stripe_operations)
                    .where(which, table.hints == held.hints)
                    .values(work_at=work_at)
                )
            after = await self.get(operation.namespace, operation.id)
            if after.state is not before.state:
                await self._record(BY, str(after.state), before, after, now)
                if heard is not None:
                    await heard(after)

    async def hint(self, namespace: str, stripe_id: str, now: datetime) -> bool:
        """Look at this one now; False if it is none of ours."""
        table = stripe_operations.c
        async with self._database.writing() as connection:
            changed = await connection.execute(
                update(stripe_operations)
                .where(
                    table.namespace == namespace,
                    or_(table.stripe_id == stripe_id, table.payment_id == stripe_id),
                )
                .values(work_at=now, failures=0, hints=table.hints + 1)
            )
            return bool(changed.rowcount)

    async def count_waiting(self, namespace: str) -> int:
        """How many are not done, or wait for a call to be repeated."""
        table = stripe_operations.c
        statement = (
            select(func.count())
            .select_from(stripe_operations)
            .where(
                table.namespace == namespace,
                or_(table.state == str(OperationState.ASKED), table.failures > 0),
                table.work_at.is_not(None),
            )
        )
        async with self._database.reading() as connection:
            return int((await connection.execute(statement)).scalar_one())

    async def _row(self, operation_id: str, namespace: str) -> Row[Any] | None:
        statement = select(stripe_operations).where(
            stripe_operations.c.id == operation_id, stripe_operations.c.namespace == namespace
        )
        async with self._database.reading() as connection:
            return (await connection.execute(statement)).one_or_none()

    async def _record(
        self,
        by: str,
        action: str,
        before: StripeOperation | None,
        after: StripeOperation,
        now: datetime,
    ) -> None:
        async with self._database.writing() as connection:
            await record_document(
                connection,
                AuditEntry(
                    namespace=after.namespace,
                    at=now,
                    actor=by,
                    action=action,
                    entity="stripe_operation",
                    entity_id=after.id,
                    before=None if before is None else audited_values(before),
                    after=audited_values(after),
                ),
            )
