"""Grants that add to a metered entitlement's allowance, and how they are burned down. Pure.

It does not count: usage comes in by the time that it is of. The allowance of the rate card is used as a
grant of the lowest priority number that is there anew in each period.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Final

from tallyman.domain.duration import Cadence
from tallyman.domain.entitlement import MeteredEntitlement
from tallyman.domain.entitlement_period import (
    EntitlementOverride,
    EntitlementReset,
    metering_at,
    overridden,
)
from tallyman.domain.event import LATEST
from tallyman.domain.money import EXACT
from tallyman.domain.period import Period
from tallyman.domain.subscription import Subscription

ZERO: Final = Decimal(0)
MICROSECOND: Final = timedelta(microseconds=1)
INCLUDED: Final = "included"  # the allowance of the rate card, beside the ids of grants
_FIRST: Final = (-1, LATEST, LATEST, "")


@dataclass(frozen=True)
class EntitlementGrant:
    """So many units more from `effective_at` until it expires or is voided.

    At each reset what is left becomes min(max_rollover, max(left, min_rollover)): nothing, unless
    something is said. Where a period of its recurrence begins later on, it is whole again.
    """

    id: str
    namespace: str
    subscription_id: str
    feature_key: str
    amount: Decimal
    effective_at: datetime
    created_at: datetime
    updated_at: datetime
    priority: int = 1
    expires_at: datetime | None = None
    voided_at: datetime | None = None
    min_rollover: Decimal = ZERO
    max_rollover: Decimal = ZERO
    metadata: dict[str, str] = field(default_factory=dict)
    expiration: dict[str, str | int] | None = None
    recurrence: Cadence | None = None

    @property
    def ends_at(self) -> datetime:
        """From when on nothing is left of it."""
        return min(self.expires_at or LATEST, self.voided_at or LATEST)

    def recurs_in(self, period: Period) -> list[datetime]:
        """When it is whole again in [from, to): never as it begins, when it is whole anyway."""
        if self.recurrence is None:
            return []
        found = []
        until = min(self.ends_at, period.to)
        at = self.next_recurrence(period.from_ - MICROSECOND)
        while at is not None and at < until:
            found.append(at)
            at = self.next_recurrence(at)
        return found

    def next_recurrence(self, moment: datetime) -> datetime | None:
        """The first one after the moment, if it is not over by then."""
        if self.recurrence is None:
            return None
        following = self.recurrence.period_at(max(moment, self.effective_at)).to
        return following if following < self.ends_at else None

    @property
    def order(self) -> tuple[int, datetime, datetime, str]:
        """Which of several is used first."""
        return self.priority, self.ends_at, self.created_at, self.id


@dataclass(frozen=True)
class Allowance:
    """A counted period with what the rate card allows in it, and the overage that it begins with.

    `continues` says that no reset is due where it begins: another plan began there, and what is left
    of grants goes on as it is.
    """

    counted: Period
    limit: Decimal | None
    carried: Decimal = ZERO
    continues: bool = False


@dataclass(frozen=True)
class Burned:
    """What became of the balances in a part of a period; `used` is by grant."""

    period: Period
    usage: Decimal
    at_start: Mapping[str, Decimal]
    at_end: Mapping[str, Decimal]
    used: Mapping[str, Decimal]
    overage: Decimal

    @property
    def balance(self) -> Decimal:
        """What is left at its end."""
        return _sum(self.at_end.values())


def allowances(
    subscription: Subscription,
    feature_key: str,
    resets: Sequence[EntitlementReset],
    overrides: Sequence[EntitlementOverride],
    since: datetime,
    until: datetime,
) -> list[Allowance]:
    """The counted periods of a feature that touch [since, until], one after the other.

    The limit of a period is the one at its end, or at `until`.
    """
    found = []
    for _, cadence, begin, end, entitlement in _served(subscription, feature_key):
        moment = max(begin, since)
        while moment <= until and (end is None or moment < end):
            metering = metering_at(cadence, begin, resets, moment)
            later = [x.effective_at for x in resets if x.effective_at > moment]
            stop = min([metering.counted.to, *later, *([] if end is None else [end])])
            counted = Period(metering.counted.from_, stop)
            seen = overridden(entitlement, overrides, min(stop, until))
            found.append(Allowance(counted, seen.limit, metering.carried))
            moment = stop
    return found


def successive_allowances(
    subscriptions: Sequence[Subscription],
    feature_key: str,
    resets: Sequence[EntitlementReset],
    overrides: Sequence[EntitlementOverride],
    since: datetime,
    until: datetime,
) -> list[Allowance]:
    """Those of subscriptions of a customer that followed one another; the last one is served now.

    Of the earlier ones, periods without a limit burn no grant down.
    """
    found: list[Allowance] = []
    reset_at: datetime | None = None
    for one in subscriptions:
        whose = one.id, feature_key
        own = [x for x in resets if (x.subscription_id, x.feature_key) == whose]
        changed = [x for x in overrides if (x.subscription_id, x.feature_key) == whose]
        theirs = allowances(one, feature_key, own, changed, since, until)
        if theirs and reset_at is not None and theirs[0].counted.from_ < reset_at:
            theirs[0] = replace(theirs[0], continues=True)
        if theirs:
            reset_at = _reset_after(one, feature_key, own, theirs[-1])
        found += [x for x in theirs if x.limit is not None or one is subscriptions[-1]]
    return found


def _reset_after(
    subscription: Subscription,
    feature_key: str,
    resets: Sequence[EntitlementReset],
    last: Allowance,
) -> datetime:
    """Where the period would end, if the subscription did not end before."""
    at = last.counted.from_
    return next(
        metering_at(cadence, begin, resets, at).counted.to
        for _, cadence, begin, end, _ in _served(subscription, feature_key)
        if begin <= at and (end is None or at < end)
    )


def _served(
    subscription: Subscription, feature_key: str
) -> Iterable[tuple[str, Cadence, datetime, datetime | None, MeteredEntitlement]]:
    for phase, begin, end in subscription.served_phases():
        for item in phase.items:
            card = item.rate_card
            if card.key == feature_key and isinstance(card.entitlement, MeteredEntitlement):
                step = card.entitlement.usage_period or card.billing_cadence
                cadence = Cadence(subscription.billing_anchor, step or subscription.billing_cadence)
                yield card.key, cadence, begin, end, card.entitlement


def parts_of(
    periods: Iterable[Allowance],
    grants: Sequence[EntitlementGrant],
    cuts: Iterable[datetime] = (),
) -> list[Period]:
    """The periods cut where a grant begins or ends, and at other times: what is to be counted."""
    bounds = {one.effective_at for one in grants} | {one.ends_at for one in grants} | set(cuts)
    found = []
    for one in periods:
        anew = {at for grant in grants for at in grant.recurs_in(one.counted)}
        inside = sorted(x for x in bounds | anew if one.counted.from_ < x < one.counted.to)
        edges = [one.counted.from_, *inside, one.counted.to]
        found += [Period(*pair) for pair in pairwise(edges)]
    return found


def burned(
    periods: Sequence[Allowance],
    grants: Sequence[EntitlementGrant],
    usage: Callable[[Period], Decimal],
    cuts: Iterable[datetime] = (),
) -> list[Burned]:
    """What became of the balances, part by part; an overage is forgotten at the next reset."""
    order = {one.id: one.order for one in grants} | {INCLUDED: _FIRST}
    balances: dict[str, Decimal] = {}
    begun: set[str] = set()
    found: list[Burned] = []
    cuts = list(cuts)
    for allowance in periods:
        balances = _reset(balances, grants, allowance)
        overage, owed = ZERO, allowance.carried
        for part in parts_of([allowance], grants, cuts):
            _turn(balances, begun, grants, part)
            used: dict[str, Decimal] = {}
            amount = usage(part)
            at_start = dict(balances)
            owed = EXACT.add(owed, amount)
            for key in sorted(balances, key=lambda key: order[key]):
                taken = min(owed, balances[key])
                if taken > 0:
                    used[key] = taken
                    balances[key] = EXACT.subtract(balances[key], taken)
                    owed = EXACT.subtract(owed, taken)
            overage, owed = EXACT.add(overage, owed), ZERO
            found.append(Burned(part, amount, at_start, dict(balances), used, overage))
    return found


def _reset(
    balances: Mapping[str, Decimal], grants: Sequence[EntitlementGrant], allowance: Allowance
) -> dict[str, Decimal]:
    if allowance.continues:
        return {**balances, INCLUDED: allowance.limit or ZERO}
    by_id = {one.id: one for one in grants}
    rolled = {
        key: min(by_id[key].max_rollover, max(left, by_id[key].min_rollover))
        for key, left in balances.items()
        if key != INCLUDED
    }
    return {INCLUDED: allowance.limit or ZERO, **rolled}


def _turn(
    balances: dict[str, Decimal],
    begun: set[str],
    grants: Sequence[EntitlementGrant],
    part: Period,
) -> None:
    """Take in the grants that have begun by then or are whole again, and take out those that are over."""
    at = part.from_
    for one in grants:
        if one.ends_at <= at:
            balances.pop(one.id, None)
        elif one.effective_at <= at and (one.id not in begun or at in one.recurs_in(part)):
            balances[one.id] = one.amount
            begun.add(one.id)


def _sum(values: Iterable[Decimal]) -> Decimal:
    found = ZERO
    for one in values:
        found = EXACT.add(found, one)
    return found
