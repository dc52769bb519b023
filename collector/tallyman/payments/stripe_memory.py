"""What Stripe remembers of our calls, and the keys that it remembers them by."""

from datetime import timedelta
from typing import Final

from tallyman.store.stripe_invoices import StripeSync

KEY_MEMORY: Final = timedelta(hours=23)  # Stripe keeps a key for at least 24 hours
CLOCKS: Final = timedelta(hours=1)  # the most by which Stripe's clock and ours may differ
BY: Final = "stripe"  # who changed what, in the audit log


def key_of(sync: StripeSync) -> str:
    """The beginning of every idempotency key of this invoice's draft."""
    return f"tallyman-{sync.invoice_id}-{sync.generation}"
