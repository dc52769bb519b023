"""Resets an entitlement: its usage is counted anew from a time on.

How it is counted then is `domain/entitlement_period.py`'s.
"""

from datetime import datetime
from decimal import Decimal

from tallyman.billing.entitlement_account import Account
from tallyman.domain.access import LOCAL
from tallyman.domain.counting import Metered, subject_periods
from tallyman.domain.entitlement import MeteredEntitlement
from tallyman.domain.entitlement_period import NOTHING, EntitlementReset, serving
from tallyman.domain.money import EXACT
from tallyman.domain.period import Period
from tallyman.domain.service_period import whole_milliseconds
from tallyman.errors import InvalidInput, InvalidParameter, NotFound
from tallyman.store.entitlement_definitions import EntitlementDefinitions
from tallyman.store.entitlement_sql import Share
from tallyman.store.entitlement_usage import EntitlementUsage


class EntitlementResets:
    """Makes resets."""

    def __init__(self, definitions: EntitlementDefinitions, usage: EntitlementUsage) -> None:
        self._definitions = definitions
        self._usage = usage

    async def reset(
        self,
        account: Account,
        feature_key: str,
        now: datetime,
        effective_at: datetime | None = None,
        *,
        retain_anchor: bool = False,
        preserve_overage: bool = False,
        by: str = LOCAL,
    ) -> None:
        """Count the feature's usage anew from `effective_at`, or now.

        Raises:
            NotFound: the customer is not entitled to such a feature.
            InvalidInput: it is not metered, or the time is not within what is counted now.
        """
        entitled = account.entitled.get(feature_key)
        subscription = serving(account.definition.subscriptions, now)
        if entitled is None or subscription is None:
            raise NotFound(f"the customer is not entitled to a feature {feature_key}")
        if entitled.metering is None or not isinstance(entitled.entitlement, MeteredEntitlement):
            raise _wrong("featureKey", f"{feature_key} is not metered")
        metering, limit = entitled.metering, entitled.entitlement.limit
        moment = whole_milliseconds(effective_at or now)
        begin = metering.counted.from_
        if not begin <= moment <= now:
            reason = f"must be from {begin.isoformat()}, where counting began, until now"
            raise _wrong("effectiveAt", reason)
        overage = NOTHING
        if preserve_overage and limit is not None:
            used = await self._used(account, entitled.feature_id, Period(begin, moment))
            used = EXACT.add(used, metering.carried)
            overage = max(EXACT.subtract(used, limit), NOTHING)
            if account.has_grants(feature_key):  # what a grant paid for is no overage
                overage = min(overage, account.access(feature_key).overage)
        reset = EntitlementReset(subscription.id, feature_key, moment, retain_anchor, overage)
        await self._definitions.reset(subscription.namespace, reset, now, by=by)

    async def metered(self, account: Account, feature_id: str) -> Metered | None:
        """What counts for a feature of the customer's namespace; None if nothing does."""
        namespace = account.definition.customer.namespace
        return (await self._definitions.counted(namespace)).get(feature_id)

    async def _used(self, account: Account, feature_id: str, period: Period) -> Decimal:
        metered = await self.metered(account, feature_id)
        parts = subject_periods(account.definition.spans, period)
        if metered is None or period.from_ >= period.to or not parts:
            return NOTHING
        shares = [Share(0, subject, part) for subject, part in parts]
        found = await self._usage.count([metered], shares)
        return found[0][0] if found else NOTHING


def _wrong(field: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{field} {reason}", [InvalidParameter(field, "invalid", reason)])
