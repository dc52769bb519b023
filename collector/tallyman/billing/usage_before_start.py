"""Counts what a subscription's start leaves out: usage that came before it and is on no invoice.

It bills nothing. Everyone is surprised by it, so the answer to a new subscription says it.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from tallyman.domain.counting import subject_periods
from tallyman.domain.event import EARLIEST
from tallyman.domain.period import Period
from tallyman.domain.price import FlatPrice
from tallyman.domain.subscription import Subscription
from tallyman.store.customers import CustomerStore
from tallyman.store.entitlement_definitions import EntitlementDefinitions
from tallyman.store.entitlement_sql import Share
from tallyman.store.entitlement_usage import EntitlementUsage
from tallyman.store.subscriptions import SubscriptionStore


@dataclass(frozen=True)
class QuantityBefore:
    """How much of a feature, in its meter's unit."""

    feature_key: str
    quantity: Decimal


@dataclass(frozen=True)
class UsageBeforeStart:
    """What was used in [from_, to); `from_` is where the subscription before ended, if there was one.

    Features of which nothing was used are left out.
    """

    from_: datetime | None
    to: datetime
    quantities: tuple[QuantityBefore, ...]


class UsageBefore:
    """Asks for what was used before a subscription."""

    def __init__(
        self,
        definitions: EntitlementDefinitions,
        usage: EntitlementUsage,
        customers: CustomerStore,
        subscriptions: SubscriptionStore,
    ) -> None:
        self._definitions = definitions
        self._usage = usage
        self._customers = customers
        self._subscriptions = subscriptions

    async def count(self, subscription: Subscription) -> UsageBeforeStart:
        """What the customer used before it of what the plan sells by usage.

        Raises:
            Unavailable: a store does not answer.
        """
        namespace, customer_id = subscription.namespace, subscription.customer_id
        every = await self._subscriptions.of_customers(namespace, [customer_id])
        ends = [one.active_to for one in every[customer_id] if one.id != subscription.id]
        before = [end for end in ends if end is not None and end <= subscription.active_from]
        from_, to = max(before, default=None), subscription.active_from
        metered = await self._definitions.counted(namespace)
        sold = {
            card.feature.id: card.key
            for phase in subscription.phases
            for item in phase.items
            if (card := item.rate_card).feature is not None
            and not isinstance(card.price, FlatPrice)
            and card.feature.id in metered
        }
        spans = (await self._customers.spans([customer_id])).get(customer_id, ())
        parts = subject_periods(spans, Period(from_ or EARLIEST, to))
        shares = [Share(0, subject, part) for subject, part in parts]
        found = await self._usage.count([metered[feature] for feature in sold], shares)
        quantities = zip(sold.values(), found.get(0, ()), strict=False)
        return UsageBeforeStart(
            from_, to, tuple(QuantityBefore(key, value) for key, value in quantities if value)
        )
