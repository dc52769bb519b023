"""The stores that billing reads and writes, and whose account it is that is billed.

It decides nothing.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from tallyman.domain.billable import Billable
from tallyman.domain.billing_profile import BillingProfile
from tallyman.domain.counting import Metered
from tallyman.domain.customer import Customer, SubjectSpan
from tallyman.domain.event import LATEST
from tallyman.domain.rate_card import RateCard
from tallyman.domain.subscription import Subscription
from tallyman.store.billed_lines import BilledLines
from tallyman.store.billing_profiles import BillingProfileStore, profile_of
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.counted_events import CountedEvents
from tallyman.store.credit_grants import CreditGrantStore
from tallyman.store.credit_ledger import CreditLedger
from tallyman.store.credit_notes import CreditNoteStore
from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database
from tallyman.store.events import EventStore
from tallyman.store.features import FeatureStore
from tallyman.store.invoices import InvoiceStore
from tallyman.store.llm_prices import LlmPriceStore
from tallyman.store.meters import MeterStore
from tallyman.store.plans import PlanStore
from tallyman.store.re_ratings import ReRatingStore
from tallyman.store.refunds import RefundStore
from tallyman.store.sandboxes import Sandboxes
from tallyman.store.stripe_operations import StripeOperationStore
from tallyman.store.subscriptions import SubscriptionStore
from tallyman.store.usage_quantities import UsageQuantities


@dataclass(frozen=True)
class Account:
    """A customer with everything that decides what it owes.

    `claimed_at` is when it was last given a subject, whose earlier usage became its own. `cards` are
    the prices of billables that were rated again, by billable.
    """

    customer: Customer
    spans: tuple[SubjectSpan, ...]
    profile: BillingProfile
    subscriptions: tuple[Subscription, ...]
    claimed_at: datetime | None = None
    cards: Mapping[str, RateCard] = field(default_factory=dict)

    def priced(self, billable: Billable) -> Billable:
        """The billable by the price that holds for it now."""
        card = self.cards.get(billable.id)
        return billable if card is None else replace(billable, rate_card=card)


class Books:
    """Every store that billing needs, opened once."""

    def __init__(
        self, database: Database, clickhouse: ClickHouse, settle_seconds: float = 0
    ) -> None:
        self.database = database
        self.sandboxes = Sandboxes(database)
        self.invoices = InvoiceStore(database)
        self.billed = BilledLines(database)
        self.credit_notes = CreditNoteStore(database)
        self.refunds = RefundStore(database)
        self.re_ratings = ReRatingStore(database)
        self.operations = StripeOperationStore(database)
        self.profiles = BillingProfileStore(database)
        self.credits = CreditGrantStore(database)
        self.ledger = CreditLedger(database)
        self.customers = CustomerStore(database)
        self.subscriptions = SubscriptionStore(database)
        self.features = FeatureStore(database)
        self.meters = MeterStore(database)
        self.plans = PlanStore(database)
        self.prices = LlmPriceStore(database)
        self.events = EventStore(clickhouse)
        self.events = EventStore(clickhouse)
        self.quantities = UsageQuantities(clickhouse, settle_seconds)
        self.counted = CountedEvents(clickhouse)

    async def accounts(self, namespace: str, customer_ids: Collection[str]) -> list[Account]:
        """The accounts of these customers, deleted ones too, in the order of their subjects.

        That is the order that their events are stored in.
        """
        customers = await self.customers.with_ids(namespace, customer_ids)
        spans = await self.customers.spans(customer_ids)
        claims = await self.customers.last_claims(customer_ids)
        if namespace in await self.sandboxes.frozen():  # they were made by another clock
            claims = dict.fromkeys(claims, LATEST)
        subscriptions = await self.subscriptions.of_customers(namespace, customer_ids)
        cards = await self.re_ratings.cards(customer_ids)
        profiles = await self.profiles.every(namespace)
        return sorted(
            (
                Account(
                    one,
                    spans.get(one.id, ()),
                    profile_of(profiles, one.billing_profile_id),
                    tuple(subscriptions.get(one.id, ())),
                    claims.get(one.id),
                    cards.get(one.id, {}),
                )
                for one in customers
            ),
            key=lambda account: (
                account.spans[0].subject if account.spans else "",
                account.customer.id,
            ),
        )

    async def metered(self, namespace: str, feature_ids: Iterable[str]) -> dict[str, Metered]:
        """What counts for each feature; one that has no meter is absent."""
        features = await self.features.by_ids(namespace, set(feature_ids))
        by_meter = defaultdict(list)
        for feature in features.values():
            if feature.meter is not None:
                by_meter[feature.meter.id].append(feature)
        meters = await self.meters.by_ids(namespace, by_meter)
        return {
            feature.id: Metered(meter, feature.meter.filters)
            for meter_id, meter in meters.items()
            for feature in by_meter[meter_id]
            if feature.meter is not None
        }
