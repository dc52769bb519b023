"""What the subscription routes answer, as OpenMeter's v3 API has it.

What is asked for is `new_subscription_bodies.py`'s.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from tallyman.api.numbered_page import PaginatedMeta
from tallyman.api.rate_card_bodies import RateCardBody, rate_card_of
from tallyman.api.wire import (
    Answer,
    Description,
    Name,
    Numeric,
    ResourceKey,
    Time,
    Ulid,
)
from tallyman.billing.usage_before_start import QuantityBefore, UsageBeforeStart
from tallyman.domain.plan import SettlementMode
from tallyman.domain.plan_document import write_rate_card
from tallyman.domain.subscription import Subscription, SubscriptionPhase, SubscriptionStatus


class SubscriptionPlanAnswer(Answer):
    """The version that it was made of."""

    id: Ulid
    key: ResourceKey
    version: Annotated[int, Field(ge=1)]


class ProRatingAnswer(Answer):
    """Whether a flat price is shared out over a part of a period."""

    enabled: bool
    mode: Literal["prorate_prices", "no_proration"]


class ClosedPeriodAnswer(Answer):
    """[from, to)."""

    from_: Annotated[Time, Field(alias="from")]
    to: Time


class SubscriptionItemAnswer(Answer):
    """A rate card for as long as its phase is served."""

    id: Ulid
    active_from: Time
    active_to: Time | None = None
    rate_card: RateCardBody


class SubscriptionPhaseAnswer(Answer):
    """A phase as it is served."""

    id: Ulid
    key: ResourceKey
    name: Name
    description: Description | None = None
    labels: dict[str, str] | None = None
    created_at: Time
    updated_at: Time
    active_from: Time
    active_to: Time | None = None
    items: list[SubscriptionItemAnswer]


class SubscriptionAnswer(Answer):
    """A subscription."""

    id: Ulid
    labels: dict[str, str] | None = None
    created_at: Time
    updated_at: Time
    deleted_at: Time | None = None
    name: Name
    description: Description | None = None
    active_from: Time
    active_to: Time | None = None
    customer_id: Ulid
    plan_id: Ulid
    plan: SubscriptionPlanAnswer
    invoice_currency: str
    cost_basis_mode: Literal["dynamic"]
    cost_basis_pins: list[dict[str, str]]
    billing_cadence: str
    pro_rating_config: ProRatingAnswer
    billing_anchor: Time
    status: SubscriptionStatus
    settlement_mode: SettlementMode | None = None
    current_period: ClosedPeriodAnswer | None = None
    phases: list[SubscriptionPhaseAnswer]

    @classmethod
    def of(cls, subscription: Subscription, now: datetime) -> Self:
        """The subscription on the wire, with its status of now."""
        return cls(**_members(subscription, now))


class QuantityBeforeAnswer(Answer):
    """How much of a feature; its unit is the meter's, such as tokens."""

    feature_key: ResourceKey
    quantity: Numeric

    @classmethod
    def of(cls, quantity: QuantityBefore) -> Self:
        """The quantity on the wire."""
        return cls(feature_key=quantity.feature_key, quantity=quantity.quantity)


class UsageBeforeStartAnswer(Answer):
    """What the customer used in [from, to) is on no invoice; without `from`, since ever."""

    from_: Annotated[Time | None, Field(alias="from")] = None
    to: Time
    quantities: list[QuantityBeforeAnswer]


class CreatedSubscriptionAnswer(SubscriptionAnswer):
    """A new subscription, and what its start leaves out: Tallyman's own.

    It is absent where usage could not be counted just now.
    """

    usage_before_start: UsageBeforeStartAnswer | None = None

    @classmethod
    def created(
        cls, subscription: Subscription, now: datetime, before: UsageBeforeStart | None
    ) -> Self:
        """The subscription on the wire, with what it leaves out."""
        answer = None
        if before is not None:
            answer = UsageBeforeStartAnswer(
                from_=before.from_,
                to=before.to,
                quantities=[QuantityBeforeAnswer.of(one) for one in before.quantities],
            )
        return cls(**_members(subscription, now), usage_before_start=answer)


class SubscriptionPage(Answer):
    """A page of subscriptions."""

    data: list[SubscriptionAnswer]
    meta: PaginatedMeta

    @classmethod
    def of(cls, found: Sequence[Subscription], meta: PaginatedMeta, now: datetime) -> Self:
        """The page on the wire."""
        return cls(data=[SubscriptionAnswer.of(one, now) for one in found], meta=meta)


class SubscriptionChangeAnswer(Answer):
    """The subscription that ends, and the one that goes on."""

    current: SubscriptionAnswer
    next: SubscriptionAnswer


def _members(subscription: Subscription, now: datetime) -> dict[str, Any]:
    period = subscription.current_period_at(now)
    enabled = subscription.pro_rating_enabled
    return {
        "id": subscription.id,
        "labels": subscription.labels,
        "created_at": subscription.created_at,
        "updated_at": subscription.updated_at,
        "deleted_at": subscription.deleted_at,
        "name": subscription.name,
        "description": subscription.description,
        "active_from": subscription.active_from,
        "active_to": subscription.active_to,
        "customer_id": subscription.customer_id,
        "plan_id": subscription.plan_id,
        "plan": SubscriptionPlanAnswer(
            id=subscription.plan_id,
            key=subscription.plan_key,
            version=subscription.plan_version,
        ),
        "invoice_currency": subscription.currency,
        "cost_basis_mode": "dynamic",
        "cost_basis_pins": [],
        "billing_cadence": str(subscription.billing_cadence),
        "pro_rating_config": ProRatingAnswer(
            enabled=enabled, mode="prorate_prices" if enabled else "no_proration"
        ),
        "billing_anchor": subscription.billing_anchor,
        "status": subscription.status_at(now),
        "settlement_mode": subscription.settlement_mode,
        "current_period": period and ClosedPeriodAnswer(from_=period.from_, to=period.to),
        "phases": [
            _phase(subscription, phase, begin, end)
            for phase, begin, end in subscription.served_phases()
        ],
    }


def _phase(
    subscription: Subscription, phase: SubscriptionPhase, begin: datetime, end: datetime | None
) -> SubscriptionPhaseAnswer:
    return SubscriptionPhaseAnswer(
        id=phase.id,
        key=phase.key,
        name=phase.name,
        description=phase.description,
        labels=phase.labels,
        created_at=subscription.created_at,
        updated_at=subscription.updated_at,
        active_from=begin,
        active_to=end,
        items=[
            SubscriptionItemAnswer(
                id=item.id,
                active_from=begin,
                active_to=end,
                rate_card=rate_card_of(write_rate_card(item.rate_card)),
            )
            for item in phase.items
        ],
    )
