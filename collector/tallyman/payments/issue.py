"""An invoice's way to being final at Stripe: a draft, its lines, and nothing else on it.

Killed between any two calls, the next look goes on: what may have been done is asked for again under
the same key, or looked for. Its payment is `collect.py`'s.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from tallyman.domain.billing_profile import CollectionMethod
from tallyman.domain.invoice import Invoice
from tallyman.errors import StripeKeySpent, StripeRefused, StripeUnanswered
from tallyman.payments.once import Attempt, make_once
from tallyman.payments.standing import ISSUED
from tallyman.payments.stripe_calls import StripeCalls, StripeInvoice
from tallyman.payments.stripe_customer import customer_at_stripe
from tallyman.payments.stripe_lines import (
    INVOICE_KEY,
    LINES_AT_ONCE,
    invoice_params,
    lines_of,
    total_of,
)
from tallyman.payments.stripe_memory import key_of
from tallyman.payments.stripe_stores import StripeStores
from tallyman.store.stripe_invoices import StripeSync


class Issuer:
    """Brings one invoice at a time to where Stripe collects it."""

    def __init__(
        self, stores: StripeStores, calls: StripeCalls, clock: Callable[[], datetime]
    ) -> None:
        self._stores = stores
        self._calls = calls
        self._clock = clock

    async def issued(self, invoice: Invoice, sync: StripeSync) -> tuple[StripeSync, StripeInvoice]:
        """The final invoice at Stripe, made now or before.

        Raises:
            StripeRefused: Stripe takes no such invoice.
            StripeUnanswered: Stripe did not answer.
        """
        sync, at_stripe = await self._draft(invoice, sync)
        if at_stripe.status == "draft":
            sync, at_stripe = await self._fill(invoice, sync, at_stripe)
            key = f"{key_of(sync)}-finalize-{sync.failures}"
            at_stripe = await self._calls.finalize(at_stripe.id, key)
        if at_stripe.status not in ISSUED:
            raise StripeUnanswered(f"{at_stripe.id} is {at_stripe.status} after finalizing")
        return sync, at_stripe

    async def _draft(self, invoice: Invoice, sync: StripeSync) -> tuple[StripeSync, StripeInvoice]:
        """The invoice at Stripe, whatever has become of it; a new draft where there is none."""
        now = self._clock()
        if sync.stripe_id is not None:
            found = await self._calls.invoice(sync.stripe_id)
            if found is not None and found.status != "void":
                return sync, found
            sync = await self._anew(sync)
        customer = await customer_at_stripe(self._stores.links, self._calls, invoice.customer, now)

        async def keep(attempt: Attempt) -> None:
            nonlocal sync
            tried = replace(sync, generation=attempt.generation, attempted_at=attempt.at)
            sync = await self._noted(tried)

        async def find(attempt: Attempt) -> StripeInvoice | None:
            made = attempt.metadata(INVOICE_KEY, invoice.id)
            return await self._calls.find_invoice(customer, made, attempt.since)

        async def make(_: Attempt) -> StripeInvoice:
            return await self._create(invoice, sync, customer)

        tried = Attempt(sync.generation, sync.attempted_at)
        found = await make_once(tried, now, keep=keep, find=find, make=make)
        return await self._noted(replace(sync, stripe_id=found.id)), found

    async def _create(self, invoice: Invoice, sync: StripeSync, customer: str) -> StripeInvoice:
        params = invoice_params(invoice, customer, sync.generation)
        link = await self._stores.links.get(invoice.namespace, invoice.customer.id)
        if link.default_payment_method_id is not None:
            params["default_payment_method"] = link.default_payment_method_id
        if invoice.workflow.collection_method is CollectionMethod.SEND_INVOICE:
            issued_at = sync.attempted_at or self._clock()  # the same in each repetition
            params["due_date"] = int(invoice.workflow.due_after.after(issued_at).timestamp())
        return await self._calls.create_invoice(params, f"{key_of(sync)}-invoice")

    async def _fill(
        self, invoice: Invoice, sync: StripeSync, at_stripe: StripeInvoice
    ) -> tuple[StripeSync, StripeInvoice]:
        """Every line on the draft, and its total ours; else it is deleted, and not finalized.

        Raises:
            StripeRefused: Stripe takes no such lines, or comes to another total.
        """
        lines, wanted = lines_of(invoice), total_of(invoice)
        there = await self._calls.line_keys(at_stripe.id)
        for at in range(0, len(lines), LINES_AT_ONCE):
            some = lines[at : at + LINES_AT_ONCE]
            if {line.key for line in some} <= there:
                continue
            try:
                at_stripe = await self._calls.add_lines(
                    at_stripe.id, some, f"{key_of(sync)}-lines-{at}"
                )
            except StripeKeySpent:
                await self._calls.delete_draft(at_stripe.id)
                await self._anew(sync)
                raise
        if at_stripe.total != wanted:
            await self._calls.delete_draft(at_stripe.id)
            await self._anew(sync)
            raise StripeRefused(f"Stripe comes to {at_stripe.total}, and the invoice to {wanted}")
        return sync, at_stripe

    async def _noted(self, sync: StripeSync) -> StripeSync:
        await self._stores.syncs.note(sync, self._clock())
        return sync

    async def _anew(self, sync: StripeSync) -> StripeSync:
        """Begin with another draft."""
        return await self._noted(
            replace(sync, stripe_id=None, generation=sync.generation + 1, attempted_at=None)
        )
