"""What Stripe is asked for beside an invoice: a credit note, a refund, a top-up of prepaid credit.

How it is done, once, is `payments/`'s; what it means for an invoice or a balance is its owner's.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from tallyman.domain.money import total


class OperationKind(StrEnum):
    """What is asked for."""

    CREDIT_NOTE = "credit_note"
    REFUND = "refund"
    TOP_UP = "top_up"


class OperationState(StrEnum):
    """How far it is; what Stripe says last counts, so a failed top-up may succeed later."""

    ASKED = "asked"
    PENDING = "pending"
    ACTION_REQUIRED = "action_required"
    FAILED = "failed"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    CANCELED = "canceled"

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be done about it."""
        return self in (OperationState.SUCCEEDED, OperationState.REFUSED, OperationState.CANCELED)


class Returned(StrEnum):
    """How what was paid already comes back: as money, as Stripe's balance, or not by Stripe."""

    REFUND = "refund"
    BALANCE = "balance"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True)
class OperationLine:
    """What part of the amount is for; the amount is in whole minor units."""

    description: str
    amount: Decimal


@dataclass(frozen=True)
class StripeOperation:
    """One thing that is asked for once: the same id is the same thing, whatever is killed.

    `id` is ours, of whatever asks: it is in Stripe's metadata and in every idempotency key.
    `invoice_id` is ours too: what is credited or refunded. A refund may be of a top-up instead, by
    that one's id in `top_up_id`. `returned` matters only for a credit note of a paid invoice.
    """

    id: str
    namespace: str
    kind: OperationKind
    customer_id: str
    currency: str
    lines: tuple[OperationLine, ...]
    invoice_id: str | None = None
    top_up_id: str | None = None
    returned: Returned = Returned.REFUND
    state: OperationState = OperationState.ASKED
    is_canceling: bool = False
    stripe_id: str | None = None
    payment_id: str | None = None
    said: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def amount(self) -> Decimal:
        """The sum of the lines."""
        return total(line.amount for line in self.lines)
