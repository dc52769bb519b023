"""The invoice lines of a time, of all customers: what was invoiced, and what is still on drafts.

It reads only. What is on no invoice yet is billing's: see `billing/preview.py`.
"""

from dataclasses import dataclass

from sqlalchemy import select

from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.period import Period
from tallyman.store.database import Database
from tallyman.store.invoice_documents import read_lines
from tallyman.store.tables import invoice_lines, invoices


@dataclass(frozen=True)
class CustomersLine:
    """A line, whose it is, and whether its invoice is final."""

    line: InvoiceLine
    customer_id: str
    is_final: bool


async def lines_of_time(database: Database, namespace: str, time: Period) -> list[CustomersLine]:
    """The lines whose service period begins in the time, of invoices neither void nor deleted."""
    gone = [InvoiceState.VOIDED.value, InvoiceState.DELETED.value]
    statement = (
        select(invoice_lines.c.body, invoice_lines.c.customer_id, invoices.c.state)
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
    async with database.reading() as connection:
        rows = (await connection.execute(statement)).all()
    lines = read_lines(row.body for row in rows)
    return [
        CustomersLine(line, row.customer_id, InvoiceState(row.state).is_final)
        for row, line in zip(rows, lines, strict=True)
    ]
