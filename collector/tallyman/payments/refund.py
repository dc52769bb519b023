"""A refund at Stripe: made once, and followed until the money is back.

Who asks for it, and why, is not known here.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from tallyman.domain.stripe_amount import stripe_amount
from tallyman.domain.stripe_operation import OperationState, StripeOperation
from tallyman.errors import StripeRefused
from tallyman.payments.once import Attempt, make_once
from tallyman.payments.operation_calls import OperationCalls, StripeRefund
from tallyman.payments.stripe_calls import generation_metadata
from tallyman.payments.stripe_lines import OPERATION_KEY

Keep = Callable[[Attempt], Awaitable[None]]
_REFUND: Final = {
    "succeeded": OperationState.SUCCEEDED,
    "failed": OperationState.FAILED,
    "canceled": OperationState.CANCELED,
    "requires_action": OperationState.ACTION_REQUIRED,
}


async def refund(
    calls: OperationCalls,
    asked: StripeOperation,
    payment_id: str | None,
    attempt: Attempt,
    now: datetime,
    keep: Keep,
) -> StripeOperation:
    """The operation after a look.

    Raises:
        StripeRefused: nothing was paid, or not that much.
        StripeUnanswered: Stripe did not answer.
    """
    if asked.stripe_id is not None:
        return refunded(asked, await calls.refund(asked.stripe_id))
    if payment_id is None:
        raise StripeRefused("nothing was paid at Stripe that could be given back")

    async def find(attempt: Attempt) -> StripeRefund | None:
        made = attempt.metadata(OPERATION_KEY, asked.id)
        return await calls.find_refund(payment_id, made)

    async def make(attempt: Attempt) -> StripeRefund:
        params = refund_params(asked, payment_id, attempt.generation)
        return await calls.create_refund(params, f"{key_of(asked, attempt)}-refund")

    made = await make_once(attempt, now, keep=keep, find=find, make=make)
    return refunded(asked, made)


def refund_params(asked: StripeOperation, payment_id: str, generation: int) -> dict[str, Any]:
    """What a refund is made with.

    Raises:
        StripeRefused: Stripe cannot take the amount.
    """
    return {
        "payment_intent": payment_id,
        "amount": stripe_amount(asked.amount, asked.currency),
        "metadata": generation_metadata(OPERATION_KEY, asked.id, generation),
    }


def refunded(asked: StripeOperation, made: StripeRefund) -> StripeOperation:
    """The operation that stands as its refund does."""
    known = asked if asked.stripe_id is not None else replace(asked, stripe_id=made.id)
    state = _REFUND.get(made.status, OperationState.PENDING)
    return replace(known, state=state, said=made.reason)


def key_of(asked: StripeOperation, attempt: Attempt) -> str:
    """The beginning of every idempotency key of this operation."""
    return f"tallyman-{asked.id}-{attempt.generation}"
