"""A subscription: a customer on a version of a plan, its phases laid out in time.

It does not know what is due (see `billable.py`) and does not change (see `subscription_change.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from tallyman.domain.content_id import content_id
from tallyman.domain.duration import Cadence, Duration
from tallyman.domain.period import Period
from tallyman.domain.plan import Plan, SettlementMode
from tallyman.domain.rate_card import RateCard
from tallyman.domain.service_period import EndProration, clip, whole_milliseconds


class SubscriptionStatus(StrEnum):
    """Canceled is still served, until it ends; then it is inactive."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    CANCELED = "canceled"
    SCHEDULED = "scheduled"


@dataclass(frozen=True)
class SubscriptionItem:
    """A rate card for as long as its phase lasts."""

    id: str
    rate_card: RateCard


@dataclass(frozen=True)
class SubscriptionPhase:
    """In force in [active_from, active_to), as planned; the subscription may end before."""

    id: str
    key: str
    name: str
    active_from: datetime
    active_to: datetime | None
    items: tuple[SubscriptionItem, ...]
    description: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Subscription:
    """Served in [active_from, active_to), to the millisecond.

    Billing periods are counted from `billing_anchor`, which may be before or after the start.
    `end_proration` is the billing profile's as it was when the end was set, which it is kept with.
    """

    id: str
    namespace: str
    customer_id: str
    plan_id: str
    plan_key: str
    plan_version: int
    name: str
    currency: str
    billing_cadence: Duration
    billing_anchor: datetime
    active_from: datetime
    phases: tuple[SubscriptionPhase, ...]
    created_at: datetime
    updated_at: datetime
    active_to: datetime | None = None
    pro_rating_enabled: bool = True
    settlement_mode: SettlementMode | None = None
    description: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    deleted_at: datetime | None = None
    end_proration: EndProration | None = None

    @property
    def cadence(self) -> Cadence:
        """The billing periods, before the subscription and its phases cut them."""
        return Cadence(self.billing_anchor, self.billing_cadence)

    def status_at(self, now: datetime) -> SubscriptionStatus:
        """Where it stands."""
        if now < self.active_from:
            return SubscriptionStatus.SCHEDULED
        if self.active_to is None:
            return SubscriptionStatus.ACTIVE
        return SubscriptionStatus.CANCELED if now < self.active_to else SubscriptionStatus.INACTIVE

    def current_period_at(self, now: datetime) -> Period | None:
        """The billing period that holds the moment, as far as it is served; None if it is not."""
        if self.status_at(now) not in (SubscriptionStatus.ACTIVE, SubscriptionStatus.CANCELED):
            return None
        return clip(self.cadence.period_at(now), self.active_from, self.active_to)

    def served_phases(self) -> Iterator[tuple[SubscriptionPhase, datetime, datetime | None]]:
        """Each phase that is served at all, with when it really begins and ends."""
        for phase in self.phases:
            ends = [end for end in (phase.active_to, self.active_to) if end is not None]
            end = min(ends, default=None)
            if end is None or phase.active_from < end:
                yield phase, phase.active_from, end

    def phase_at(self, now: datetime) -> SubscriptionPhase | None:
        """The phase that is served at the moment."""
        for phase, begin, end in self.served_phases():
            if begin <= now and (end is None or now < end):
                return phase
        return None


def start(
    plan: Plan,
    *,
    subscription_id: str,
    customer_id: str,
    at: datetime,
    created_at: datetime,
    billing_anchor: datetime | None = None,
    labels: dict[str, str] | None = None,
) -> Subscription:
    """Lay a plan out in time, from the millisecond of `at`.

    The phases' durations are added up before they are stepped from the start, so that a phase's end
    does not drift where a month is short. The ids of phases and items come from their keys.
    """
    begin = whole_milliseconds(at)
    return Subscription(
        id=subscription_id,
        namespace=plan.namespace,
        customer_id=customer_id,
        plan_id=plan.id,
        plan_key=plan.key,
        plan_version=plan.version,
        name=plan.name,
        currency=plan.currency,
        billing_cadence=plan.billing_cadence,
        billing_anchor=whole_milliseconds(billing_anchor or begin),
        active_from=begin,
        phases=tuple(_phases(plan, subscription_id, begin)),
        created_at=created_at,
        updated_at=created_at,
        pro_rating_enabled=plan.pro_rating_enabled,
        settlement_mode=plan.settlement_mode,
        description=plan.description,
        labels=labels or {},
    )


def _phases(plan: Plan, subscription_id: str, begin: datetime) -> Iterator[SubscriptionPhase]:
    elapsed = Duration()
    for phase in plan.phases:
        active_from = elapsed.after(begin)
        elapsed += phase.duration or Duration()
        yield SubscriptionPhase(
            id=content_id(active_from, subscription_id, phase.key),
            key=phase.key,
            name=phase.name,
            active_from=active_from,
            active_to=None if phase.duration is None else elapsed.after(begin),
            items=tuple(
                SubscriptionItem(
                    content_id(active_from, subscription_id, phase.key, card.key), card
                )
                for card in phase.rate_cards
            ),
            description=phase.description,
            labels=phase.labels,
        )
