"""Owns a shop on real stores: features and plans, customers who subscribe and use tokens, and its bills.

It asserts nothing.
"""

import itertools
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any

import msgspec
from sqlalchemy import select, update
from tallyman.billing.books import Books
from tallyman.billing.outcome import Outcome
from tallyman.billing.run import Order, run
from tallyman.domain.customer import Customer
from tallyman.domain.duration import Duration
from tallyman.domain.event import CloudEvent
from tallyman.domain.feature import Feature, FeatureMeter
from tallyman.domain.invoice import Invoice
from tallyman.domain.meter import DimensionFilter
from tallyman.domain.plan import Plan
from tallyman.domain.plan_phase import PlanPhase
from tallyman.domain.price import FlatPrice, Price, UnitPrice
from tallyman.domain.rate_card import FeatureReference, PaymentTerm, RateCard
from tallyman.domain.subscription import Subscription
from tallyman.store.billing_profiles import BillingProfileChange
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.comparison import Comparison
from tallyman.store.database import Database
from tallyman.store.events import EventStore, Received
from tallyman.store.new_subscription import NewSubscription, PlanReference
from tallyman.store.plans import PlanStore
from tallyman.store.tables import features

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
JANUARY = datetime(2027, 1, 1, tzinfo=UTC)
COLLECTED = timedelta(hours=1)
PER_TOKEN = UnitPrice(D("0.000002"))


class Shop:
    """One namespace, its clock where the test puts it."""

    def __init__(self, database: Database, clickhouse: ClickHouse, namespace: str) -> None:
        self.database = database
        self.clickhouse = clickhouse
        self.namespace = namespace
        self.books = Books(database, clickhouse)
        self.events = EventStore(clickhouse)
        self.plans = PlanStore(database)
        self._numbers = itertools.count(1)

    async def card(self, key: str = "tokens", price: Price = PER_TOKEN, **rest: Any) -> RateCard:
        """A monthly rate card; a flat price is in advance, any other for the tokens of `only`."""
        given = {"billing_cadence": Duration(1), "name": key.capitalize(), **rest}
        only = given.pop("only", {})
        if isinstance(price, FlatPrice):
            term = given.pop("payment_term", PaymentTerm.IN_ADVANCE)
            return RateCard(key=key, price=price, payment_term=term, **given)
        meter = await self.books.meters.get(
            self.namespace, given.pop("meter", "kong_konnect_llm_tokens")
        )
        filters = tuple(DimensionFilter(name, "eq", (value,)) for name, value in only.items())
        feature = await self.books.features.create(
            Feature(
                "", self.namespace, key, key, NOVEMBER, NOVEMBER, FeatureMeter(meter.id, filters)
            )
        )
        return RateCard(key=key, price=price, feature=FeatureReference(feature.id, key), **given)

    async def set_meter(self, card: RateCard, meter_id: str | None) -> str | None:
        """What the card's feature is counted by from now on, or nothing; returns what it was."""
        mine = features.c.id == (card.feature.id if card.feature else "")
        async with self.database.writing() as connection:
            before = await connection.execute(select(features.c.meter_id).where(mine))
            await connection.execute(update(features).where(mine).values(meter_id=meter_id))
            return str(before.scalar_one())

    async def plan(self, *cards: RateCard, key: str = "starter", **rest: Any) -> Plan:
        """A plan that is in force."""
        given = {
            "currency": "USD",
            "billing_cadence": Duration(1),
            "phases": (PlanPhase("all", "All", cards),),
            **rest,
        }
        draft = Plan(
            id="",
            namespace=self.namespace,
            key=key,
            version=0,
            name=key.capitalize(),
            created_at=NOVEMBER,
            updated_at=NOVEMBER,
            **given,
        )
        made = await self.plans.create(draft)
        return await self.plans.publish(self.namespace, made.id, NOVEMBER - timedelta(days=700))

    async def customer(self, key: str = "acme", *subjects: str, **rest: Any) -> Customer:
        """A customer with these subjects, or with the one of its own name."""
        wanted = Customer(
            "", self.namespace, key, key, NOVEMBER, NOVEMBER, subjects or (key,), **rest
        )
        return await self.books.customers.create(wanted)

    async def subscribe(
        self, customer: str = "acme", plan: str = "starter", at: datetime = NOVEMBER, **rest: Any
    ) -> Subscription:
        """A subscription from then on."""
        new = NewSubscription(customer, PlanReference(key=plan), active_from=at, **rest)
        return await self.books.subscriptions.create(self.namespace, new, at)

    async def use(self, tokens: Any, at: datetime, subject: str = "acme", **data: Any) -> None:
        """One event of so many tokens at that time, stored now."""
        given = {"tokens": tokens, "type": "request", "model": "gpt-4o", **data}
        event = CloudEvent(
            id=str(next(self._numbers)),
            source="kong",
            type="llm.tokens",
            subject=subject,
            time=at,
            data=msgspec.Raw(msgspec.json.encode(given)),
        )
        await self.events.accept([Received(self.namespace, event, at)])

    async def bill(
        self, at: datetime, customer_ids: Collection[str] | None = None, **rest: Any
    ) -> Outcome:
        """One run of billing at that time."""
        return await run(self.books, self.namespace, Order(at, customer_ids, **rest))

    async def invoices(self, customer: Customer | None = None) -> list[Invoice]:
        """All that are not deleted, in the order of their times."""
        whose = [] if customer is None else [Comparison("customer_id", "eq", (customer.id,))]
        page, _ = await self.books.invoices.page(
            self.namespace, whose, order_by="service_from", limit=1000
        )
        return sorted(page, key=lambda one: (one.invoice_at or one.created_at, one.version))

    async def change_workflow(self, **changes: Any) -> None:
        """Change the default profile's workflow."""
        profile = await self.books.profiles.default(self.namespace)
        change = BillingProfileChange(
            profile.name, profile.supplier, replace(profile.workflow, **changes), is_default=True
        )
        await self.books.profiles.replace(self.namespace, profile.id, change, NOVEMBER)
