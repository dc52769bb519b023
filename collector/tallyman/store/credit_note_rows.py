"""Credit notes and refunds as rows, and back. Pure.

It runs no statement: see `credit_note_selection.py`, `credit_notes.py` and `refunds.py`.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from msgspec import convert
from sqlalchemy import Row

from tallyman.domain.counting import Counting
from tallyman.domain.credit_note import CreditKind, CreditNote, CreditNoteLine
from tallyman.domain.period import Period
from tallyman.domain.refund import Refund, RefundState
from tallyman.store.invoice_documents import document, read_lines, write_lines

_NOTE: Final = (
    "id", "namespace", "number", "invoice_id", "invoice_number", "customer_id", "currency",
    "reason", "actor", "created_at", "was_paid", "key", "watermark", "voided_at", "external_id",
)  # fmt: skip
_REFUND: Final = (
    "id", "namespace", "invoice_id", "credit_note_id", "customer_id", "currency", "reason",
    "actor", "created_at", "updated_at", "key", "external_id",
)  # fmt: skip


def note_values(note: CreditNote) -> dict[str, Any]:
    """The row of a credit note, without its lines."""
    counting = None if note.counting is None else document(note.counting)
    same = {name: getattr(note, name) for name in _NOTE}
    return {**same, "kind": note.kind.value, "counting": counting}


def note_line_values(note: CreditNote) -> list[dict[str, Any]]:
    """The rows of its lines."""
    corrections = [x.correction for x in note.lines if x.correction is not None]
    bodies = dict(zip([x.id for x in corrections], write_lines(corrections), strict=True))
    return [
        {
            "credit_note_id": note.id,
            "id": line.id,
            "position": at,
            "invoice_line_id": line.invoice_line_id,
            "billable_id": line.billable_id,
            "version": None if line.correction is None else line.correction.version,
            "freed": False,
            "name": line.name,
            "service_from": line.service_period.from_,
            "service_to": line.service_period.to,
            "amount": str(line.amount),
            "body": bodies.get(line.id),
        }
        for at, line in enumerate(note.lines)
    ]


def note_of(row: Row[Any], lines: Sequence[Row[Any]]) -> CreditNote:
    """The credit note of a row, with the rows of its lines in their order."""
    same = {name: getattr(row, name) for name in _NOTE}
    counting = None if row.counting is None else convert(row.counting, Counting)
    made = tuple(_line_of(one) for one in lines)
    return CreditNote(**same, kind=CreditKind(row.kind), lines=made, counting=counting)


def _line_of(row: Row[Any]) -> CreditNoteLine:
    correction = None
    if row.body is not None:
        [correction] = read_lines([row.body])
    return CreditNoteLine(
        id=row.id,
        invoice_line_id=row.invoice_line_id,
        billable_id=row.billable_id,
        name=row.name,
        service_period=Period(row.service_from, row.service_to),
        amount=Decimal(row.amount),
        correction=correction,
    )


def refund_values(refund: Refund) -> dict[str, Any]:
    """The row of a refund."""
    same = {name: getattr(refund, name) for name in _REFUND}
    return {**same, "amount": str(refund.amount), "state": refund.state.value}


def refund_of(row: Row[Any]) -> Refund:
    """The refund of a row."""
    same = {name: getattr(row, name) for name in _REFUND}
    return Refund(**same, amount=Decimal(row.amount), state=RefundState(row.state))
