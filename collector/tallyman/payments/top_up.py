"""A top-up of prepaid credit at Stripe: an invoice of its own, paid with the customer's way to pay.

What the credit is, and when it may be used, is not known here.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from tallyman.domain.stripe_amount import stripe_amount
from tallyman.domain.stripe_operation import OperationState, StripeOperation
from tallyman.errors import StripeKeySpent, StripeRefused, StripeUnanswered
from tallyman.payments.once import Attempt, make_once
from tallyman.payments.refund import key_of
from tallyman.payments.stripe_calls import StripeCalls, StripeInvoice, generation_metadata
from tallyman.payments.stripe_lines import (
    CUSTOMER_KEY,
    OPERATION_KEY,
    bare_invoice_params,
    operation_lines,
)
from tallyman.store.stripe_operation_rows import HeldOperation
from tallyman.store.stripe_operations import StripeOperationStore

LOOK_AGAIN: Final = timedelta(hours=6)  # at what is not paid, should a webhook be lost
_WAITING: Final = {
    "requires_action": OperationState.ACTION_REQUIRED,
    "processing": OperationState.PENDING,
    "requires_capture": OperationState.PENDING,
    "succeeded": OperationState.PENDING,
}


class TopUp:
    """One look at one top-up, of a customer that is at Stripe."""

    def __init__(
        self,
        store: StripeOperationStore,
        calls: StripeCalls,
        held: HeldOperation,
        customer: str,
        way_to_pay: str | None,
        now: datetime,
    ) -> None:
        self._store = store
        self._calls = calls
        self._held = held
        self._customer = customer
        self._way_to_pay = way_to_pay
        self._now = now

    async def look(self) -> tuple[HeldOperation, timedelta | None]:
        """How far it is then, and how long until the next look.

        Raises:
            StripeRefused: Stripe takes no such invoice.
            StripeUnanswered: Stripe did not answer.
        """
        if self._held.operation.is_canceling:
            at_stripe = await self._withdrawn()
            if at_stripe is None:
                return self._standing(OperationState.CANCELED), None
        else:
            at_stripe = await self._draft()
            if at_stripe.status == "draft":
                at_stripe = await self._finalized(at_stripe)
        said = None
        if at_stripe.status == "open" and self._held.asked_at is None and not self._is_canceling:
            at_stripe, said = await self._paid(at_stripe)
        return self._followed(at_stripe, said)

    @property
    def _is_canceling(self) -> bool:
        return self._held.operation.is_canceling

    @property
    def _attempt(self) -> Attempt:
        return Attempt(self._held.generation, self._held.attempted_at)

    async def _draft(self) -> StripeInvoice:
        """The invoice at Stripe, whatever has become of it; a new draft where there is none."""
        stripe_id = self._held.operation.stripe_id
        if stripe_id is not None:
            found = await self._calls.invoice(stripe_id)
            if found is not None:
                return found
            await self._anew()
        made = await make_once(
            self._attempt, self._now, keep=self._keep, find=self._find, make=self._make
        )
        await self._noted(stripe_id=made.id)
        return made

    async def _find(self, attempt: Attempt) -> StripeInvoice | None:
        made = attempt.metadata(OPERATION_KEY, self._held.operation.id)
        return await self._calls.find_invoice(self._customer, made, attempt.since)

    async def _make(self, attempt: Attempt) -> StripeInvoice:
        asked = self._held.operation
        params = top_up_params(asked, self._customer, self._way_to_pay, attempt.generation)
        return await self._calls.create_invoice(params, f"{key_of(asked, attempt)}-invoice")

    async def _finalized(self, draft: StripeInvoice) -> StripeInvoice:
        """With its lines, and its total ours; else the draft is deleted, and not finalized."""
        asked, key = self._held.operation, key_of(self._held.operation, self._attempt)
        lines = operation_lines(asked)
        if {line.key for line in lines} - await self._calls.line_keys(draft.id):
            try:
                draft = await self._calls.add_lines(draft.id, lines, f"{key}-lines")
            except StripeKeySpent:
                await self._calls.delete_draft(draft.id)
                await self._anew()
                raise
        wanted = stripe_amount(asked.amount, asked.currency)
        if draft.total != wanted:
            await self._calls.delete_draft(draft.id)
            await self._anew()
            raise StripeRefused(f"Stripe comes to {draft.total}, and the top-up to {wanted}")
        made = await self._calls.finalize(draft.id, f"{key}-finalize-{self._held.failures}")
        if made.status == "draft":
            raise StripeUnanswered(f"{made.id} is a draft after finalizing")
        return made

    async def _paid(self, at_stripe: StripeInvoice) -> tuple[StripeInvoice, str | None]:
        """Ask for the payment, once; with Stripe's words where it is refused."""
        key, said = f"{key_of(self._held.operation, self._attempt)}-collect", None
        try:
            at_stripe = await self._calls.pay(
                at_stripe.id, f"{key}-{self._held.round}", self._way_to_pay
            )
        except StripeRefused as err:
            said = str(err)
            at_stripe = await self._calls.invoice(at_stripe.id) or at_stripe
        except StripeKeySpent:
            await self._noted(round=self._held.round + 1)
            raise
        await self._noted(asked_at=self._now)
        return at_stripe, said

    async def _withdrawn(self) -> StripeInvoice | None:
        """What is left of it at Stripe: nothing, or an invoice that is void, or paid already."""
        stripe_id = self._held.operation.stripe_id
        if stripe_id is not None:
            found = await self._calls.invoice(stripe_id)
        else:
            found = None if self._held.attempted_at is None else await self._find(self._attempt)
        if found is not None and found.status == "draft":
            await self._calls.delete_draft(found.id)
            return None
        if found is not None and found.status in ("open", "uncollectible"):
            key = key_of(self._held.operation, self._attempt)
            return await self._calls.void(found.id, f"{key}-void-{self._held.failures}")
        return found

    def _followed(
        self, at_stripe: StripeInvoice, said: str | None
    ) -> tuple[HeldOperation, timedelta | None]:
        standing = self._held.operation
        self._held = replace(
            self._held,
            operation=replace(
                standing,
                stripe_id=at_stripe.id,
                payment_id=at_stripe.payment_id or standing.payment_id,
            ),
        )
        match at_stripe.status:
            case "paid":
                return self._standing(OperationState.SUCCEEDED), None
            case "void":
                return self._standing(OperationState.CANCELED), None
            case "uncollectible":
                return self._standing(OperationState.FAILED, said), LOOK_AGAIN
        state = _WAITING.get(at_stripe.payment_status or "", OperationState.PENDING)
        is_failed = said is not None or at_stripe.attempted
        if at_stripe.payment_status not in _WAITING and is_failed:
            state = OperationState.FAILED
        return self._standing(state, said or standing.said), LOOK_AGAIN

    def _standing(self, state: OperationState, said: str | None = None) -> HeldOperation:
        return replace(self._held, operation=replace(self._held.operation, state=state, said=said))

    async def _keep(self, attempt: Attempt) -> None:
        self._held = replace(self._held, generation=attempt.generation, attempted_at=attempt.at)
        await self._store.note(self._held, self._now)

    async def _anew(self) -> None:
        """Begin with another draft."""
        gone = replace(self._held.operation, stripe_id=None)
        self._held = replace(self._held, operation=gone)
        await self._keep(Attempt(self._held.generation + 1))

    async def _noted(self, *, stripe_id: str | None = None, **changed: Any) -> None:
        operation: StripeOperation = self._held.operation
        if stripe_id is not None:
            operation = replace(operation, stripe_id=stripe_id)
        self._held = replace(self._held, operation=operation, **changed)
        await self._store.note(self._held, self._now)


def top_up_params(
    asked: StripeOperation, stripe_customer: str, way_to_pay: str | None, generation: int
) -> dict[str, Any]:
    """What an empty draft of a top-up is made with; without a way to pay it is the customer's own."""
    params = bare_invoice_params(stripe_customer, asked.currency) | {
        "collection_method": "charge_automatically",
        "metadata": generation_metadata(OPERATION_KEY, asked.id, generation)
        | {CUSTOMER_KEY: asked.customer_id},
    }
    return params if way_to_pay is None else params | {"default_payment_method": way_to_pay}
