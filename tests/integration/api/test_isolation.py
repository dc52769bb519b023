"""A key of one namespace sees nothing of another one's, on any route, and changes nothing there.

Every route of the table is asked, by its owner with success and by strangers just before it; or it is
named here with the reason why it names nothing of a namespace. So a new route fails until it is asked.
"""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Final

import pytest
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from tallyman.api.route import Route
from tallyman.api.routes import ROUTES
from tallyman.api.state import DATABASE, EVENTS, KEYS
from tallyman.config import Settings
from tallyman.domain.access import Scope
from tallyman.domain.price import FlatPrice

from tests.integration.api.asked_of_a_shop import (
    TOP_UP,
    ask_about_costs,
    ask_about_credit,
    ask_about_customers,
    ask_about_events,
    ask_about_what_is_sold,
)
from tests.integration.api.asked_of_invoices import (
    ask_about_a_sandbox,
    ask_about_apps,
    ask_about_invoices,
)
from tests.integration.api.conftest import ClientOf, Clock
from tests.integration.api.invoicing import V1
from tests.integration.api.neighbours import (
    ACME,
    CANARY,
    NOBODYS_KEY,
    THEIRS,
    ULID,
    Neighbours,
    ids,
)
from tests.integration.api.selling import customer
from tests.integration.api.test_stripe import KEY
from tests.rigs.shop import COLLECTED, DECEMBER, NOVEMBER, Shop
from tests.rigs.stripe import SECRET, FakeStripe, fake_stripe

API: Final = "/api/v3/openmeter"
# Why these are not asked across namespaces.
OF_NO_NAMESPACE: Final = {
    "reconcile": "no key can ask it: it is this machine's own commands'",
    "linked-invoice-page": "it asks for no key: the link is its own secret, and names one invoice",
    "linked-invoice-pdf": "it asks for no key: the link is its own secret, and names one invoice",
    "take-stripe-webhook": "it asks for no key: Stripe signs it, and it moves what Stripe has",
    "get-app-catalog-item": "what can be installed is the same everywhere",
    "list-app-catalog": "what can be installed is the same everywhere",
    "alive": "of the process",
    "ready": "of the process",
    "metrics": "of the process, without names: the lists' test looks for them",
    "openapi": "of the program",
    "documentation": "of the program",
    "documentation-file": "of the program",
}


@pytest.fixture
async def stripe() -> AsyncIterator[FakeStripe]:
    async with fake_stripe() as fake:
        yield fake


@pytest.fixture
def stripe_namespace() -> str:
    """Whose Stripe it is; a server has it for one namespace."""
    return THEIRS


@pytest.fixture
def settings(settings: Settings, stripe: FakeStripe, stripe_namespace: str) -> Settings:
    """With Stripe, and with links to invoices."""
    more = {
        "stripe_namespace": stripe_namespace,
        "stripe_api_url": stripe.url,
        "stripe_api_key": SecretStr(KEY),
        "stripe_webhook_secret": SecretStr(SECRET),
        "stripe_interval_seconds": 3600,
        "invoice_link_secret": SecretStr("0123456789abcdef"),
    }
    return settings.model_copy(update=more)


@pytest.fixture
async def theirs(server: TestServer, clock: Clock) -> Shop:
    """A shop of another namespace; each of its names begins with the canary."""
    clock.now = DECEMBER
    shop = Shop(server.app[DATABASE], server.app[EVENTS]._clickhouse, THEIRS)
    fee = await shop.card(f"{CANARY}_fee", FlatPrice(D(10)))
    await shop.plan(await shop.card(f"{CANARY}_tokens"), fee, key=f"{CANARY}_plan")
    await shop.customer(ACME)
    await shop.subscribe(ACME, f"{CANARY}_plan")
    await shop.use(15_000, NOVEMBER + timedelta(days=1), ACME, model=f"{CANARY}-model")
    return shop


@pytest.fixture
def neighbours(
    server: TestServer, client_of: ClientOf, theirs: Shop, stripe: FakeStripe
) -> Neighbours:
    return Neighbours(server, client_of, theirs, stripe)


async def test_what_is_theirs_is_answered_as_what_nobody_has(
    neighbours: Neighbours, server: TestServer, client_of: ClientOf, clock: Clock
) -> None:
    await ask_about_events(neighbours)
    await ask_about_what_is_sold(neighbours)
    await ask_about_costs(neighbours)
    await ask_about_customers(neighbours)
    await ask_about_credit(neighbours)
    await ask_about_invoices(neighbours, clock)
    await ask_about_apps(neighbours)
    clock.now = datetime.now(UTC)  # when usage was counted for the entitlements
    await ask_about_a_sandbox(neighbours, server, client_of)

    assert neighbours.told | set(OF_NO_NAMESPACE) == {route.name for route in ROUTES}
    assert not neighbours.told & set(OF_NO_NAMESPACE)


@pytest.mark.parametrize("stripe_namespace", ["ours"])
async def test_whose_stripe_it_is_reaches_no_customer_of_another_namespace(
    theirs: Shop, stripe: FakeStripe, client_of: ClientOf
) -> None:
    client = await client_of(Scope.ADMIN, namespace="ours")
    await customer(client, "zoe")
    found = []
    for name in (ACME, NOBODYS_KEY, "zoe"):
        billing = f"{API}/customers/{name}/billing"
        answers = [
            await client.post(f"{billing}/stripe/checkout-sessions", json={"stripe_options": {}}),
            await client.post(f"{billing}/stripe/portal-sessions", json={"stripe_options": {}}),
            await client.put(f"{billing}/app-data", json={"stripe": {"labels": {"team": "x"}}}),
            await client.put(f"/api/v1/customers/{name}/credits/top-ups/USD", json=TOP_UP),
        ]
        found.append([answer.status for answer in answers])

    assert found == [[404] * 4, [404] * 4, [201, 201, 200, 200]]
    assert [one["name"] for one in stripe.customers.values()] == ["zoe"]


async def test_lists_by_every_filter_have_nothing_of_theirs(
    neighbours: Neighbours, clock: Clock
) -> None:
    clock.now = DECEMBER + COLLECTED
    await neighbours.shop.bill(clock.now)
    client, theirs = await neighbours.stranger(), ids(await neighbours.kept())

    for route in ROUTES:
        if route.method != "GET" or "{" in route.path:
            continue
        for query in queries(route):
            got = await client.get(f"{route.paths[0]}{query}")
            text = (await got.read()).decode("latin-1")

            assert got.status == 200, (route.name, query, text)
            assert CANARY not in (text.replace(ACME, "") if query else text), (route.name, query)
            assert not theirs & set(ULID.findall(text)), (route.name, query)


def queries(route: Route) -> Iterator[str]:
    """None, where nothing is required, and a query by each of the route's filters."""
    described = route.parameters.describe() if route.parameters is not None else []
    required = [one["name"] for one in described if one.get("required")]
    if not required:
        yield ""
    for name in required:
        yield f"?{name}={ACME}"
    for one in described:
        if one["name"].startswith("filter["):
            by = one["schema"].get("properties", {})
            is_time = by.get("eq", {}).get("format") == "date-time"
            yield (
                f"?{one['name']}[gte]=2020-01-01T00:00:00Z" if is_time else f"?{one['name']}={ACME}"
            )


async def test_their_key_opens_their_namespace_alone(
    theirs: Shop, client_of: ClientOf, server: TestServer
) -> None:
    reader = await client_of(Scope.READ, namespace=THEIRS)
    keys = await server.app[KEYS].list()

    listed = await (await reader.get(f"{V1.removesuffix('/billing')}/status")).json()

    assert listed["keys"] == sum(one.namespace == THEIRS for one in keys)
    assert listed["events"] == 1
