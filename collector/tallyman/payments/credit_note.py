"""A credit note at Stripe: made once, followed until what was paid is back, or taken back.

Who asks for it, and why, is not known here; a refund without one is `refund.py`'s.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from tallyman.domain.stripe_amount import stripe_amount
from tallyman.domain.stripe_operation import OperationState, Returned, StripeOperation
from tallyman.errors import StripeRefused
from tallyman.payments.once import Attempt, make_once
from tallyman.payments.operation_calls import OperationCalls, StripeCreditNote
from tallyman.payments.refund import Keep, key_of, refunded
from tallyman.payments.stripe_calls import StripeInvoice, generation_metadata
from tallyman.payments.stripe_lines import MOST_CHARACTERS, OPERATION_KEY

_RETURNED: Final = {
    Returned.REFUND: "refund_amount",
    Returned.BALANCE: "credit_amount",
    Returned.ELSEWHERE: "out_of_band_amount",
}


async def credit(
    calls: OperationCalls,
    asked: StripeOperation,
    at_stripe: StripeInvoice,
    attempt: Attempt,
    now: datetime,
    keep: Keep,
) -> StripeOperation:
    """The operation after a look: what is not paid is not owed any more, what is paid comes back.

    Raises:
        StripeRefused: Stripe credits no such thing.
        StripeUnanswered: Stripe did not answer.
    """

    async def find(attempt: Attempt) -> StripeCreditNote | None:
        made = attempt.metadata(OPERATION_KEY, asked.id)
        return await calls.find_credit_note(at_stripe.id, made)

    if asked.is_canceling and asked.stripe_id is None:
        begun = await find(attempt)
        if begun is None:
            return replace(asked, state=OperationState.CANCELED)
        return await _taken_back(calls, asked, at_stripe, begun)
    if asked.stripe_id is not None:
        known = await calls.credit_note(asked.stripe_id)
        if asked.is_canceling:
            return await _taken_back(calls, asked, at_stripe, known)
        return await _credited(calls, asked, known)

    async def make(attempt: Attempt) -> StripeCreditNote:
        params = credit_note_params(asked, at_stripe, attempt.generation)
        return await calls.create_credit_note(params, f"{key_of(asked, attempt)}-credit-note")

    note = await make_once(attempt, now, keep=keep, find=find, make=make)
    return await _credited(calls, asked, note)


def credit_note_params(
    asked: StripeOperation, at_stripe: StripeInvoice, generation: int
) -> dict[str, Any]:
    """What a credit note is made with.

    Raises:
        StripeRefused: Stripe cannot take one of the amounts.
    """
    amount = stripe_amount(asked.amount, asked.currency)
    lines = [
        {
            "type": "custom_line_item",
            "description": line.description[:MOST_CHARACTERS],
            "quantity": 1,
            "unit_amount": stripe_amount(line.amount, asked.currency),
        }
        for line in asked.lines
    ]
    returned = {_RETURNED[asked.returned]: amount} if at_stripe.status == "paid" else {}
    return {
        "invoice": at_stripe.id,
        "lines": lines,
        "metadata": generation_metadata(OPERATION_KEY, asked.id, generation),
        **returned,
    }


async def _taken_back(
    calls: OperationCalls,
    asked: StripeOperation,
    at_stripe: StripeInvoice,
    note: StripeCreditNote,
) -> StripeOperation:
    """The operation once the note is void; of an invoice that was paid meanwhile it stays."""
    said = f"the invoice is {at_stripe.status} at Stripe"
    if note.status != "void" and at_stripe.status == "open":
        try:
            note = await calls.void_credit_note(note.id)
        except StripeRefused as err:  # or it was void since the look
            note, said = await calls.credit_note(note.id), str(err)
    followed = await _credited(calls, asked, note)
    return followed if note.status == "void" else replace(followed, said=said)


async def _credited(
    calls: OperationCalls, asked: StripeOperation, note: StripeCreditNote
) -> StripeOperation:
    made = replace(asked, stripe_id=note.id, payment_id=note.refund_id)
    if note.status == "void":
        return replace(made, state=OperationState.CANCELED)
    if note.refund_id is None:
        return replace(made, state=OperationState.SUCCEEDED, said=None)
    return refunded(made, await calls.refund(note.refund_id))
