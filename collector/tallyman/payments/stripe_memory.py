"""Who we are to Stripe's memory of calls: the keys that it remembers an invoice's by.

How long it does is `once.py`'s.
"""

from typing import Final

from tallyman.store.stripe_invoices import StripeSync

BY: Final = "stripe"  # who changed what, in the audit log


def key_of(sync: StripeSync) -> str:
    """The beginning of every idempotency key of this invoice's draft."""
    return f"tallyman-{sync.invoice_id}-{sync.generation}"
