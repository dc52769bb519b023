"""Finds credit notes, with their lines, within a transaction.

How one is made is `credit_notes.py`'s.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.credit_note import CreditNote
from tallyman.errors import NotFound
from tallyman.store.credit_note_rows import note_of
from tallyman.store.customer_subjects import portions
from tallyman.store.tables import credit_note_lines, credit_notes


async def note_in(connection: AsyncConnection, namespace: str, note_id: str) -> CreditNote:
    """The credit note with this id or number.

    Raises:
        NotFound: there is none.
    """
    named = (credit_notes.c.id == note_id) | (credit_notes.c.number == note_id)
    found = await select_notes(connection, and_(credit_notes.c.namespace == namespace, named))
    if not found:
        raise NotFound(f"no credit note has the id or number {note_id}")
    return found[0]


async def select_notes(
    connection: AsyncConnection,
    wanted: ColumnElement[bool],
    order: Sequence[Any] = (credit_notes.c.created_at, credit_notes.c.id),
    limit: int | None = None,
    offset: int = 0,
) -> list[CreditNote]:
    """Credit notes with their lines."""
    statement = select(credit_notes).where(wanted).order_by(*order).offset(offset)
    rows = (await connection.execute(statement.limit(limit))).all()
    lines = await _lines(connection, [row.id for row in rows])
    return [note_of(row, lines[row.id]) for row in rows]


async def _lines(connection: AsyncConnection, ids: Collection[str]) -> dict[str, list[Any]]:
    lines: dict[str, list[Any]] = defaultdict(list)
    for some in portions(ids):
        found = await connection.execute(
            select(credit_note_lines)
            .where(credit_note_lines.c.credit_note_id.in_(some))
            .order_by(credit_note_lines.c.credit_note_id, credit_note_lines.c.position)
        )
        for row in found:
            lines[row.credit_note_id].append(row)
    return lines
