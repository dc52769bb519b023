"""Invoices with their lines, as they are kept: many made, changed and read at a time.

What is billed already, and up to when, is `billed_lines.py`'s. What an invoice is, billing decides.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, bindparam, case, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.access import LOCAL
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.period import EPOCH
from tallyman.errors import NotFound
from tallyman.store.audit import AuditEntry, record_documents
from tallyman.store.comparison import Comparison, condition_of
from tallyman.store.database import Database, upsert
from tallyman.store.invoice_documents import read_lines
from tallyman.store.invoice_rows import invoice_of, line_values_of, values_of
from tallyman.store.tables import billing_progress, invoice_lines, invoice_numbers, invoices

SORTABLE: Final = (
    "created_at",
    "updated_at",
    "issued_at",
    "due_at",
    "service_from",
    "status",
    "number",
)
DRAFT_NUMBER: Final = "DRAFT-"
AT_ONCE: Final = 500  # values of one IN
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class TimeComparison:
    """One condition on a time of a list, e.g. issued_at, gte, 1 December."""

    column: str
    operator: str
    moment: datetime


@dataclass(frozen=True)
class Progress:
    """Up to where a subscription is billed, and late events up to which watermark are looked at."""

    subscription_id: str
    customer_id: str
    billed_until: datetime
    corrected_until: datetime | None = None


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
            last = await _lock(connection, namespace)
            there = await _ids(connection, [invoice.id for invoice in made])
            taken = await _taken(connection, made)
            new = [one for one in made if one.id not in there and not _lines(one) & taken.keys()]
            numbered = await _number(connection, namespace, last, new)
            if numbered:
                await connection.execute(invoices.insert(), [values_of(one) for one in numbered])
                await _insert_lines(connection, numbered)
            await _advance_progress(connection, _earned(progress, made, numbered))
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
            last = await _lock(connection, namespace)
            revisions = await _revisions(connection, [before.id for before, _ in changes])
            taken = await _taken(connection, [after for _, after in changes])
            before_of = {before.id: before for before, _ in changes}
            wanted = [
                replace(after, revision=before.revision + 1)
                for before, after in changes
                if revisions.get(before.id) == before.revision
                and all(taken.get(line, after.id) == after.id for line in _lines(after))
            ]
            kept = await _number(connection, namespace, last, wanted)
            await _update(connection, kept)
            relined = [one for one in kept if one.lines is not before_of[one.id].lines]
            await _delete_lines(connection, relined)
            await _insert_lines(connection, relined)
            free = [x for x in kept if x.state is InvoiceState.DELETED or x.id in freeing]
            await _free(connection, free)
            changed = [after for _, after in changes]
            await _advance_progress(connection, _earned(progress, changed, kept))
            entries = [_audited(by, action, before_of[one.id], one) for one in kept]
            await record_documents(connection, entries)
            return kept

    async def get(self, namespace: str, invoice_id: str) -> Invoice:
        """The invoice with this id, deleted ones too.

        Raises:
            NotFound: there is none.
        """
        mine = and_(invoices.c.namespace == namespace, invoices.c.id == invoice_id)
        async with self._database.reading() as connection:
            found = await _read(connection, mine, limit=1)
        if not found:
            raise NotFound(f"no invoice has the id {invoice_id}")
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
            *(_time_condition(one) for one in times),
        )
        column = invoices.c[order_by]
        order = (column.desc(), invoices.c.id.desc()) if descending else (column, invoices.c.id)
        count = select(func.count()).select_from(invoices).where(wanted)
        async with self._database.reading() as connection:
            total = (await connection.execute(count)).scalar_one()
            return await _read(connection, wanted, order, limit, offset), total

    async def waking(
        self,
        namespace: str,
        now: datetime,
        *,
        customer_ids: Collection[str] | None = None,
        after: str = "",
        limit: int = AT_ONCE,
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
            return await _read(connection, wanted, (invoices.c.id,), limit)

    async def versions(
        self, keys: Collection[tuple[str, str, datetime]]
    ) -> dict[tuple[str, str, datetime], int]:
        """How many invoices there are, and were, of each (customer id, currency, invoice_at)."""
        columns = (invoices.c.customer_id, invoices.c.currency, invoices.c.invoice_at)
        found: dict[tuple[str, str, datetime], int] = {}
        async with self._database.reading() as connection:
            for some in _portions(sorted({key[0] for key in keys})):
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


async def _lock(connection: AsyncConnection, namespace: str) -> int:
    """Let one billing transaction of a namespace write at a time; the last number given out."""
    fresh = upsert(connection, invoice_numbers).values(namespace=namespace, last=0)
    await connection.execute(fresh.on_conflict_do_nothing())
    held = select(invoice_numbers.c.last).where(invoice_numbers.c.namespace == namespace)
    return int((await connection.execute(held.with_for_update())).scalar_one())


async def _number(
    connection: AsyncConnection, namespace: str, last: int, made: Sequence[Invoice]
) -> list[Invoice]:
    """Give those that are final the next numbers, without a gap."""
    numbered = []
    given = last
    for one in made:
        if one.state.is_final and one.state.status != "delete" and _is_draft_number(one.number):
            given += 1
            numbered.append(replace(one, number=f"INV-{given:06d}"))
        else:
            numbered.append(one)
    if given != last:
        await connection.execute(
            update(invoice_numbers)
            .where(invoice_numbers.c.namespace == namespace)
            .values(last=given)
        )
    return numbered


def _is_draft_number(number: str) -> bool:
    return number.startswith(DRAFT_NUMBER)


def draft_number(invoice_id: str) -> str:
    """The number until it is issued."""
    return f"{DRAFT_NUMBER}{invoice_id[-12:]}"


def _lines(invoice: Invoice) -> set[tuple[str, int]]:
    return {(line.billable_id, line.version) for line in invoice.lines}


async def _ids(connection: AsyncConnection, ids: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for some in _portions(list(ids)):
        rows = await connection.execute(select(invoices.c.id).where(invoices.c.id.in_(some)))
        found |= {row.id for row in rows}
    return found


async def _revisions(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in _portions(ids):
        rows = await connection.execute(
            select(invoices.c.id, invoices.c.revision)
            .where(invoices.c.id.in_(some))
            .with_for_update()
        )
        found |= {row.id: row.revision for row in rows}
    return found


async def _taken(
    connection: AsyncConnection, made: Sequence[Invoice]
) -> dict[tuple[str, int], str]:
    """Of the invoices' lines, those that are billed already, with the invoice that has each."""
    billables = [line.billable_id for invoice in made for line in invoice.lines]
    columns = (invoice_lines.c.billable_id, invoice_lines.c.version, invoice_lines.c.invoice_id)
    taken: dict[tuple[str, int], str] = {}
    for some in _portions(billables):
        rows = await connection.execute(
            select(*columns).where(
                invoice_lines.c.billable_id.in_(some), invoice_lines.c.freed.is_(False)
            )
        )
        taken |= {(row[0], row[1]): row[2] for row in rows}
    return taken


async def _update(connection: AsyncConnection, kept: Sequence[Invoice]) -> None:
    if not kept:
        return
    rows = [values_of(one) | {"which": one.id} for one in kept]
    names = [name for name in rows[0] if name not in ("which", "id")]
    await connection.execute(
        update(invoices)
        .where(invoices.c.id == bindparam("which"))
        .values({name: bindparam(name) for name in names}),
        rows,
    )


async def _insert_lines(connection: AsyncConnection, made: Sequence[Invoice]) -> None:
    rows = line_values_of(made)
    if rows:
        await connection.execute(invoice_lines.insert(), rows)


async def _delete_lines(connection: AsyncConnection, changed: Sequence[Invoice]) -> None:
    for some in _portions([one.id for one in changed]):
        await connection.execute(invoice_lines.delete().where(invoice_lines.c.invoice_id.in_(some)))


async def _free(connection: AsyncConnection, freed: Sequence[Invoice]) -> None:
    """Let the lines be billed again, and put back up to where their subscriptions are billed."""
    for invoice in freed:
        await connection.execute(
            update(invoice_lines).where(invoice_lines.c.invoice_id == invoice.id).values(freed=True)
        )
        before = invoice.service_period.from_ - _MICROSECOND
        await connection.execute(
            update(billing_progress)
            .where(
                billing_progress.c.subscription_id.in_({x.subscription_id for x in invoice.lines}),
                billing_progress.c.billed_until > before,
            )
            .values(billed_until=before)
        )
        await connection.execute(
            update(billing_progress)
            .where(billing_progress.c.customer_id == invoice.customer.id)
            .values(corrected_until=EPOCH)
        )


def _earned(
    progress: Sequence[Progress], given: Sequence[Invoice], kept: Sequence[Invoice]
) -> list[Progress]:
    """The progress of customers whose invoices are all kept: others' was someone else's to make."""
    ids = {one.id for one in kept}
    refused = {one.customer.id for one in given if one.id not in ids}
    return [one for one in progress if one.customer_id not in refused]


async def _advance_progress(connection: AsyncConnection, progress: Sequence[Progress]) -> None:
    """Put it forward, never back: another run may be ahead."""
    if not progress:
        return
    table = billing_progress
    insert = upsert(connection, table)
    ahead = insert.excluded.billed_until > table.c.billed_until
    later = insert.excluded.corrected_until > table.c.corrected_until
    await connection.execute(
        insert.on_conflict_do_update(
            index_elements=["subscription_id"],
            set_={
                "billed_until": _greater(ahead, insert.excluded, table.c, "billed_until"),
                "corrected_until": _greater(
                    or_(later, table.c.corrected_until.is_(None)),
                    insert.excluded,
                    table.c,
                    "corrected_until",
                ),
            },
        ),
        [vars(one) for one in progress],
    )


def _greater(is_greater: Any, given: Any, there: Any, name: str) -> Any:
    return case((is_greater, given[name]), else_=there[name])


async def _read(
    connection: AsyncConnection,
    wanted: ColumnElement[bool],
    order: Sequence[Any] = (),
    limit: int = 20,
    offset: int = 0,
) -> list[Invoice]:
    statement = select(invoices).where(wanted).order_by(*order).offset(offset).limit(limit)
    rows = (await connection.execute(statement)).all()
    lines: dict[str, list[InvoiceLine]] = defaultdict(list)
    for some in _portions([row.id for row in rows]):
        found = (
            await connection.execute(
                select(invoice_lines.c.invoice_id, invoice_lines.c.body)
                .where(invoice_lines.c.invoice_id.in_(some))
                .order_by(invoice_lines.c.invoice_id, invoice_lines.c.position)
            )
        ).all()
        for row, line in zip(found, read_lines(row.body for row in found), strict=True):
            lines[row.invoice_id].append(line)
    return [invoice_of(row, lines[row.id]) for row in rows]


def _time_condition(one: TimeComparison) -> ColumnElement[bool]:
    column = invoices.c[one.column]
    match one.operator:
        case "eq":
            return column == one.moment
        case "lt":
            return column < one.moment
        case "lte":
            return column <= one.moment
        case "gt":
            return column > one.moment
        case "gte":
            return column >= one.moment
    raise AssertionError(one.operator)


def _audited(by: str, action: str, before: Invoice | None, after: Invoice) -> AuditEntry:
    return AuditEntry(
        namespace=after.namespace,
        at=after.updated_at,
        actor=by,
        action=action,
        entity="invoice",
        entity_id=after.id,
        before=None if before is None else _summary(before),
        after=_summary(after),
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


def _portions(values: Sequence[str]) -> Iterable[Sequence[str]]:
    distinct = list(dict.fromkeys(values))
    return (distinct[at : at + AT_ONCE] for at in range(0, len(distinct), AT_ONCE))
