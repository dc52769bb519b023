"""Invoices with their lines, as they are kept: many made, changed and read at a time.

What is billed already is `billed_lines.py`'s. What an invoice is, billing decides.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from msgspec import to_builtins
from sqlalchemy import and_, bindparam, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.access import LOCAL
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_state import InvoiceState
from tallyman.errors import NotFound
from tallyman.store.audit import AuditEntry, record_documents
from tallyman.store.billing_progress import (
    Progress,
    advance_progress,
    earned,
    look_again,
    put_back_progress,
)
from tallyman.store.comparison import Comparison, condition_of
from tallyman.store.credit_booking import apply_credit
from tallyman.store.customer_subjects import portions
from tallyman.store.database import Database
from tallyman.store.invoice_numbers import lock_numbers, number_invoices
from tallyman.store.invoice_rows import values_of
from tallyman.store.invoice_selection import TimeComparison, select_invoices, time_condition
from tallyman.store.line_rows import (
    delete_lines,
    free_lines,
    insert_lines,
    lines_of,
    taken_lines,
)
from tallyman.store.numbered_page import count_of, in_order
from tallyman.store.tables import invoices

_SAID: Final = ("description", "labels", "supplier", "customer", "workflow")


class InvoiceStore:
    """The invoices of every namespace; every transaction is kept whole, or not at all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        namespace: str,
        made: Sequence[Invoice],
        progress: Sequence[Progress] = (),
        *,
        by: str = LOCAL,
    ) -> list[Invoice]:
        """Keep new invoices of one namespace; returns those that were new, as they are kept.

        One that is there already, or has a line that is billed already, is left out: someone else
        was first.
        """
        async with self._database.writing() as connection:
            last = await lock_numbers(connection, namespace)
            there = await _ids(connection, [invoice.id for invoice in made])
            taken = await taken_lines(connection, made)
            new = [one for one in made if one.id not in there and not lines_of(one) & taken.keys()]
            with_credit = await apply_credit(connection, [(None, one) for one in new])
            numbered = await number_invoices(connection, namespace, last, with_credit)
            if numbered:
                await connection.execute(invoices.insert(), values_of(numbered))
                await insert_lines(connection, numbered)
            await advance_progress(connection, earned(progress, made, numbered))
            await record_documents(
                connection, [_audited(by, "created", None, one) for one in numbered]
            )
            return numbered

    async def replace(
        self,
        namespace: str,
        changes: Sequence[tuple[Invoice, Invoice]],
        progress: Sequence[Progress] = (),
        *,
        by: str = LOCAL,
        action: str = "advanced",
        freeing: Collection[str] = (),
    ) -> list[Invoice]:
        """Put changed invoices in the place of what they were; returns them as they are kept.

        One that has been changed meanwhile by someone else is left as it is, and not returned. The
        lines of a deleted one, and of those whose ids are in `freeing`, may be billed again.
        """
        async with self._database.writing() as connection:
            last = await lock_numbers(connection, namespace)
            revisions = await _revisions(connection, [before.id for before, _ in changes])
            taken = await taken_lines(connection, [after for _, after in changes])
            before_of = {before.id: before for before, _ in changes}
            wanted = [
                replace(after, revision=before.revision + 1)
                for before, after in changes
                if revisions.get(before.id) == before.revision
                and all(taken.get(line, after.id) == after.id for line in lines_of(after))
            ]
            with_credit = await apply_credit(
                connection, [(before_of[one.id], one) for one in wanted]
            )
            kept = await number_invoices(connection, namespace, last, with_credit)
            await _update(connection, kept)
            relined = [one for one in kept if one.lines is not before_of[one.id].lines]
            await delete_lines(connection, relined)
            await insert_lines(connection, relined)
            free = [x for x in kept if x.state is InvoiceState.DELETED or x.id in freeing]
            await free_lines(connection, free)
            await put_back_progress(connection, free)
            await look_again(connection, [x for x in kept if x.state is InvoiceState.VOIDED])
            changed = [after for _, after in changes]
            await advance_progress(connection, earned(progress, changed, kept))
            entries = [_audited(by, action, before_of[one.id], one) for one in kept]
            await record_documents(connection, entries)
            return kept

    async def get(self, namespace: str, invoice_id: str) -> Invoice:
        """The invoice with this id or number, deleted ones too.

        Raises:
            NotFound: there is none.
        """
        named = or_(invoices.c.id == invoice_id, invoices.c.number == invoice_id)
        mine = and_(invoices.c.namespace == namespace, named)
        async with self._database.reading() as connection:
            found = await select_invoices(connection, mine, limit=1)
        if not found:
            raise NotFound(f"no invoice has the id or number {invoice_id}")
        return found[0]

    async def page(
        self,
        namespace: str,
        where: Sequence[Comparison] = (),
        times: Sequence[TimeComparison] = (),
        *,
        order_by: str = "created_at",
        descending: bool = False,
        offset: int = 0,
        limit: int = 20,
    ) -> tuple[list[Invoice], int]:
        """One page, and how many there are on all pages; deleted ones are left out."""
        wanted = and_(
            invoices.c.namespace == namespace,
            invoices.c.deleted_at.is_(None),
            *(condition_of(invoices.c[one.column], one) for one in where),
            *(time_condition(one) for one in times),
        )
        order = in_order(invoices.c[order_by], invoices.c.id, descending=descending)
        async with self._database.reading() as connection:
            total = await count_of(connection, invoices, wanted)
            return await select_invoices(connection, wanted, order, limit, offset), total

    async def waking(
        self,
        namespace: str,
        now: datetime,
        *,
        customer_ids: Collection[str] | None = None,
        after: str = "",
        limit: int = 500,
    ) -> list[Invoice]:
        """Invoices that may go on by themselves, by id, after the id given."""
        whose = [] if customer_ids is None else [invoices.c.customer_id.in_(customer_ids)]
        wanted = and_(
            invoices.c.wakes_at <= now,
            invoices.c.namespace == namespace,
            invoices.c.id > after,
            *whose,
        )
        async with self._database.reading() as connection:
            return await select_invoices(connection, wanted, (invoices.c.id,), limit)

    async def uncounted(self, namespace: str, customer_ids: Collection[str]) -> list[Invoice]:
        """The customers' drafts that wait to be counted."""
        found: list[Invoice] = []
        async with self._database.reading() as connection:
            for some in portions(customer_ids):
                wanted = and_(
                    invoices.c.namespace == namespace,
                    invoices.c.customer_id.in_(some),
                    invoices.c.status == "draft",
                    invoices.c.quantity_snapshotted_at.is_(None),
                )
                found += await select_invoices(connection, wanted, (invoices.c.id,), limit=10_000)
        return found

    async def versions(
        self, keys: Collection[tuple[str, str, datetime]]
    ) -> dict[tuple[str, str, datetime], int]:
        """How many invoices there are, and were, of each (customer id, currency, invoice_at)."""
        columns = (invoices.c.customer_id, invoices.c.currency, invoices.c.invoice_at)
        found: dict[tuple[str, str, datetime], int] = {}
        async with self._database.reading() as connection:
            for some in portions(sorted({key[0] for key in keys})):
                rows = await connection.execute(
                    select(*columns, func.max(invoices.c.version))
                    .where(invoices.c.customer_id.in_(some))
                    .group_by(*columns)
                )
                found |= {(row[0], row[1], row[2]): row[3] for row in rows}
        return {key: found[key] for key in keys if key in found}

    async def count_by_status(self) -> Counter[tuple[str, str]]:
        """How many invoices of all namespaces are in each (status, extended status)."""
        statement = select(invoices.c.status, invoices.c.state, func.count()).group_by(
            invoices.c.status, invoices.c.state
        )
        async with self._database.reading() as connection:
            rows = await connection.execute(statement)
            return Counter({(row[0], row[1]): row[2] for row in rows})


async def _ids(connection: AsyncConnection, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for some in portions(ids):
        rows = await connection.execute(select(invoices.c.id).where(invoices.c.id.in_(some)))
        found |= {row.id for row in rows}
    return found


async def _revisions(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in portions(ids):
        rows = await connection.execute(
            select(invoices.c.id, invoices.c.revision)
            .where(invoices.c.id.in_(some))
            .with_for_update()
        )
        found |= {row.id: row.revision for row in rows}
    return found


async def _update(connection: AsyncConnection, kept: Sequence[Invoice]) -> None:
    if not kept:
        return
    rows = [values | {"which": values["id"]} for values in values_of(kept)]
    names = [name for name in rows[0] if name not in ("which", "id")]
    await connection.execute(
        update(invoices)
        .where(invoices.c.id == bindparam("which"))
        .values({name: bindparam(name) for name in names}),
        rows,
    )


def _audited(by: str, action: str, before: Invoice | None, after: Invoice) -> AuditEntry:
    return AuditEntry(
        namespace=after.namespace,
        at=after.updated_at,
        actor=by,
        action=action,
        entity="invoice",
        entity_id=after.id,
        before=None if before is None else _summary(before) | _said(before, after),
        after=_summary(after) | ({} if before is None else _said(after, before)),
    )


def _summary(invoice: Invoice) -> dict[str, Any]:
    """The lines and amounts are in the invoice, which keeps them; here is what moved."""
    return {
        "number": invoice.number,
        "state": str(invoice.state),
        "total": invoice.totals.total,
        "currency": invoice.currency,
        "lines": len(invoice.lines),
        "watermark": invoice.watermark,
    }


def _said(invoice: Invoice, other: Invoice) -> dict[str, Any]:
    """What the invoice says otherwise than the other."""
    mine, others = ({name: getattr(one, name) for name in _SAID} for one in (invoice, other))
    return {name: to_builtins(mine[name]) for name in _SAID if mine[name] != others[name]}
