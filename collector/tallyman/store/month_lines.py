"""The invoice lines of a time, of all customers: what was invoiced and not taken back by credit notes,
and what is still on drafts.

It reads only. What is on no invoice yet is billing's: see `billing/preview.py`.
"""

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import select

from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.money import EXACT
from tallyman.domain.period import Period
from tallyman.store.database import Database
from tallyman.store.invoice_documents import read_lines
from tallyman.store.tables import credit_note_lines, credit_notes, invoice_lines, invoices


@dataclass(frozen=True)
class CustomersLine:
    """A line, whose it is, whether its invoice is final, and what credit notes took back of it."""

    line: InvoiceLine
    customer_id: str
    is_final: bool
    taken_back: Decimal = Decimal(0)


async def lines_of_time(database: Database, namespace: str, time: Period) -> list[CustomersLine]:
    """The lines whose service period begins in the time, of invoices neither void nor deleted."""
    gone = [InvoiceState.VOIDED.value, InvoiceState.DELETED.value]
    statement = (
        select(
            invoice_lines.c.invoice_id,
            invoice_lines.c.body,
            invoice_lines.c.customer_id,
            invoices.c.state,
        )
        .join(invoices, invoices.c.id == invoice_lines.c.invoice_id)
        .where(
            invoices.c.namespace == namespace,
            invoices.c.deleted_at.is_(None),
            invoices.c.state.not_in(gone),
            invoice_lines.c.service_from >= time.from_,
            invoice_lines.c.service_from < time.to,
        )
        .order_by(invoice_lines.c.id)
    )
    notes = (
        select(
            credit_notes.c.invoice_id,
            credit_note_lines.c.invoice_line_id,
            credit_note_lines.c.amount,
        )
        .join(credit_notes, credit_notes.c.id == credit_note_lines.c.credit_note_id)
        .where(
            credit_notes.c.namespace == namespace,
            credit_notes.c.voided_at.is_(None),
            credit_note_lines.c.service_from >= time.from_,
            credit_note_lines.c.service_from < time.to,
        )
    )
    taken: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    async with database.reading() as connection:
        rows = (await connection.execute(statement)).all()
        for note in await connection.execute(notes):
            key = note.invoice_id, note.invoice_line_id
            taken[key] = EXACT.add(taken[key], Decimal(note.amount))
    lines = read_lines(row.body for row in rows)
    return [
        CustomersLine(
            line,
            row.customer_id,
            InvoiceState(row.state).is_final,
            taken.get((row.invoice_id, line.id), Decimal(0)),
        )
        for row, line in zip(rows, lines, strict=True)
    ]
