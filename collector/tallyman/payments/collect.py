"""The way of one invoice through Stripe: made, lined, finalized, paid, and what became of it.

Killed between any two calls, the next look goes on: what may have been done is asked for again under
the same key, or looked for. Only finalizing and paying move money, and both name one draft.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from tallyman.domain.billing_profile import CollectionMethod
from tallyman.domain.customer import Customer
from tallyman.domain.invoice import Invoice, IssueSeverity, ValidationIssue, act
from tallyman.domain.invoice_state import InvoiceState, Trigger, following
from tallyman.errors import StripeKeySpent, StripeRefused, StripeUnanswered
from tallyman.payments.standing import ISSUED, UNPAID, standing
from tallyman.payments.stripe_calls import StripeCalls, StripeInvoice, generation_metadata
from tallyman.payments.stripe_customer import customer_at_stripe
from tallyman.payments.stripe_lines import (
    INVOICE_KEY,
    LINES_AT_ONCE,
    invoice_params,
    lines_of,
    total_of,
)
from tallyman.payments.stripe_memory import BY, CLOCKS, KEY_MEMORY, key_of
from tallyman.payments.withdraw import is_gone, void
from tallyman.store.database import Database
from tallyman.store.invoices import InvoiceStore
from tallyman.store.stripe_customers import StripeCustomerStore
from tallyman.store.stripe_invoices import StripeInvoiceStore, StripeSync

LOOK_AGAIN: Final = timedelta(hours=6)  # at what is not paid, should a webhook be lost
FIRST_WAIT: Final = timedelta(seconds=5)
LONGEST_WAIT: Final = timedelta(hours=1)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StripeStores:
    """What collecting reads and writes, of one namespace."""

    namespace: str
    invoices: InvoiceStore
    customers: StripeCustomerStore
    syncs: StripeInvoiceStore

    @classmethod
    def of(cls, database: Database, namespace: str) -> "StripeStores":
        """The stores of a database."""
        return cls(
            namespace,
            InvoiceStore(database),
            StripeCustomerStore(database),
            StripeInvoiceStore(database, namespace),
        )


class Collector:
    """Works on one invoice at a time, each time as far as it can."""

    def __init__(
        self, stores: StripeStores, calls: StripeCalls, clock: Callable[[], datetime]
    ) -> None:
        self._stores = stores
        self._calls = calls
        self._clock = clock

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
            await self._stores.syncs.release(noted, self._clock() + _wait(sync, err), self._clock())
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
        return await customer_at_stripe(
            self._stores.customers, self._calls, customer, self._clock()
        )

    async def _go_on(self, invoice: Invoice, sync: StripeSync) -> timedelta | None:
        """How long until the next look; None where nothing is left to do."""
        match invoice.state:
            case InvoiceState.ISSUING_SYNCING:
                return await self._issue(invoice, sync)
            case InvoiceState.DELETE_SYNCING:
                return await self._withdraw(invoice, sync)
            case InvoiceState.VOIDED:
                await void(self._calls, sync)
                return None
            case InvoiceState.UNCOLLECTIBLE:
                return await self._collect(invoice, sync)
            case state if state in UNPAID:
                return await self._collect(invoice, sync)
        return None

    async def _issue(self, invoice: Invoice, sync: StripeSync) -> timedelta | None:
        try:
            sync, at_stripe = await self._draft(invoice, sync)
            if at_stripe.status == "draft":
                sync, at_stripe = await self._fill(invoice, sync, at_stripe)
                key = f"{key_of(sync)}-finalize-{sync.failures}"
                at_stripe = await self._calls.finalize(at_stripe.id, key)
            if at_stripe.status not in ISSUED:
                raise StripeUnanswered(f"{at_stripe.id} is {at_stripe.status} after finalizing")
        except StripeRefused as err:
            await self._fail(invoice, err)
            return None
        kept = await self._synced(invoice, at_stripe)
        if kept is None:
            return timedelta()
        return await self._collect(kept, sync, at_stripe)

    async def _draft(self, invoice: Invoice, sync: StripeSync) -> tuple[StripeSync, StripeInvoice]:
        """The invoice at Stripe, whatever has become of it; a new draft where there is none."""
        now = self._clock()
        if sync.stripe_id is not None:
            found = await self._calls.invoice(sync.stripe_id)
            if found is not None and found.status != "void":
                return sync, found
            sync = await self._anew(sync)
        customer = await self.customer(invoice.customer)
        spent = sync.attempted_at is not None and now - sync.attempted_at >= KEY_MEMORY
        if sync.attempted_at is None:
            sync = await self._noted(replace(sync, attempted_at=now))
        while True:
            made = generation_metadata(INVOICE_KEY, invoice.id, sync.generation)
            if spent:
                since = (sync.attempted_at or now) - CLOCKS
                found = await self._calls.find_invoice(customer, made, since)
                if found is not None:
                    break
                sync = await self._noted(
                    replace(sync, generation=sync.generation + 1, attempted_at=now)
                )
            try:
                found = await self._create(invoice, sync, customer)
                break
            except StripeKeySpent:
                if spent:
                    raise
                spent = True
        return await self._noted(replace(sync, stripe_id=found.id)), found

    async def _create(self, invoice: Invoice, sync: StripeSync, customer: str) -> StripeInvoice:
        params = invoice_params(invoice, customer, sync.generation)
        link = await self._stores.customers.get(invoice.namespace, invoice.customer.id)
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
        await self._settle(invoice, at_stripe, refused)
        match at_stripe.status:
            case "paid" | "void":
                return None
        return LOOK_AGAIN

    async def _ask(
        self, invoice: Invoice, sync: StripeSync, at_stripe: StripeInvoice
    ) -> StripeInvoice:
        key = f"{key_of(sync)}-collect-{sync.round}"
        if invoice.workflow.collection_method is CollectionMethod.SEND_INVOICE:
            return await self._calls.send(at_stripe.id, key)
        return await self._calls.pay(at_stripe.id, key)

    async def _settle(
        self, invoice: Invoice, at_stripe: StripeInvoice, refused: StripeRefused | None
    ) -> None:
        now = self._clock()
        invoice = await self._stores.invoices.get(invoice.namespace, invoice.id)
        trigger = standing(invoice, at_stripe, refused=refused is not None)
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

    async def _anew(self, sync: StripeSync) -> StripeSync:
        """Begin with another draft."""
        return await self._noted(
            replace(sync, stripe_id=None, generation=sync.generation + 1, attempted_at=None)
        )


def _wait(sync: StripeSync, err: StripeUnanswered | StripeRefused) -> timedelta:
    wait: timedelta = min(FIRST_WAIT * (1 << min(sync.failures, 20)), LONGEST_WAIT)
    if isinstance(err, StripeRefused) or err.after_seconds is None:
        return wait
    return max(wait, timedelta(seconds=err.after_seconds))


def _is_retried(invoice: Invoice, sync: StripeSync) -> bool:
    """Whether someone asked for another payment since the last one."""
    return (
        invoice.state is InvoiceState.PAYMENT_PENDING
        and sync.asked_at is not None
        and invoice.updated_at > sync.asked_at
    )


def _issue_of(code: str, err: StripeRefused) -> ValidationIssue:
    return ValidationIssue(code, str(err), IssueSeverity.WARNING)
