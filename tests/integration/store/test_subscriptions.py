"""Subscriptions on both relational stores: one at a time, changed, canceled, deleted, listed."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from tallyman.domain.customer import Customer
from tallyman.domain.feature import Feature
from tallyman.domain.plan import Plan
from tallyman.domain.subscription import Subscription, SubscriptionStatus
from tallyman.domain.subscription_change import EditTiming
from tallyman.errors import Conflict, Gone, InvalidInput, NotFound, SubscriptionNotChangeable
from tallyman.store.audit import AuditLog
from tallyman.store.comparison import Comparison
from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database
from tallyman.store.features import FeatureStore
from tallyman.store.new_subscription import NewSubscription, PlanReference
from tallyman.store.plans import PlanStore
from tallyman.store.subscriptions import SubscriptionStore

from tests.integration.store.catalogue import NOW, plan_of

LATER = NOW + timedelta(days=10)
NEXT_MONTH = datetime(2026, 12, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Shop:
    """A store with a customer, `acme`, and a plan in force, `plan`."""

    store: SubscriptionStore
    plans: PlanStore
    customers: CustomerStore
    acme: Customer
    plan: Plan

    async def subscribe(
        self, customer: str = "acme", at: datetime | None = None, now: datetime = NOW
    ) -> Subscription:
        new = NewSubscription(customer, PlanReference(key="plan"), active_from=at)
        return await self.store.create("default", new, now)

    async def statuses(self, now: datetime) -> list[SubscriptionStatus]:
        found = await self.store.of_customers("default", [self.acme.id])
        return [one.status_at(now) for one in found[self.acme.id]]


@pytest.fixture
async def shop(database: Database) -> Shop:
    customers, plans = CustomerStore(database), PlanStore(database)
    feature = await FeatureStore(database).create(
        Feature("", "default", "tokens", "Tokens", NOW, NOW)
    )
    draft = await plans.create(plan_of(feature))
    return Shop(
        SubscriptionStore(database),
        plans,
        customers,
        await customers.create(customer_of("acme")),
        await plans.publish("default", draft.id, NOW),
    )


def customer_of(key: str, namespace: str = "default") -> Customer:
    return Customer("", namespace, key, key, NOW, NOW, (key,))


ON_PLAN = NewSubscription("acme", PlanReference(key="plan"))


async def test_a_subscription_is_read_as_it_was_made(shop: Shop, database: Database) -> None:
    made = await shop.store.create(
        "default",
        NewSubscription(
            "acme",
            PlanReference(id=shop.plan.id),
            active_from=NOW - timedelta(days=3, microseconds=1),
            billing_anchor=NOW,
            labels={"team": "a"},
        ),
        NOW,
        by="key-1",
    )

    assert await shop.store.get("default", made.id) == made
    assert made.active_from == NOW - timedelta(days=3, milliseconds=1)
    assert (made.plan_version, made.billing_anchor, made.customer_id) == (1, NOW, shop.acme.id)
    [entry] = await AuditLog(database).entries("default", "subscription", made.id)
    assert (entry.action, entry.actor, entry.before) == ("created", "key-1", None)


async def test_a_customer_has_one_subscription_at_a_time(shop: Shop) -> None:
    first = await shop.subscribe()

    with pytest.raises(Conflict) as refused:
        await shop.subscribe(at=LATER)
    await shop.store.cancel("default", first.id, LATER, NOW)
    with pytest.raises(Conflict):
        await shop.subscribe(at=LATER - timedelta(milliseconds=1))
    await shop.subscribe(at=LATER)

    assert refused.value.code == "only_single_subscription_allowed_per_customer_at_a_time"
    assert await shop.statuses(LATER) == ["inactive", "active"]


async def test_of_many_servers_at_once_one_makes_the_subscription(shop: Shop) -> None:
    made = await asyncio.gather(*(shop.subscribe() for _ in range(8)), return_exceptions=True)

    assert sum(isinstance(one, Subscription) for one in made) == 1
    assert sum(isinstance(one, Conflict) for one in made) == 7


async def test_a_version_that_was_archived_and_deleted_goes_on_for_who_has_it(shop: Shop) -> None:
    made = await shop.subscribe()
    await shop.plans.archive("default", shop.plan.id, LATER)
    await shop.plans.delete("default", shop.plan.id, LATER)

    assert await shop.store.get("default", made.id) == made
    with pytest.raises(NotFound):
        await shop.subscribe(now=LATER)


@pytest.mark.parametrize(
    ("new", "error"),
    [
        pytest.param(replace(ON_PLAN, customer="nobody"), NotFound, id="no such customer"),
        pytest.param(replace(ON_PLAN, plan=PlanReference(key="x")), NotFound, id="no such plan"),
        pytest.param(
            replace(ON_PLAN, plan=PlanReference(key="plan", version=2)),
            InvalidInput,
            id="the version is a draft",
        ),
        pytest.param(
            replace(ON_PLAN, customer="euro"), InvalidInput, id="the customer pays in euros"
        ),
    ],
)
async def test_what_cannot_be_subscribed_is_refused(
    shop: Shop, new: NewSubscription, error: type[Exception]
) -> None:
    await shop.plans.create(replace(shop.plan, id="", effective_from=None))
    await shop.customers.create(replace(customer_of("euro"), currency="EUR"))

    with pytest.raises(error):
        await shop.store.create("default", new, NOW)


async def test_a_change_ends_one_and_begins_the_next_at_the_same_moment(shop: Shop) -> None:
    first = await shop.subscribe()

    ended, begun = await shop.store.change(
        "default", first.id, ON_PLAN, EditTiming.NEXT_BILLING_CYCLE, LATER
    )

    assert (ended.active_to, begun.active_from, begun.billing_anchor) == (
        NEXT_MONTH,
        NEXT_MONTH,
        first.billing_anchor,
    )
    assert await shop.statuses(LATER) == ["canceled", "scheduled"]
    assert await shop.store.get("default", ended.id) == ended
    assert await shop.store.get("default", begun.id) == begun


async def test_a_change_must_be_of_the_same_customer(shop: Shop) -> None:
    first = await shop.subscribe()
    await shop.customers.create(customer_of("other"))

    with pytest.raises(InvalidInput, match="customer must be the subscription's own"):
        await shop.store.change(
            "default", first.id, replace(ON_PLAN, customer="other"), EditTiming.IMMEDIATE, LATER
        )

    assert await shop.statuses(LATER) == ["active"]


async def test_a_cancelation_is_taken_back_unless_another_follows(shop: Shop) -> None:
    first = await shop.subscribe()
    ended, begun = await shop.store.change("default", first.id, ON_PLAN, NEXT_MONTH, LATER)

    with pytest.raises(Conflict):
        await shop.store.unschedule_cancelation("default", ended.id, LATER)
    await shop.store.delete("default", begun.id, LATER)
    again = await shop.store.unschedule_cancelation("default", ended.id, LATER)

    assert again == replace(first, updated_at=LATER)
    with pytest.raises(SubscriptionNotChangeable):
        await shop.store.unschedule_cancelation("default", ended.id, LATER)


async def test_only_a_subscription_that_has_not_begun_is_deleted(shop: Shop) -> None:
    scheduled = await shop.subscribe(at=LATER)

    with pytest.raises(SubscriptionNotChangeable):
        await shop.store.delete("default", scheduled.id, LATER)
    await shop.store.delete("default", scheduled.id, NOW)

    with pytest.raises(Gone):
        await shop.store.get("default", scheduled.id)
    assert await shop.statuses(NOW) == []
    assert (await shop.subscribe()).status_at(NOW) is SubscriptionStatus.ACTIVE


async def test_a_customer_with_a_subscription_is_not_deleted(shop: Shop) -> None:
    await shop.subscribe()

    with pytest.raises(Conflict) as refused:
        await shop.customers.delete("default", "acme", NOW)

    assert refused.value.code == "deleting_customer_with_active_subscriptions"


@pytest.mark.parametrize(
    ("column", "value", "customers"),
    [
        pytest.param("status", "active", ["acme"], id="active"),
        pytest.param("status", "scheduled", ["b"], id="scheduled"),
        pytest.param("status", "canceled", ["c"], id="canceled"),
        pytest.param("status", "inactive", ["d"], id="inactive"),
        pytest.param("plan_key", "plan", ["acme", "b", "c", "d"], id="by plan"),
        pytest.param("plan_key", "other", [], id="by another plan"),
    ],
)
async def test_subscriptions_are_listed_by_filter(
    shop: Shop, column: str, value: str, customers: list[str]
) -> None:
    by_id = {shop.acme.id: "acme"}
    for key in "bcd":
        by_id[(await shop.customers.create(customer_of(key))).id] = key
    for number, key in enumerate(["acme", "b", "c", "d"]):
        made = await shop.subscribe(
            key, LATER + timedelta(days=1) if key == "b" else None, NOW + timedelta(hours=number)
        )
        if key in "cd":
            end = LATER + timedelta(days=1) if key == "c" else LATER
            await shop.store.cancel("default", made.id, end, NOW + timedelta(hours=5))

    page, total = await shop.store.page("default", [Comparison(column, "eq", (value,))], now=LATER)

    assert [by_id[one.customer_id] for one in page] == customers
    assert total == len(customers)


async def test_what_may_be_due_is_what_was_served_in_the_time(shop: Shop) -> None:
    first = await shop.subscribe()
    ended, begun = await shop.store.change("default", first.id, ON_PLAN, NEXT_MONTH, LATER)
    await shop.customers.create(customer_of("theirs", "theirs"))

    async def served(begin: datetime, end: datetime | None) -> list[str]:
        return [one.id for one in await shop.store.served_in("default", begin, end)]

    assert await served(NOW, NEXT_MONTH) == [ended.id]
    assert await served(NEXT_MONTH, None) == [begun.id]
    assert await served(NOW, None) == [ended.id, begun.id]
    assert await served(NOW - timedelta(days=9), NOW) == []
    assert await shop.store.namespaces() == ["default"]
