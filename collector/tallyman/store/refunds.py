"""Refunds as they are kept: each a record of its own, whose state alone moves.

How much may be given back is the domain's (`credit_note.py`), held here under the namespace's lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from tallyman.domain.access import LOCAL
from tallyman.domain.credit_note import check_amount
from tallyman.domain.money import EXACT, total
from tallyman.domain.refund import Refund, RefundState
from tallyman.errors import Conflict, InvalidInput, InvalidParameter, NotFound, named_by
from tallyman.store.audit import AuditEntry, record_document
from tallyman.store.comparison import Comparison, condition_of
from tallyman.store.credit_note_rows import refund_of, refund_values
from tallyman.store.credit_note_selection import note_in
from tallyman.store.database import Database
from tallyman.store.invoice_numbers import lock_numbers
from tallyman.store.invoice_standing import Standing, standing_of
from tallyman.store.numbered_page import count_of, in_order
from tallyman.store.tables import refunds


@dataclass(frozen=True)
class RefundAsked:
    """What is to be given back of an invoice; without an amount, all that there is."""

    invoice_id: str
    reason: str
    actor: str = LOCAL
    amount: Decimal | None = None
    credit_note_id: str | None = None
    key: str | None = None


class RefundStore:
    """The refunds of every namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, namespace: str, asked: RefundAsked, state: RefundState, now: datetime
    ) -> Refund:
        """Keep a refund of what was paid and is not given back yet.

        Of a key that was used before for the same, the refund that was made then.

        Raises:
            NotFound: there is no such invoice or credit note.
            InvalidInput: it is more than was paid, or than the credit note took back.
            Conflict: the key was used for something else.
        """
        async with self._database.writing() as connection:
            await lock_numbers(connection, namespace)
            standing = await standing_of(connection, namespace, asked.invoice_id)
            known = await _of_key(connection, standing, asked)
            if known is not None:
                return known
            left, note_id = await _left(connection, standing, asked)
            invoice = standing.invoice
            amount = left if asked.amount is None else asked.amount
            check_amount("amount", amount, left, invoice.currency)
            made = Refund(
                id=str(ULID()),
                namespace=namespace,
                invoice_id=invoice.id,
                customer_id=invoice.customer.id,
                currency=invoice.currency,
                amount=amount,
                reason=asked.reason,
                actor=asked.actor,
                state=state,
                created_at=now,
                updated_at=now,
                credit_note_id=note_id,
                key=asked.key,
            )
            await connection.execute(refunds.insert().values(refund_values(made)))
            await record_document(connection, _audited(made, "created", asked.actor, None))
            return made

    async def move(
        self,
        refund: Refund,
        state: RefundState,
        now: datetime,
        *,
        external_id: str | None = None,
        by: str = LOCAL,
    ) -> Refund:
        """What became of it, as whoever gives the money back says."""
        after = replace(
            refund, state=state, updated_at=now, external_id=external_id or refund.external_id
        )
        if (after.state, after.external_id) == (refund.state, refund.external_id):
            return refund
        async with self._database.writing() as connection:
            mine = refunds.c.id == refund.id
            await connection.execute(update(refunds).where(mine).values(refund_values(after)))
            await record_document(connection, _audited(after, str(state), by, refund))
        return after

    async def get(self, namespace: str, refund_id: str) -> Refund:
        """The refund with this id.

        Raises:
            NotFound: there is none.
        """
        mine = and_(refunds.c.namespace == namespace, refunds.c.id == refund_id)
        async with self._database.reading() as connection:
            found = await _select(connection, mine)
        if not found:
            raise NotFound(f"no refund has the id {refund_id}")
        return found[0]

    async def of_key(self, namespace: str, key: str) -> Refund | None:
        """The refund that was made by this key."""
        mine = and_(refunds.c.namespace == namespace, refunds.c.key == key)
        async with self._database.reading() as connection:
            found = await _select(connection, mine)
        return found[0] if found else None

    async def page(
        self,
        namespace: str,
        where: Sequence[Comparison] = (),
        *,
        descending: bool = False,
        offset: int = 0,
        limit: int = 20,
    ) -> tuple[list[Refund], int]:
        """One page in the order of their times, and how many there are on all pages."""
        wanted = and_(
            refunds.c.namespace == namespace,
            *(condition_of(refunds.c[one.column], one) for one in where),
        )
        async with self._database.reading() as connection:
            every = await count_of(connection, refunds, wanted)
            found = await _select(connection, wanted, descending, limit, offset)
            return found, every


async def _left(
    connection: AsyncConnection, standing: Standing, asked: RefundAsked
) -> tuple[Decimal, str | None]:
    """The most that can be given back, and the id of the credit note that it is for."""
    left = standing.balance.refundable
    if asked.credit_note_id is None:
        return left, None
    invoice = standing.invoice
    with named_by("credit_note_id"):
        note = await note_in(connection, invoice.namespace, asked.credit_note_id)
    if note.invoice_id != invoice.id or note.voided_at is not None:
        reason = f"is not of the invoice {invoice.number}, or is void"
        parameter = InvalidParameter("credit_note_id", "invalid", reason)
        raise InvalidInput(f"credit_note_id {reason}", [parameter])
    given = [
        one.amount
        for one in await _select(connection, refunds.c.credit_note_id == note.id)
        if one.state.counts
    ]
    of_note = EXACT.subtract(note.total, total(given)) if note.was_paid else Decimal(0)
    return min(left, of_note), note.id


async def _of_key(
    connection: AsyncConnection, standing: Standing, asked: RefundAsked
) -> Refund | None:
    if asked.key is None:
        return None
    namespace = standing.invoice.namespace
    mine = and_(refunds.c.namespace == namespace, refunds.c.key == asked.key)
    found = await _select(connection, mine)
    if not found:
        return None
    [known] = found
    same = known.invoice_id == standing.invoice.id and known.reason == asked.reason
    if not same or asked.amount not in (None, known.amount):
        raise Conflict(f"the key {asked.key} was used for another refund, {known.id}")
    return known


async def _select(
    connection: AsyncConnection,
    wanted: ColumnElement[bool],
    descending: bool = False,
    limit: int | None = None,
    offset: int = 0,
) -> list[Refund]:
    by = in_order(refunds.c.created_at, refunds.c.id, descending=descending)
    statement = select(refunds).where(wanted).order_by(*by).offset(offset).limit(limit)
    return [refund_of(row) for row in await connection.execute(statement)]


def _audited(after: Refund, action: str, by: str, before: Refund | None) -> AuditEntry:
    return AuditEntry(
        namespace=after.namespace,
        at=after.updated_at,
        actor=by,
        action=action,
        entity="refund",
        entity_id=after.id,
        before=None if before is None else _said(before),
        after=_said(after),
    )


def _said(refund: Refund) -> dict[str, object]:
    names = ("invoice_id", "credit_note_id", "amount", "currency", "reason", "external_id")
    return {name: getattr(refund, name) for name in names} | {"state": refund.state.value}
