"""What is deleted or void here, taken back at Stripe.

Ours is moved by `collect.py`.
"""

from tallyman.payments.once import CLOCKS
from tallyman.payments.stripe_calls import StripeCalls, generation_metadata
from tallyman.payments.stripe_lines import INVOICE_KEY
from tallyman.payments.stripe_memory import key_of
from tallyman.store.stripe_invoices import StripeSync


async def is_gone(calls: StripeCalls, sync: StripeSync, stripe_customer: str | None) -> bool:
    """Take it back; False if that is too late, since it is paid.

    The customer is needed where it is not known whether a draft was made: that is never charged, and
    is deleted where it is found.

    Raises:
        StripeRefused: it cannot be taken back.
        StripeUnanswered: Stripe did not answer.
    """
    if sync.stripe_id is not None:
        found = await calls.invoice(sync.stripe_id)
    elif sync.attempted_at is not None and stripe_customer is not None:
        made = generation_metadata(INVOICE_KEY, sync.invoice_id, sync.generation)
        found = await calls.find_invoice(stripe_customer, made, sync.attempted_at - CLOCKS)
    else:
        return True
    if found is None or found.status == "void":
        return True
    if found.status == "draft":
        await calls.delete_draft(found.id)
        return True
    if found.status == "paid":
        return False
    voided = await calls.void(found.id, f"{key_of(sync)}-void-{sync.failures}")
    return voided.status == "void"


async def is_void(calls: StripeCalls, sync: StripeSync) -> bool:
    """Void there what is void here; False where it was paid meanwhile: someone must refund it.

    Raises:
        StripeRefused: it cannot be taken back.
        StripeUnanswered: Stripe did not answer.
    """
    found = None if sync.stripe_id is None else await calls.invoice(sync.stripe_id)
    if found is None or found.status in ("void", "draft"):
        return True
    if found.status == "paid":
        return False
    await calls.void(found.id, f"{key_of(sync)}-void-{sync.failures}")
    return True
