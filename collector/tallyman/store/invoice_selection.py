"""Which invoices are read, in which order, with their lines.

It writes nothing: see `invoices.py`.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_line import InvoiceLine
from tallyman.store.customer_subjects import portions
from tallyman.store.invoice_documents import read_lines
from tallyman.store.invoice_rows import invoice_of
from tallyman.store.tables import invoice_lines, invoices


@dataclass(frozen=True)
class TimeComparison:
    """One condition on a time of a list, e.g. issued_at, gte, 1 December."""

    column: str
    operator: str
    moment: datetime


def time_condition(one: TimeComparison) -> ColumnElement[bool]:
    """The condition as SQL."""
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


async def select_invoices(
    connection: AsyncConnection,
    wanted: ColumnElement[bool],
    order: Sequence[Any] = (),
    limit: int = 20,
    offset: int = 0,
) -> list[Invoice]:
    """The invoices that are wanted, in this order, each with its lines in theirs."""
    statement = select(invoices).where(wanted).order_by(*order).offset(offset).limit(limit)
    rows = (await connection.execute(statement)).all()
    lines: dict[str, list[InvoiceLine]] = defaultdict(list)
    for some in portions([row.id for row in rows]):
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
