"""Refunds: money that was paid for an invoice and is given back, as a record of its own.

What is taken back of the invoice's lines is `credit_note.py`'s.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class RefundState(StrEnum):
    """Pending until whoever collects has done it; one that failed or was canceled counts for nothing."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def counts(self) -> bool:
        """Whether the money is given back, or will be."""
        return self in (RefundState.PENDING, RefundState.SUCCEEDED)


@dataclass(frozen=True)
class Refund:
    """Of a credit note, if it has one. `key` is the caller's, by which it is made once."""

    id: str
    namespace: str
    invoice_id: str
    customer_id: str
    currency: str
    amount: Decimal
    reason: str
    actor: str
    state: RefundState
    created_at: datetime
    updated_at: datetime
    credit_note_id: str | None = None
    key: str | None = None
    external_id: str | None = None
