"""What is billed already: the lines of each billable, and up to when each subscription is billed.

It reads only; lines are written with their invoices, by `invoices.py`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, not_, or_, select

from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.period import Period
from tallyman.store.billing_progress import Progress
from tallyman.store.customer_subjects import portions
from tallyman.store.database import Database
from tallyman.store.invoice_documents import read_lines
from tallyman.store.tables import (
    billing_progress,
    credit_note_lines,
    credit_notes,
    invoice_lines,
    invoices,
    subscriptions,
)

_FINAL = [state.value for state in InvoiceState if state.is_final]


@dataclass(frozen=True)
class BilledLine:
    """A line that counts as billed, and whether it can still change. One that is void is forgiven.

    A correction may be on a credit note; then `invoice_id` is the note's.
    """

    line: InvoiceLine
    invoice_id: str
    is_final: bool
    on_credit_note: bool = False
    is_void: bool = False


class BilledLines:
    """The lines of every namespace; those that are freed do not count as billed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def progress(self, customer_ids: Iterable[str]) -> dict[str, Progress]:
        """Up to when the subscriptions of these customers are billed, by subscription."""
        found: dict[str, Progress] = {}
        table = billing_progress
        async with self._database.reading() as connection:
            for some in portions(customer_ids):
                rows = await connection.execute(select(table).where(table.c.customer_id.in_(some)))
                found |= {row.subscription_id: Progress(**row._mapping) for row in rows}
        return found

    async def customers(self, namespace: str, due_at: datetime | None = None) -> list[str]:
        """Whoever has or had a subscription; with a time only those of whom something may be due."""
        wanted = [subscriptions.c.namespace == namespace, subscriptions.c.deleted_at.is_(None)]
        whose = select(subscriptions.c.customer_id).distinct()
        if due_at is not None:
            known = billing_progress
            whose = whose.outerjoin(known, known.c.subscription_id == subscriptions.c.id)
            unknown = known.c.next_due_at.is_(None)  # and where nothing is known at all
            changed = known.c.as_of != subscriptions.c.updated_at
            wanted.append(or_(unknown, known.c.next_due_at <= due_at, changed))
        async with self._database.reading() as connection:
            return list((await connection.execute(whose.where(*wanted))).scalars())

    async def billed(self, billable_ids: Iterable[str]) -> set[str]:
        """Those of the billables that have a line."""
        found: set[str] = set()
        async with self._database.reading() as connection:
            for some in portions(billable_ids):
                rows = await connection.execute(
                    select(invoice_lines.c.billable_id).where(
                        invoice_lines.c.billable_id.in_(some), not_(invoice_lines.c.freed)
                    )
                )
                found |= {row.billable_id for row in rows}
        return found

    async def headless(self, customer_ids: Iterable[str]) -> dict[str, tuple[str, str]]:
        """Billables whose first line was freed while later ones count, with customer and currency.

        What is owed is then what the whole is now, less what those later ones have.
        """
        freed, counts = invoice_lines.alias("freed"), invoice_lines.alias("counts")
        statement = (
            select(freed.c.billable_id, freed.c.customer_id, invoices.c.currency)
            .join(counts, counts.c.billable_id == freed.c.billable_id)
            .join(invoices, invoices.c.id == freed.c.invoice_id)
            .where(freed.c.freed, freed.c.version == 1, not_(counts.c.freed))
            .group_by(freed.c.billable_id, freed.c.customer_id, invoices.c.currency)
            .having(func.min(counts.c.version) > 1)
        )
        found: dict[str, tuple[str, str]] = {}
        async with self._database.reading() as connection:
            for some in portions(customer_ids):
                rows = await connection.execute(statement.where(freed.c.customer_id.in_(some)))
                found |= {row.billable_id: (row.customer_id, row.currency) for row in rows}
        return found

    async def numbers(self, corrections: Iterable[InvoiceLine]) -> dict[str, str]:
        """The number of the invoice that has the line which each corrects, by that line's id."""
        corrected = {line.corrects: line.billable_id for line in corrections if line.corrects}
        found: dict[str, str] = {}
        async with self._database.reading() as connection:
            for some in portions(corrected):
                of = {corrected[line_id] for line_id in some}
                rows = await connection.execute(
                    select(invoice_lines.c.id, invoices.c.number)
                    .join(invoices, invoices.c.id == invoice_lines.c.invoice_id)
                    .where(
                        invoice_lines.c.billable_id.in_(of),
                        invoice_lines.c.id.in_(some),
                        not_(invoice_lines.c.freed),
                    )
                )
                found |= {row.id: row.number for row in rows}
        return found

    async def final_until(self, customer_ids: Iterable[str]) -> dict[str, datetime]:
        """The end of the last service period of each customer that is on a final invoice."""
        found: dict[str, datetime] = {}
        async with self._database.reading() as connection:
            for some in portions(customer_ids):
                rows = await connection.execute(
                    select(invoice_lines.c.customer_id, func.max(invoice_lines.c.service_to))
                    .join(invoices, invoices.c.id == invoice_lines.c.invoice_id)
                    .where(
                        invoice_lines.c.customer_id.in_(some),
                        not_(invoice_lines.c.freed),
                        invoices.c.state.in_(_FINAL),
                    )
                    .group_by(invoice_lines.c.customer_id)
                )
                found |= {row[0]: row[1] for row in rows}
        return found

    async def counted_until(
        self, customer_ids: Iterable[str], but: Collection[str] = ()
    ) -> dict[str, datetime]:
        """The earliest watermark of each customer's drafts that are counted and can still change.

        `but` are ids of invoices that do not matter.
        """
        found: dict[str, datetime] = {}
        async with self._database.reading() as connection:
            for some in portions(customer_ids):
                rows = await connection.execute(
                    select(invoices.c.customer_id, invoices.c.id, invoices.c.watermark).where(
                        invoices.c.customer_id.in_(some),
                        invoices.c.state.not_in(_FINAL),
                        invoices.c.quantity_snapshotted_at.is_not(None),
                        invoices.c.watermark.is_not(None),
                    )
                )
                for customer_id, invoice_id, watermark in rows:
                    if invoice_id not in but:
                        found[customer_id] = min(watermark, found.get(customer_id, watermark))
        return found

    async def touched(
        self,
        late: dict[str, Period],
        ended: Collection[tuple[str, str, datetime]] = (),
        billable_ids: Collection[str] = (),
    ) -> dict[str, list[BilledLine]]:
        """By billable, in the order of their versions, the lines that may have to be corrected:
        those of customers, by id, that are for some of a time, and those of (customer, subscription)
        that are for a time after a moment; and those of the billables given."""
        conditions = [
            and_(
                invoice_lines.c.customer_id == customer_id,
                invoice_lines.c.service_from <= period.to,
                invoice_lines.c.service_to > period.from_,
            )
            for customer_id, period in late.items()
        ]
        conditions += [
            and_(
                invoice_lines.c.customer_id == customer_id,
                invoice_lines.c.subscription_id == subscription_id,
                invoice_lines.c.service_to > end,
            )
            for customer_id, subscription_id, end in ended
        ]
        billables = set(billable_ids)
        async with self._database.reading() as connection:
            for at in range(0, len(conditions), 100):
                rows = await connection.execute(
                    select(invoice_lines.c.billable_id).where(
                        or_(*conditions[at : at + 100]), not_(invoice_lines.c.freed)
                    )
                )
                billables |= {row.billable_id for row in rows}
            found: dict[str, list[BilledLine]] = defaultdict(list)
            for one in await live_lines(connection, billables):
                found[one.line.billable_id].append(one)
        return found

    async def before(
        self, customer_id: str, corrections: Sequence[InvoiceLine], at: datetime
    ) -> dict[str, list[BilledLine]]:
        """By the id of each correction of the customer, what counted as billed when it was made: the
        lines that it was taken from, in the order of their versions.

        An earlier line was issued before, though its time may be later: it may be billed ahead. Of
        those that were billed again, with the same version, the first that was not freed yet counted.
        """
        of = {line.billable_id: line for line in corrections}
        was_freed = and_(
            invoice_lines.c.customer_id == customer_id,
            invoice_lines.c.freed,
            invoices.c.voided_at > at,
        )
        found: dict[str, dict[int, BilledLine]] = defaultdict(dict)
        async with self._database.reading() as connection:
            for some in portions(of):
                issued = and_(
                    invoice_lines.c.billable_id.in_(some), invoices.c.issued_at.is_not(None)
                )
                noted = or_(credit_notes.c.voided_at.is_(None), credit_notes.c.voided_at > at)
                every = await _read(connection, and_(issued, was_freed))  # each by its index
                every += await _read(connection, and_(issued, not_(invoice_lines.c.freed)))
                every += await _read_notes(
                    connection, and_(credit_note_lines.c.billable_id.in_(some), noted)
                )
                for one in sorted(every, key=lambda one: one.line.version):
                    correction = of[one.line.billable_id]
                    if one.line.version < correction.version:
                        found[correction.id].setdefault(one.line.version, one)
        return {id_: list(lines.values()) for id_, lines in found.items()}


async def live_lines(connection: Any, billable_ids: Iterable[str]) -> list[BilledLine]:
    """Every line that counts as billed of these, on invoices and on credit notes, by version."""
    found: list[BilledLine] = []
    for some in portions(billable_ids):
        mine = and_(invoice_lines.c.billable_id.in_(some), not_(invoice_lines.c.freed))
        found += await _read(connection, mine)
        noted = credit_note_lines.c.billable_id.in_(some)
        found += await _read_notes(connection, and_(noted, credit_note_lines.c.freed.is_(False)))
    return sorted(found, key=lambda one: (one.line.billable_id, one.line.version))


async def _read(connection: Any, wanted: ColumnElement[bool]) -> list[BilledLine]:
    rows: list[Row[Any]] = (
        await connection.execute(
            select(invoice_lines.c.invoice_id, invoice_lines.c.body, invoices.c.state)
            .join(invoices, invoices.c.id == invoice_lines.c.invoice_id)
            .where(wanted)
            .order_by(
                invoice_lines.c.billable_id,
                invoice_lines.c.version,
                invoices.c.voided_at,
            )
        )
    ).all()
    lines = read_lines(row.body for row in rows)
    return [
        BilledLine(line, row.invoice_id, state.is_final, is_void=state is InvoiceState.VOIDED)
        for row, line in zip(rows, lines, strict=True)
        for state in [InvoiceState(row.state)]
    ]


async def _read_notes(connection: Any, wanted: ColumnElement[bool]) -> list[BilledLine]:
    """The corrections on credit notes; goodwill bills nothing."""
    rows: list[Row[Any]] = (
        await connection.execute(
            select(credit_note_lines.c.credit_note_id, credit_note_lines.c.body)
            .join(credit_notes, credit_notes.c.id == credit_note_lines.c.credit_note_id)
            .where(wanted, credit_note_lines.c.version.is_not(None))
        )
    ).all()
    lines = read_lines(row.body for row in rows)
    return [
        BilledLine(line, row.credit_note_id, is_final=True, on_credit_note=True)
        for row, line in zip(rows, lines, strict=True)
    ]
