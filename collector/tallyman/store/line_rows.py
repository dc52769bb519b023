"""The rows of invoice lines, as they are written with their invoices.

What is billed already, `billed_lines.py` reads.
"""

from collections.abc import Sequence

from sqlalchemy import not_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.invoice import Invoice
from tallyman.store.customer_subjects import portions
from tallyman.store.invoice_rows import line_values_of
from tallyman.store.tables import credit_note_lines, invoice_lines


def lines_of(invoice: Invoice) -> set[tuple[str, int]]:
    """What the lines bill: no two that count may have the same."""
    return {(line.billable_id, line.version) for line in invoice.lines}


async def taken_lines(
    connection: AsyncConnection, made: Sequence[Invoice]
) -> dict[tuple[str, int], str]:
    """Of the invoices' lines, those that are billed already, with the invoice, or the credit note,
    that has each."""
    billables = [line.billable_id for invoice in made for line in invoice.lines]
    columns = (invoice_lines.c.billable_id, invoice_lines.c.version, invoice_lines.c.invoice_id)
    taken: dict[tuple[str, int], str] = {}
    for some in portions(billables):
        rows = await connection.execute(
            select(*columns).where(
                invoice_lines.c.billable_id.in_(some), not_(invoice_lines.c.freed)
            )
        )
        taken |= {(row[0], row[1]): row[2] for row in rows}
        noted = await connection.execute(
            select(
                credit_note_lines.c.billable_id,
                credit_note_lines.c.version,
                credit_note_lines.c.credit_note_id,
            ).where(
                credit_note_lines.c.billable_id.in_(some),
                credit_note_lines.c.version.is_not(None),
                credit_note_lines.c.freed.is_(False),
            )
        )
        taken |= {(row[0], row[1]): row[2] for row in noted}
    return taken


async def insert_lines(connection: AsyncConnection, made: Sequence[Invoice]) -> None:
    """Keep the lines of new invoices."""
    rows = line_values_of(made)
    if rows:
        await connection.execute(invoice_lines.insert(), rows)


async def delete_lines(connection: AsyncConnection, changed: Sequence[Invoice]) -> None:
    """Forget the lines, to be put in anew."""
    for some in portions([one.id for one in changed]):
        await connection.execute(invoice_lines.delete().where(invoice_lines.c.invoice_id.in_(some)))


async def free_lines(connection: AsyncConnection, freed: Sequence[Invoice]) -> None:
    """Let the lines be billed again."""
    for some in portions(one.id for one in freed):
        await connection.execute(
            update(invoice_lines).where(invoice_lines.c.invoice_id.in_(some)).values(freed=True)
        )
