"""What a subscription entitles to at a moment, and from when on usage is counted against it.

It does not count: see `store/entitlement_sql.py`. What is allowed is `entitlement.py`'s.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from tallyman.domain.duration import Cadence
from tallyman.domain.entitlement import Entitlement, MeteredEntitlement
from tallyman.domain.period import Period
from tallyman.domain.subscription import Subscription

NOTHING: Final = Decimal(0)


@dataclass(frozen=True)
class EntitlementReset:
    """Usage of a feature is counted anew from `effective_at`.

    Usage periods begin there from then on, unless the anchor is retained. `carried_overage` is what
    was used beyond the limit before, and counts against the next one.
    """

    subscription_id: str
    feature_key: str
    effective_at: datetime
    retain_anchor: bool = False
    carried_overage: Decimal = NOTHING


@dataclass(frozen=True)
class EntitlementOverride:
    """The customer's own entitlement in place of the rate card's, from `effective_at` on."""

    subscription_id: str
    feature_key: str
    effective_at: datetime
    limit: Decimal | None
    is_soft_limit: bool


@dataclass(frozen=True)
class Metering:
    """Usage in `counted`, and what is carried over into it, is held against the limit.

    It begins with the usage period, or later: with the phase, or a reset. The next period is due
    where the usage period ends.
    """

    counted: Period
    usage_period: Period
    carried: Decimal = NOTHING


@dataclass(frozen=True)
class Entitled:
    """A feature that a phase comes with; `metering` is None for what is not counted."""

    feature_id: str
    entitlement: Entitlement
    metering: Metering | None


@dataclass(frozen=True)
class Entitlements:
    """By feature key, and until when this is so; None is without end."""

    by_feature: Mapping[str, Entitled]
    until: datetime | None


def overridden(
    entitlement: MeteredEntitlement, overrides: Iterable[EntitlementOverride], at: datetime
) -> MeteredEntitlement:
    """The entitlement with the last override that is in effect by then."""
    found = entitlement
    for one in sorted(overrides, key=lambda one: one.effective_at):
        if one.effective_at <= at:
            found = MeteredEntitlement(one.limit, one.is_soft_limit, entitlement.usage_period)
    return found


def serving(subscriptions: Sequence[Subscription], now: datetime) -> Subscription | None:
    """The one of a customer's subscriptions that is served at the moment."""
    for subscription in subscriptions:
        ends = subscription.active_to
        if subscription.active_from <= now and (ends is None or now < ends):
            return subscription
    return None


def entitlements_at(
    subscriptions: Sequence[Subscription],
    resets: Sequence[EntitlementReset],
    now: datetime,
    overrides: Sequence[EntitlementOverride] = (),
) -> Entitlements:
    """What a customer with these subscriptions is entitled to."""
    subscription = serving(subscriptions, now)
    changes = [one.active_from for one in subscriptions if one.active_from > now]
    if subscription is None:
        return Entitlements({}, min(changes, default=None))
    found: dict[str, Entitled] = {}
    for phase, begin, end in subscription.served_phases():
        if begin > now:
            changes.append(begin)
        if begin > now or (end is not None and end <= now):
            continue
        if end is not None:
            changes.append(end)
        for item in phase.items:
            card = item.rate_card
            if card.entitlement is None or card.feature is None:
                continue
            metering, entitlement = None, card.entitlement
            if isinstance(card.entitlement, MeteredEntitlement):
                own = [
                    one
                    for one in overrides
                    if (one.subscription_id, one.feature_key) == (subscription.id, card.key)
                ]
                entitlement = overridden(card.entitlement, own, now)
                step = card.entitlement.usage_period or card.billing_cadence
                cadence = Cadence(subscription.billing_anchor, step or subscription.billing_cadence)
                mine = [
                    reset
                    for reset in resets
                    if (reset.subscription_id, reset.feature_key) == (subscription.id, card.key)
                ]
                metering = metering_at(cadence, begin, mine, now)
                changes.append(metering.usage_period.to)
            found[card.key] = Entitled(card.feature.id, entitlement, metering)
    return Entitlements(found, min(changes, default=None))


def metering_at(
    cadence: Cadence, begin: datetime, resets: Sequence[EntitlementReset], now: datetime
) -> Metering:
    """The period that is counted of a metered entitlement that is served from `begin`."""
    last: EntitlementReset | None = None
    for reset in sorted(resets, key=lambda reset: reset.effective_at):
        if reset.effective_at <= now:
            last = reset
            if not reset.retain_anchor:
                cadence = Cadence(reset.effective_at, cadence.step)
    period = cadence.period_at(now)
    counted_from, carried = max(period.from_, begin), NOTHING
    if last is not None and last.effective_at >= counted_from:
        counted_from, carried = last.effective_at, last.carried_overage
    return Metering(Period(counted_from, period.to), period, carried)
