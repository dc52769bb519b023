"""An invoice that waits for whoever invoices outside: it has it now, and the invoice goes on.

Which invoices wait is the domain's (`invoice_state.py`).
"""

from dataclasses import dataclass, replace
from datetime import datetime

from tallyman.billing.advance import go_on, reopened
from tallyman.billing.books import Books
from tallyman.domain.access import LOCAL
from tallyman.domain.billing_profile import App
from tallyman.domain.invoice import Invoice, act
from tallyman.domain.invoice_state import Trigger
from tallyman.errors import InvoiceActionNotAvailable


@dataclass(frozen=True)
class Synchronized:
    """What the invoice and its payment are called outside, and when it was sent."""

    invoicing_id: str | None = None
    payment_id: str | None = None
    sent_to_customer_at: datetime | None = None


async def synchronized(
    books: Books, before: Invoice, said: Synchronized, now: datetime, *, by: str = LOCAL
) -> Invoice:
    """Let it go on from where it waits; said again of one that went on, it is not available.

    Raises:
        InvoiceActionNotAvailable: it is not invoiced outside, does not wait, or someone was first.
    """
    if before.app is not App.EXTERNAL_INVOICING:
        raise InvoiceActionNotAvailable(f"invoice {before.id} is not invoiced outside")
    moved = replace(
        act(before, Trigger.SYNCED, now),
        external_invoicing_id=said.invoicing_id or before.external_invoicing_id,
        external_payment_id=said.payment_id or before.external_payment_id,
        sent_to_customer_at=said.sent_to_customer_at or before.sent_to_customer_at,
    )
    [opened] = await reopened(books, [moved])
    [after], progress = await go_on(books, [opened], now)
    kept = await books.invoices.replace(
        before.namespace, [(before, after)], progress, by=by, action="synchronized"
    )
    if not kept:
        raise InvoiceActionNotAvailable(f"invoice {before.id} was changed meanwhile; try again")
    return kept[0]
