"""Changes of a subscription: cancel it, take that back, or go on with another plan.

It does not know that a customer has one at a time: who stores it does.
"""

from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from tallyman.domain.plan import Plan
from tallyman.domain.service_period import EndProration, whole_milliseconds
from tallyman.domain.subscription import Subscription, SubscriptionStatus, start
from tallyman.errors import InvalidInput, InvalidParameter, SubscriptionNotChangeable


class EditTiming(StrEnum):
    """When a change takes effect, where it is not at a given time."""

    IMMEDIATE = "immediate"
    NEXT_BILLING_CYCLE = "next_billing_cycle"


Timing = EditTiming | datetime


def cancel(
    subscription: Subscription,
    timing: Timing,
    now: datetime,
    end_proration: EndProration | None = None,
) -> Subscription:
    """End it then. What was served until then is billed; what was paid in advance is not lost.

    `end_proration` is kept with the end: what the billing profile says later does not change it.

    Raises:
        SubscriptionNotChangeable: it is not active.
        InvalidInput: the time is in the past.
    """
    ends_at = _takes_effect(subscription, timing, now)
    return replace(subscription, active_to=ends_at, end_proration=end_proration, updated_at=now)


def unschedule_cancelation(subscription: Subscription, now: datetime) -> Subscription:
    """Go on as if it had not been canceled; its phases go on as planned.

    Raises:
        SubscriptionNotChangeable: it is not canceled, or has ended.
    """
    status = subscription.status_at(now)
    if status is not SubscriptionStatus.CANCELED:
        raise SubscriptionNotChangeable(f"subscription {subscription.id} is {status}, not canceled")
    return replace(subscription, active_to=None, end_proration=None, updated_at=now)


def change(
    subscription: Subscription,
    plan: Plan,
    timing: Timing,
    now: datetime,
    *,
    next_id: str,
    billing_anchor: datetime | None = None,
    end_proration: EndProration | None = None,
) -> tuple[Subscription, Subscription]:
    """End it and go on with the plan at the same moment: (the one that ends, the one that begins).

    Billing periods stay where they are, unless another anchor is given.

    Raises:
        SubscriptionNotChangeable: it is not active.
        InvalidInput: the time is in the past.
    """
    ended = cancel(subscription, timing, now, end_proration)
    begun = start(
        plan,
        subscription_id=next_id,
        customer_id=subscription.customer_id,
        at=ended.active_to or now,
        created_at=now,
        billing_anchor=billing_anchor or subscription.billing_anchor,
        labels=subscription.labels,
    )
    return ended, begun


def _takes_effect(subscription: Subscription, timing: Timing, now: datetime) -> datetime:
    status = subscription.status_at(now)
    if status is not SubscriptionStatus.ACTIVE:
        raise SubscriptionNotChangeable(f"subscription {subscription.id} is {status}, not active")
    if timing is EditTiming.IMMEDIATE:
        return max(whole_milliseconds(now), subscription.active_from)
    if timing is EditTiming.NEXT_BILLING_CYCLE:
        return subscription.cadence.period_at(now).to
    assert isinstance(timing, datetime)  # noqa: S101 - the two others are handled
    if timing < now:
        reason = "must not be in the past"
        raise InvalidInput(f"timing {reason}", [InvalidParameter("timing", "min", reason)])
    return whole_milliseconds(timing)
