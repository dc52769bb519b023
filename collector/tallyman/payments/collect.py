"""The way of one invoice through Stripe: made, lined, finalized, paid, and what became of it.

Killed between any two calls, the next look goes on: what may have been done is asked for again under
the same key, or looked for. Only finalizing and paying move money, and both name one draft.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from tallyman.domain.billing_profile import CollectionMethod
from tallyman.domain.customer import Customer
from tallyman.domain.invoice import Invoice, IssueSeverity, ValidationIssue, act
from tallyman.domain.invoice_state import InvoiceState, Trigger, following
from tallyman.errors import StripeKeySpent, StripeRefused, StripeUnanswered
from tallyman.payments.backoff import wait_after
from tallyman.payments.issue import Issuer
from tallyman.payments.look_back import looked_back
from tallyman.payments.operation_calls import OperationCalls
from tallyman.payments.standing import UNPAID, standing
from tallyman.payments.stripe_calls import StripeCalls, StripeInvoice
from tallyman.payments.stripe_customer import customer_at_stripe
from tallyman.payments.stripe_memory import BY, key_of
from tallyman.payments.stripe_stores import StripeStores
from tallyman.payments.withdraw import is_gone, is_void
from tallyman.store.stripe_invoices import StripeSync

LOOK_AGAIN: Final = timedelta(hours=6)  # at what is not paid, should a webhook be lost
_log = logging.getLogger(__name__)


class Collector:
    """Works on one invoice at a time, each time as far as it can."""

    def __init__(
        self,
        stores: StripeStores,
        calls: StripeCalls,
        more_calls: OperationCalls,
        clock: Callable[[], datetime],
    ) -> None:
        self._stores = stores
        self._calls = calls
        self._more_calls = more_calls
        self._clock = clock
        self._issuer = Issuer(stores, calls, clock)

    async def work(self, invoice_id: str) -> None:
        """One look at an invoice; nothing happens if another server has it.

        Raises:
            StripeUnanswered: Stripe did not answer; it is tried again later.
            StripeRefused: Stripe does not let us look; it is tried again later too.
        """
        sync = await self._stores.syncs.claim(invoice_id, self._clock())
        if sync is None:
            return
        invoice = await self._stores.invoices.get(self._stores.namespace, invoice_id)
        try:
            again = await self._go_on(invoice, sync)
        except (StripeUnanswered, StripeRefused) as err:
            _log.warning("invoice %s waits for Stripe: %s", invoice_id, err)
            noted = replace(sync, failures=sync.failures + 1, last_error=str(err))
            await self._stores.syncs.release(
                noted, self._clock() + wait_after(sync.failures, err), self._clock()
            )
            raise
        done = replace(sync, failures=0, last_error=None)
        work_at = None if again is None else self._clock() + again
        await self._stores.syncs.release(done, work_at, self._clock())

    async def customer(self, customer: Customer) -> str:
        """The id of the customer at Stripe: the one that is linked, or a new one.

        Raises:
            StripeUnanswered: Stripe did not answer.
            StripeRefused: Stripe takes no such customer.
        """
        return await customer_at_stripe(self._stores.links, self._calls, customer, self._clock())

    async def _go_on(self, invoice: Invoice, sync: StripeSync) -> timedelta | None:
        """How long until the next look; None where nothing is left to do."""
        match invoice.state:
            case InvoiceState.ISSUING_SYNCING:
                return await self._issue(invoice, sync)
            case InvoiceState.DELETE_SYNCING:
                return await self._withdraw(invoice, sync)
            case InvoiceState.VOIDED:
                if not await is_void(self._calls, sync):
                    await self._warn_of_payment(invoice)
                return None
            case InvoiceState.PAID:
                await self._look_back(invoice, sync)
                return None
            case InvoiceState.UNCOLLECTIBLE:
                return await self._collect(invoice, sync)
            case state if state in UNPAID:
                return await self._collect(invoice, sync)
        return None

    async def _issue(self, invoice: Invoice, sync: StripeSync) -> timedelta | None:
        try:
            sync, at_stripe = await self._issuer.issued(invoice, sync)
        except StripeRefused as err:
            await self._fail(invoice, err)
            return None
        kept = await self._synced(invoice, at_stripe)
        if kept is None:
            return timedelta()
        return await self._collect(kept, sync, at_stripe)

    async def _collect(
        self, invoice: Invoice, sync: StripeSync, at_stripe: StripeInvoice | None = None
    ) -> timedelta | None:
        """Ask for the payment, once, and move ours to where Stripe's stands."""
        if sync.stripe_id is None:
            return None
        if at_stripe is None:
            at_stripe = await self._calls.invoice(sync.stripe_id)
        if at_stripe is None:
            _log.error("invoice %s was deleted at Stripe", invoice.id)
            return None
        if _is_retried(invoice, sync):
            sync = await self._noted(replace(sync, round=sync.round + 1, asked_at=None))
        refused: StripeRefused | None = None
        if at_stripe.status == "open" and sync.asked_at is None and invoice.state in UNPAID:
            try:
                at_stripe = await self._ask(invoice, sync, at_stripe)
            except StripeRefused as err:
                refused = err
                at_stripe = await self._calls.invoice(at_stripe.id) or at_stripe
            except StripeKeySpent:
                await self._noted(replace(sync, round=sync.round + 1))
                raise
            sync = await self._noted(replace(sync, asked_at=self._clock()))
        if at_stripe.payment_id not in (None, sync.payment_id):
            sync = await self._noted(replace(sync, payment_id=at_stripe.payment_id))
        await self._settle(invoice, at_stripe, refused)
        match at_stripe.status:
            case "paid" | "void":
                return None
        return LOOK_AGAIN

    async def _look_back(self, invoice: Invoice, sync: StripeSync) -> None:
        if sync.payment_id is None:
            return
        after = await looked_back(self._stores, self._more_calls, invoice, sync.payment_id)
        if after != invoice:
            await self._replace(invoice, after, "came back")

    async def _ask(
        self, invoice: Invoice, sync: StripeSync, at_stripe: StripeInvoice
    ) -> StripeInvoice:
        key = f"{key_of(sync)}-collect-{sync.round}"
        if invoice.workflow.collection_method is CollectionMethod.SEND_INVOICE:
            return await self._calls.send(at_stripe.id, key)
        link = await self._stores.links.get(invoice.namespace, invoice.customer.id)
        return await self._calls.pay(at_stripe.id, key, link.default_payment_method_id)

    async def _settle(
        self, invoice: Invoice, at_stripe: StripeInvoice, refused: StripeRefused | None
    ) -> None:
        now = self._clock()
        invoice = await self._stores.invoices.get(invoice.namespace, invoice.id)
        trigger = standing(invoice, at_stripe, now, refused=refused is not None)
        after = replace(
            invoice, external_payment_id=at_stripe.payment_id or invoice.external_payment_id
        )
        sends = invoice.workflow.collection_method is CollectionMethod.SEND_INVOICE
        if sends and refused is None and after.sent_to_customer_at is None:
            after = replace(after, sent_to_customer_at=now)
        if trigger is not None and following(invoice.state, trigger, invoice.facts_at(now)):
            issues = (_issue_of("stripe_payment_refused", refused),) if refused else ()
            after = replace(act(after, trigger, now), validation_issues=issues)
        if after != invoice:
            action = "advanced" if trigger is None else str(trigger)
            await self._replace(invoice, after, action)

    async def _synced(self, invoice: Invoice, at_stripe: StripeInvoice) -> Invoice | None:
        """Ours issued, as Stripe's is; None if someone else changed it meanwhile."""
        now = self._clock()
        after = act(replace(invoice, validation_issues=()), Trigger.SYNCED, now)
        while following(after.state, Trigger.ADVANCE, after.facts_at(now)) is not None:
            after = act(after, Trigger.ADVANCE, now)
        after = replace(
            after, external_invoicing_id=at_stripe.id, external_payment_id=at_stripe.payment_id
        )
        return await self._replace(invoice, after, "synced")

    async def _withdraw(self, invoice: Invoice, sync: StripeSync) -> timedelta | None:
        """What is deleted here must be gone there before its lines are billed again."""
        now = self._clock()
        try:
            customer = None
            if sync.stripe_id is None and sync.attempted_at is not None:
                customer = await self.customer(invoice.customer)
            if await is_gone(self._calls, sync, customer):
                after = act(invoice, Trigger.SYNCED, now)
                await self._replace(invoice, after, "deleted")
                return None
            refused = StripeRefused(f"{sync.stripe_id} is paid at Stripe")
        except StripeRefused as err:
            refused = err
        await self._fail(invoice, refused)
        return None

    async def _warn_of_payment(self, invoice: Invoice) -> None:
        """It is void here and paid there, which someone must give back."""
        _log.error("invoice %s is void here and paid at Stripe", invoice.id)
        said = "was paid at Stripe before it was void there: give it back"
        issue = ValidationIssue("stripe_paid_though_void", said, IssueSeverity.WARNING)
        if issue not in invoice.validation_issues:
            warned = replace(invoice, validation_issues=(*invoice.validation_issues, issue))
            await self._replace(invoice, warned, "refused")

    async def _fail(self, invoice: Invoice, err: StripeRefused) -> None:
        _log.error("Stripe refused invoice %s: %s", invoice.id, err)
        failed = act(invoice, Trigger.FAIL, self._clock())
        issues = (_issue_of("stripe_refused", err),)
        await self._replace(invoice, replace(failed, validation_issues=issues), "refused")

    async def _replace(self, before: Invoice, after: Invoice, action: str) -> Invoice | None:
        kept = await self._stores.invoices.replace(
            before.namespace, [(before, after)], by=BY, action=action
        )
        return kept[0] if kept else None

    async def _noted(self, sync: StripeSync) -> StripeSync:
        await self._stores.syncs.note(sync, self._clock())
        return sync


def _is_retried(invoice: Invoice, sync: StripeSync) -> bool:
    """Whether someone asked for another payment since the last one."""
    return (
        invoice.state is InvoiceState.PAYMENT_PENDING
        and sync.asked_at is not None
        and invoice.updated_at > sync.asked_at
    )


def _issue_of(code: str, err: StripeRefused) -> ValidationIssue:
    return ValidationIssue(code, str(err), IssueSeverity.WARNING)
