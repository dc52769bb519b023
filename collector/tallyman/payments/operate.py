"""The work on credit notes, refunds and top-ups: one at a time, each time as far as it can.

How each is done is in the module of that name; who asked is not known here.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, assert_never

from tallyman.domain.billing_profile import App
from tallyman.domain.stripe_operation import OperationKind, OperationState, StripeOperation
from tallyman.errors import StripeRefused, StripeUnanswered
from tallyman.payments.backoff import wait_after
from tallyman.payments.credit_note import credit
from tallyman.payments.once import Attempt
from tallyman.payments.operation_calls import OperationCalls
from tallyman.payments.refund import Keep, refund
from tallyman.payments.stripe_calls import StripeCalls, StripeInvoice
from tallyman.payments.stripe_customer import customer_at_stripe
from tallyman.payments.stripe_stores import StripeStores
from tallyman.payments.top_up import LOOK_AGAIN, TopUp
from tallyman.store.stripe_operation_rows import HeldOperation
from tallyman.store.stripe_operations import Heard

NOT_YET: Final = timedelta(minutes=1)  # until an invoice is looked for again that is on its way
Looked = tuple[HeldOperation, timedelta | None]
_log = logging.getLogger(__name__)


class Operator:
    """`heard` is called, in the transaction of the new state, with what of a kind has moved."""

    def __init__(
        self,
        stores: StripeStores,
        calls: StripeCalls,
        more_calls: OperationCalls,
        clock: Callable[[], datetime],
        heard: Mapping[OperationKind, Heard],
    ) -> None:
        self._stores = stores
        self._calls = calls
        self._more_calls = more_calls
        self._clock = clock
        self._heard = heard

    async def work(self, operation_id: str) -> None:
        """One look at an operation; nothing happens if another server has it.

        Raises:
            StripeUnanswered: Stripe did not answer; it is tried again later.
        """
        held = await self._stores.operations.claim(operation_id, self._clock())
        if held is None:
            return
        try:
            done, again = await self._look(held)
        except StripeRefused as err:
            _log.error("Stripe refused %s %s: %s", held.operation.kind, operation_id, err)
            refused = replace(held.operation, state=OperationState.REFUSED, said=str(err))
            done, again = replace(held, operation=refused), None
        except StripeUnanswered as err:
            _log.warning("%s %s waits for Stripe: %s", held.operation.kind, operation_id, err)
            kept = await self._stores.operations.held(operation_id)
            failed = replace(kept, failures=held.failures + 1, hints=held.hints)
            waiting = replace(failed, operation=replace(failed.operation, said=str(err)))
            await self._release(waiting, wait_after(held.failures, err))
            raise
        await self._release(replace(done, failures=0), again)

    async def _release(self, held: HeldOperation, again: timedelta | None) -> None:
        now = self._clock()
        heard = self._heard.get(held.operation.kind)
        work_at = None if again is None else now + again
        await self._stores.operations.release(held, work_at, now, heard)

    async def _look(self, held: HeldOperation) -> Looked:
        match held.operation.kind:
            case OperationKind.CREDIT_NOTE:
                return await self._credit(held)
            case OperationKind.REFUND:
                return await self._refund(held)
            case OperationKind.TOP_UP:
                return await self._top_up(held)
            case _:
                assert_never(held.operation.kind)

    async def _credit(self, held: HeldOperation) -> Looked:
        at_stripe = await self._invoice(held)
        if at_stripe is None:
            return held, NOT_YET
        done = await credit(
            self._more_calls,
            held.operation,
            at_stripe,
            _attempt(held),
            self._clock(),
            self._keeper(held),
        )
        await self._stores.syncs.hint(at_stripe.id, self._clock())  # less is owed, or nothing
        return _followed(held, done)

    async def _refund(self, held: HeldOperation) -> Looked:
        asked, payment_id = held.operation, None
        if asked.top_up_id is not None:
            topped_up = await self._stores.operations.get(asked.namespace, asked.top_up_id)
            payment_id = topped_up.payment_id
        elif asked.stripe_id is None:
            at_stripe = await self._invoice(held)
            if at_stripe is None:
                return held, NOT_YET
            payment_id = at_stripe.payment_id
        done = await refund(
            self._more_calls, asked, payment_id, _attempt(held), self._clock(), self._keeper(held)
        )
        return _followed(held, done)

    def _keeper(self, held: HeldOperation) -> Keep:
        """Writes an attempt down before it is made."""

        async def keep(attempt: Attempt) -> None:
            tried = replace(held, generation=attempt.generation, attempted_at=attempt.at)
            await self._stores.operations.note(tried, self._clock())

        return keep

    async def _top_up(self, held: HeldOperation) -> Looked:
        asked, now = held.operation, self._clock()
        [customer] = await self._stores.customers.with_ids(asked.namespace, [asked.customer_id])
        stripe_customer = await customer_at_stripe(self._stores.links, self._calls, customer, now)
        link = await self._stores.links.get(asked.namespace, asked.customer_id)
        top_up = TopUp(
            self._stores.operations,
            self._calls,
            held,
            stripe_customer,
            link.default_payment_method_id,
            now,
        )
        return await top_up.look()

    async def _invoice(self, held: HeldOperation) -> StripeInvoice | None:
        """The final invoice at Stripe that the operation is about; None if it is not there yet.

        Raises:
            StripeRefused: it never will be.
        """
        asked = held.operation
        if asked.invoice_id is None:
            raise StripeRefused(f"{asked.id} is about no invoice")
        invoice = await self._stores.invoices.get(asked.namespace, asked.invoice_id)
        if invoice.app is not App.STRIPE or invoice.deleted_at is not None:
            raise StripeRefused(f"invoice {invoice.number} is not at Stripe")
        sync = await self._stores.syncs.get(invoice.id)
        if sync is None or sync.stripe_id is None:
            return None
        found = await self._calls.invoice(sync.stripe_id)
        return None if found is None or found.status == "draft" else found


def _attempt(held: HeldOperation) -> Attempt:
    return Attempt(held.generation, held.attempted_at)


def _followed(held: HeldOperation, done: StripeOperation) -> Looked:
    """With when to look again: at what is on its way, should a webhook be lost."""
    is_over = done.state.is_over or done.state is OperationState.FAILED
    again = None if is_over else LOOK_AGAIN
    return replace(held, operation=done), again
