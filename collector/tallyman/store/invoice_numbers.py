"""The numbers of invoices: one after the other without a gap, in each namespace.

It also is what lets one billing transaction of a namespace write at a time. Which invoices are final,
the domain says.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.invoice import Invoice
from tallyman.store.database import upsert
from tallyman.store.tables import invoice_numbers

DRAFT_NUMBER: Final = "DRAFT-"


async def lock_numbers(connection: AsyncConnection, namespace: str) -> int:
    """Let one billing transaction of a namespace write at a time; the last number given out."""
    fresh = upsert(connection, invoice_numbers).values(namespace=namespace, last=0)
    await connection.execute(fresh.on_conflict_do_nothing())
    held = select(invoice_numbers.c.last).where(invoice_numbers.c.namespace == namespace)
    return int((await connection.execute(held.with_for_update())).scalar_one())


async def number_invoices(
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
