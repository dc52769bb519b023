"""What grants add to a customer's entitlements: which usage must be counted, and what it leaves. Pure.

How grants are burned down is `domain/entitlement_grant.py`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from tallyman.domain.entitlement import Access, MeteredEntitlement, granted_access
from tallyman.domain.entitlement_grant import (
    Allowance,
    Burned,
    EntitlementGrant,
    burned,
    parts_of,
    successive_allowances,
)
from tallyman.domain.entitlement_period import Entitled, Entitlements, serving
from tallyman.domain.money import EXACT
from tallyman.domain.period import Period
from tallyman.domain.subscription import Subscription
from tallyman.store.entitlement_definitions import Definition

NOTHING = Decimal(0)


@dataclass(frozen=True)
class Granted:
    """A feature's allowances since its first grant began, and the grants that add to them."""

    allowances: tuple[Allowance, ...]
    grants: tuple[EntitlementGrant, ...]

    @property
    def parts(self) -> list[Period]:
        """What must be counted."""
        return parts_of(self.allowances, self.grants)

    @property
    def bounds(self) -> list[datetime]:
        """When what is granted changes."""
        ends = [at for one in self.grants for at in (one.effective_at, one.ends_at)]
        served = [one.counted for one in self.allowances]
        return ends + [at for one in self.grants for x in served for at in one.recurs_in(x)]

    def burned(self, counted: Mapping[Period, Decimal]) -> list[Burned]:
        """What became of the balances, by the usage of each part."""
        return burned(self.allowances, self.grants, lambda part: counted.get(part, NOTHING))

    def access(
        self,
        entitled: Entitled,
        usage: Decimal,
        counted: Mapping[Period, Decimal],
        now: datetime,
    ) -> Access:
        """What the customer may do now."""
        assert isinstance(entitled.entitlement, MeteredEntitlement)  # noqa: S101 - only those have grants
        begun = [one for one in self.burned(counted) if one.period.from_ <= now]
        carried = NOTHING if entitled.metering is None else entitled.metering.carried
        used = EXACT.add(usage, carried)
        if not begun:
            return granted_access(entitled.entitlement, used, NOTHING, NOTHING)
        return granted_access(entitled.entitlement, used, begun[-1].balance, begun[-1].overage)


def granted_at(
    definition: Definition, entitlements: Entitlements, now: datetime
) -> dict[str, Granted]:
    """By feature key, where there are grants to a limit that has one."""
    subscription = serving(definition.subscriptions, now)
    if subscription is None or not definition.grants:
        return {}
    found = {}
    for key, entitled in entitlements.by_feature.items():
        grants = grants_to(definition, subscription, key)
        is_limited = (
            isinstance(entitled.entitlement, MeteredEntitlement)
            and entitled.entitlement.limit is not None
        )
        if grants and is_limited:
            since = min(min(one.effective_at for one in grants), now)
            found[key] = granted_since(definition, subscription, key, since, now)
    return found


def granted_since(
    definition: Definition,
    subscription: Subscription,
    feature_key: str,
    since: datetime,
    now: datetime,
) -> Granted:
    """The allowances and grants of a feature from the period that holds `since` on."""
    grants = grants_to(definition, subscription, feature_key)
    first = min((one.effective_at for one in grants), default=since)
    served = [
        x for x in up_to(definition, subscription) if x.active_to is None or x.active_to > first
    ]
    periods = successive_allowances(
        served, feature_key, definition.resets, definition.overrides, since, now
    )
    return Granted(tuple(periods), tuple(grants))


def grants_to(
    definition: Definition, subscription: Subscription, feature_key: str
) -> list[EntitlementGrant]:
    """Those that add to one entitlement, also from the subscriptions before this one."""
    ids = {one.id for one in up_to(definition, subscription)}
    return [
        one
        for one in definition.grants
        if one.feature_key == feature_key and one.subscription_id in ids
    ]


def up_to(definition: Definition, subscription: Subscription) -> list[Subscription]:
    """Those that were served before this one, in their order, and this one."""
    every = {one.id: one for one in (*definition.earlier, *definition.subscriptions)}
    before = [one for one in every.values() if one.active_from < subscription.active_from]
    return [*sorted(before, key=lambda one: one.active_from), subscription]
