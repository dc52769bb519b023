"""What Stripe's invoice says of ours, as the trigger that moves ours there. Pure."""

from datetime import datetime
from typing import Final

from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_state import InvoiceState, Trigger
from tallyman.payments.stripe_calls import StripeInvoice

_ENDS: Final = {
    "paid": Trigger.PAY,
    "uncollectible": Trigger.UNCOLLECTIBLE,
    "void": Trigger.VOID,
}
ISSUED: Final = ("open", *_ENDS)
UNPAID: Final = (
    InvoiceState.PAYMENT_PENDING,
    InvoiceState.PAYMENT_AUTHORIZED,
    InvoiceState.PAYMENT_FAILED,
    InvoiceState.PAYMENT_ACTION_REQUIRED,
    InvoiceState.OVERDUE,
)
_WAITING: Final = (InvoiceState.PAYMENT_PENDING, InvoiceState.PAYMENT_AUTHORIZED)


def standing(
    invoice: Invoice, at_stripe: StripeInvoice, now: datetime, *, refused: bool = False
) -> Trigger | None:
    """What to do to ours; None where it stands as Stripe's does.

    `refused` is whether a payment was refused just now. What Stripe says now is what counts, not
    what it has said before: so webhooks may come twice, late and in any order.
    """
    end = _ENDS.get(at_stripe.status)
    if end is not None:
        return end
    if at_stripe.status != "open" or invoice.state not in UNPAID:
        return None
    match at_stripe.payment_status:
        case "requires_action":
            return Trigger.REQUIRE_ACTION
        case "requires_capture":
            return Trigger.AUTHORIZE
        case "processing" | "succeeded":
            return None
    is_failed = refused or (
        at_stripe.attempted and at_stripe.payment_status == "requires_payment_method"
    )
    if is_failed:
        return Trigger.FAIL
    is_due = invoice.overdue_at is not None and invoice.overdue_at <= now
    return Trigger.OVERDUE if is_due and invoice.state in _WAITING else None
