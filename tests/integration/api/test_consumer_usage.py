"""`GET /api/usage`: what a consumer is told, who may ask about whom, and in which time."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from tallyman import app
from tallyman.api.state import CLOCK, DATABASE, ENTITLEMENTS, METERS, SUBSCRIPTIONS
from tallyman.config import Settings
from tallyman.domain.access import Scope
from tallyman.domain.entitlement import MeteredEntitlement
from tallyman.domain.feature import Feature, FeatureMeter
from tallyman.domain.plan import Plan
from tallyman.domain.price import UnitPrice
from tallyman.store.features import FeatureStore
from tallyman.store.new_subscription import NewSubscription, PlanReference
from tallyman.store.plans import PlanStore

from tests.integration.api.conftest import Client, ClientOf
from tests.integration.store.catalogue import plan_of

USAGE = "/api/usage"
CUSTOMERS = "/api/v3/openmeter/customers"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BY_KONG = {"X-Consumer-ID": "c-id", "X-Consumer-Username": "acme", "X-Consumer-Custom-ID": "42"}


class Clock:
    """What the application takes for the time."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def server(settings: Settings, clock: Clock) -> AsyncIterator[TestServer]:
    """The application, which has the clock from its start."""
    built = app.build(settings)
    told: Callable[[], datetime] = clock
    built[CLOCK] = told
    server = TestServer(built)
    async with server:
        yield server


async def send(
    client: Client, subject: str, at: datetime, tokens: int, model: str = "gpt-4o"
) -> None:
    """One call: so many tokens in, half of them out."""
    events = [
        {
            "specversion": "1.0",
            "id": f"{subject}{at}{model}{kind}",
            "source": "test",
            "type": "llm.tokens",
            "subject": subject,
            "time": at.isoformat(),
            "data": {"tokens": number, "type": kind, "model": model},
        }
        for kind, number in (("request", tokens), ("response", tokens // 2))
    ]
    assert (await client.post("/api/v3/openmeter/events", json=events)).status == 202


async def make(client: Client, key: str, *subjects: str) -> str:
    body = {"key": key, "name": key.title(), "usage_attribution": {"subject_keys": subjects}}
    answer = await client.post(CUSTOMERS, json=body)
    assert answer.status == 201, await answer.text()
    return str((await answer.json())["id"])


async def subscribe(server: TestServer, customer: str, anchor: datetime) -> str:
    """The customer on a monthly plan from the anchor on."""
    database = server.app[DATABASE]
    meter = await server.app[METERS].get("default", "kong_konnect_llm_tokens")
    feature = await FeatureStore(database).create(
        Feature(
            id="",
            namespace="default",
            key="tokens",
            name="T",
            created_at=NOW,
            updated_at=NOW,
            meter=FeatureMeter(meter.id),
        )
    )
    plans = PlanStore(database)
    plan = await plans.create(entitled(plan_of(feature, UnitPrice(Decimal("0.01"))), Decimal(1000)))
    await plans.publish("default", plan.id, anchor)
    made = await server.app[SUBSCRIPTIONS].create(
        "default",
        NewSubscription(customer, PlanReference(key="plan"), anchor, anchor),
        anchor,
    )
    return made.id


def entitled(plan: Plan, limit: Decimal) -> Plan:
    """The plan with so many of what it meters in each period."""
    [phase] = plan.phases
    cards = tuple(
        card if card.feature is None else replace(card, entitlement=MeteredEntitlement(limit))
        for card in phase.rate_cards
    )
    return replace(plan, phases=(replace(phase, rate_cards=cards),))


async def usage(client: Client, **query: str) -> dict[str, Any]:
    answer = await client.get(USAGE, params=query)
    assert answer.status == 200, await answer.text()
    found: dict[str, Any] = await answer.json()
    return found


async def test_a_consumer_sees_this_periods_usage_by_model_and_type(
    client: Client, server: TestServer
) -> None:
    anchor = datetime(2026, 10, 15, tzinfo=UTC)
    customer = await make(client, "acme-corp", "acme", "acme-batch")
    subscription = await subscribe(server, customer, anchor)
    await send(client, "acme", datetime(2026, 11, 14, 23, 59, 59, tzinfo=UTC), 1000)
    await send(client, "acme", datetime(2026, 11, 15, tzinfo=UTC), 20)
    await send(client, "acme", datetime(2026, 11, 16, tzinfo=UTC), 4)
    await send(client, "acme", datetime(2026, 11, 16, tzinfo=UTC), 6, "claude")
    await send(client, "acme-batch", datetime(2026, 11, 16, tzinfo=UTC), 500)
    await server.app[ENTITLEMENTS].refresh()

    assert await usage(client, subject="acme") == {
        "subject": "acme",
        "customer": {"id": customer, "key": "acme-corp", "name": "Acme-Corp"},
        "subscription": {"id": subscription, "plan_key": "plan", "plan_version": 1},
        "period": {"from": "2026-11-15T00:00:00Z", "to": "2026-12-15T00:00:00Z"},
        "calls": "3",
        "tokens": "45",
        "usage": [
            {"model": "claude", "type": "request", "tokens": "6"},
            {"model": "claude", "type": "response", "tokens": "3"},
            {"model": "gpt-4o", "type": "request", "tokens": "24"},
            {"model": "gpt-4o", "type": "response", "tokens": "12"},
        ],
        # these are the customer's, with the 750 tokens of its other consumer
        "left": [
            {
                "feature_key": "tokens",
                "has_access": True,
                "used": "795",
                "limit": "1000",
                "left": "205",
                "period": {"from": "2026-11-15T00:00:00Z", "to": "2026-12-15T00:00:00Z"},
            }
        ],
        "cost": {
            "currency": "USD",
            "amount": "27.95",
            "lines": [
                {"name": "Fee", "amount": "20"},
                {"name": "Usage", "feature_key": "tokens", "quantity": "795", "amount": "7.95"},
            ],
        },
    }


async def test_without_a_customer_it_is_the_month_and_says_that_nobody_pays(client: Client) -> None:
    await send(client, "eve", datetime(2026, 11, 1, tzinfo=UTC), 10)
    await send(client, "eve", datetime(2026, 10, 31, tzinfo=UTC), 10)

    found = await usage(client, subject="eve")

    assert found["unattributed"]["code"] == "no_customer"
    assert "customer" not in found
    assert found["period"] == {"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
    assert (found["calls"], found["tokens"]) == ("1", "15")


async def test_what_the_consumer_used_before_it_was_this_customers_is_not_counted(
    client: Client, clock: Clock
) -> None:
    await make(client, "first", "acme")
    await make(client, "second")
    await send(client, "acme", datetime(2026, 11, 20, tzinfo=UTC), 100)
    await send(client, "acme", NOW, 10)
    for key, subjects in (("first", []), ("second", ["acme"])):
        body = {"name": key, "usage_attribution": {"subject_keys": subjects}}
        assert (await client.put(f"{CUSTOMERS}/{key}", json=body)).status == 200

    found = await usage(client, subject="acme")

    assert (found["customer"]["key"], found["tokens"]) == ("second", "15")


async def test_behind_the_gateway_a_consumer_is_answered_about_itself_alone(
    client: Client,
) -> None:
    await send(client, "acme", NOW, 10)

    own = await client.get(USAGE, headers=BY_KONG)
    others = await client.get(USAGE, headers=BY_KONG, params={"subject": "globex"})

    assert ((await own.json())["subject"], (await own.json())["tokens"]) == ("acme", "15")
    assert own.headers["Cache-Control"] == "no-store"
    assert others.status == 400
    assert (await others.json())["invalid_parameters"][0]["field"] == "subject"


async def test_whom_the_gateway_does_not_know_is_refused(client: Client) -> None:
    for headers in ({"X-Anonymous-Consumer": "true"}, BY_KONG | {"X-Anonymous-Consumer": "true"}):
        answer = await client.get(USAGE, headers=headers, params={"subject": "acme"})

        assert answer.status == 403


@pytest.mark.parametrize(
    ("query", "field", "rule"),
    [
        pytest.param("", "subject", "required", id="nobody is named"),
        pytest.param("?subject=", "subject", "required", id="an empty name"),
        pytest.param("?subject=a&subject=b", "subject", "invalid", id="two are named"),
        pytest.param("?subject=a%00", "subject", "invalid", id="a NUL"),
        pytest.param("?subjects=a", "subjects", "unknown_property", id="a slip"),
    ],
)
async def test_a_wrong_question_is_refused_with_the_field(
    client: Client, query: str, field: str, rule: str
) -> None:
    answer = await client.get(USAGE + query)

    assert answer.status == 400
    assert [
        (found["field"], found["rule"]) for found in (await answer.json())["invalid_parameters"]
    ] == [(field, rule)]


async def test_a_key_asks_about_its_own_namespace_and_needs_the_scope(
    client: Client, client_of: ClientOf
) -> None:
    await send(client, "acme", NOW, 10)
    theirs = await client_of(Scope.READ, namespace="theirs")
    sender = await client_of(Scope.INGEST)

    assert (await usage(theirs, subject="acme"))["tokens"] == "0"
    assert (await sender.get(USAGE, params={"subject": "acme"})).status == 403
