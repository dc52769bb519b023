"""Stripe over the API: the app and its masked key, links, Stripe's pages, and webhooks."""

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr
from tallyman import app, connections
from tallyman.api.app_bodies import app_id
from tallyman.api.state import KEYS, STRIPE
from tallyman.config import Settings
from tallyman.domain.access import Scope
from tallyman.domain.billing_profile import App
from tallyman.errors import ConfigurationError

from tests.integration.api.conftest import Client
from tests.rigs.stripe import SECRET, FakeStripe, fake_stripe, signed

KEY = "sk_test_canarycanary1234"
OPENMETER = "/api/v3/openmeter"
CUSTOMERS = f"{OPENMETER}/customers"
WEBHOOK = "/api/v1/stripe/webhook"


def with_stripe(directory: Path, url: str, **rest: Any) -> Settings:
    return Settings(
        data_dir=directory / "data",
        billing_interval_seconds=0,
        stripe_interval_seconds=3600,
        stripe_api_url=url,
        stripe_webhook_secret=SecretStr(SECRET),
        **{"stripe_api_key": SecretStr(KEY), **rest},
    )


@pytest.fixture
async def stripe() -> AsyncIterator[FakeStripe]:
    async with fake_stripe() as fake:
        yield fake


@pytest.fixture
async def selling(tmp_path: Path, stripe: FakeStripe) -> AsyncIterator[Client]:
    """A client of a server with Stripe."""
    server = TestServer(app.build(with_stripe(tmp_path, stripe.url)))
    async with server:
        _, secret = await server.app[KEYS].create("default", "test", [Scope.ADMIN])
        client: Client = TestClient(server, headers={"Authorization": f"Bearer {secret}"})
        yield client
        await client.session.close()


async def ask(client: Client, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    answer = await client.request(method, path, json=body)
    return answer.status, json.loads(await answer.text())


async def acme(client: Client) -> None:
    status, _ = await ask(client, "POST", CUSTOMERS, {"key": "acme", "name": "Acme"})
    assert status == 201


async def test_the_app_shows_its_account_and_never_its_key(
    selling: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        status, found = await ask(selling, "GET", f"{OPENMETER}/apps/{app_id(App.STRIPE)}")
        _, page = await ask(selling, "GET", f"{OPENMETER}/apps")
        metrics = await (await selling.get("/metrics")).text()

    assert status == 200
    assert (found["type"], found["status"], found["livemode"]) == ("stripe", "ready", False)
    assert (found["account_id"], found["masked_api_key"]) == ("acct_1", "sk_test_…1234")
    assert [one["type"] for one in page["data"]] == ["sandbox", "stripe"]
    for text in (json.dumps(page), caplog.text, metrics):
        assert "canary" not in text
        assert SECRET not in text


@pytest.mark.parametrize(
    ("key", "status"),
    [pytest.param(KEY, 201, id="the same"), pytest.param("sk_canary", 400, id="another")],
)
async def test_stripe_is_installed_with_the_key_of_the_environment_alone(
    selling: Client, key: str, status: int
) -> None:
    body = {"type": "stripe", "name": "Cards", "create_billing_profile": True, "api_key": key}
    found, answer = await ask(selling, "POST", f"{OPENMETER}/app-catalog/install", body)
    _, profiles = await ask(selling, "GET", f"{OPENMETER}/profiles")
    path = f"{OPENMETER}/apps/{app_id(App.STRIPE)}"
    update = {"type": "stripe", "name": "Cards", "secret_api_key": key}
    put, _ = await ask(selling, "PUT", path, update)

    assert (found, put) == (status, 200 if status == 201 else 400)
    assert "canary" not in json.dumps(answer)
    assert ("Cards" in [one["name"] for one in profiles["data"]]) == (status == 201)


async def test_without_stripe_there_is_the_sandbox_alone(client: Client) -> None:
    _, page = await ask(client, "GET", f"{OPENMETER}/apps")
    await acme(client)
    sessions = f"{CUSTOMERS}/acme/billing/stripe/portal-sessions"
    refused, problem = await ask(client, "POST", sessions, {"stripe_options": {}})
    unheard = await client.post(WEBHOOK, data=b"{}", headers={"Stripe-Signature": signed(b"{}")})
    unsigned = await client.post(WEBHOOK, data=b"{}")
    linked, _ = await ask(
        client, "PUT", f"{CUSTOMERS}/acme/billing/app-data", {"stripe": {"customer_id": "cus_1"}}
    )

    assert [one["type"] for one in page["data"]] == ["sandbox"]
    assert (refused, problem["code"]) == (409, "app_not_ready")
    assert (unheard.status, unsigned.status, linked) == (409, 400, 409)


def test_a_key_that_is_set_to_nothing_is_none(tmp_path: Path) -> None:
    settings = with_stripe(tmp_path, "http://127.0.0.1:1", stripe_api_key=SecretStr(""))

    assert connections.stripe_account(settings) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({"stripe_api_key": SecretStr("sk_live_canary1")}, "stripe_live", id="live"),
        pytest.param(
            {"stripe_api_key": SecretStr("pk_test_canary1")}, "no secret key", id="public"
        ),
        pytest.param({"stripe_api_key": SecretStr("canary")}, "no secret key", id="no key"),
    ],
)
def test_a_key_that_is_live_unasked_or_none_stops_the_start(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said) as stopped:
        app.build(with_stripe(tmp_path, "http://127.0.0.1:1", **settings))

    assert "canary" not in str(stopped.value)


def test_a_live_key_is_taken_with_its_flag(tmp_path: Path) -> None:
    live = SecretStr("rk_live_abc")

    app.build(with_stripe(tmp_path, "http://127.0.0.1:1", stripe_api_key=live, stripe_live=True))


async def test_a_customer_is_linked_to_one_that_is_at_stripe(
    selling: Client, stripe: FakeStripe
) -> None:
    await acme(selling)
    stripe.customers["cus_9"] = {"id": "cus_9", "object": "customer", "created": 0}
    linked = {"stripe": {"customer_id": "cus_9", "default_payment_method_id": "pm_1"}}

    put = await ask(selling, "PUT", f"{CUSTOMERS}/acme/billing/app-data", linked)
    _, got = await ask(selling, "GET", f"{CUSTOMERS}/acme/billing")
    status, problem = await ask(
        selling, "PUT", f"{CUSTOMERS}/acme/billing/app-data", {"stripe": {"customer_id": "cus_0"}}
    )

    assert put == (200, linked)
    assert got["app_data"] == linked
    assert (status, problem["invalid_parameters"][0]["rule"]) == (400, "missing_reference")


async def test_two_customers_are_not_one_at_stripe(selling: Client, stripe: FakeStripe) -> None:
    await acme(selling)
    await ask(selling, "POST", CUSTOMERS, {"key": "zoe", "name": "Zoë"})
    stripe.customers["cus_9"] = {"id": "cus_9", "object": "customer", "created": 0}
    linked = {"stripe": {"customer_id": "cus_9"}}
    await ask(selling, "PUT", f"{CUSTOMERS}/acme/billing/app-data", linked)

    status, problem = await ask(selling, "PUT", f"{CUSTOMERS}/zoe/billing/app-data", linked)

    assert (status, problem["code"]) == (409, "conflict")


async def test_a_customer_is_billed_by_the_profile_that_is_chosen(client: Client) -> None:
    await acme(client)
    unknown = {"billing_profile": {"id": app_id(App.STRIPE)}}

    status, problem = await ask(client, "PUT", f"{CUSTOMERS}/acme/billing", unknown)

    assert (status, problem["invalid_parameters"][0]["field"]) == (400, "billing_profile.id")


async def test_a_webhook_needs_no_key_but_a_signature(selling: Client, stripe: FakeStripe) -> None:
    stripe.invoices["in_1"] = {"id": "in_1", "object": "invoice", "status": "paid"}
    stripe.lines["in_1"] = []
    body = stripe.event("invoice.paid", "in_1", 1)
    anonymous = {"Authorization": ""}

    forged = await selling.post(WEBHOOK, data=body, headers={"Stripe-Signature": "t=1,v1=0"})
    heard = [
        await selling.post(
            WEBHOOK, data=body, headers={"Stripe-Signature": signed(body)} | anonymous
        )
        for _ in range(2)
    ]

    assert forged.status == 400
    assert [one.status for one in heard] == [200, 200]
    assert [(await one.json())["result"] for one in heard] == ["ignored", "known"]


async def test_an_event_of_live_mode_is_ignored_by_a_test_key(
    selling: Client, stripe: FakeStripe
) -> None:
    stripe.invoices["in_1"] = {"id": "in_1", "object": "invoice", "status": "paid"}
    stripe.lines["in_1"] = []
    body = stripe.event("invoice.paid", "in_1").replace(b'"livemode": false', b'"livemode": true')

    answer = await selling.post(WEBHOOK, data=body, headers={"Stripe-Signature": signed(body)})

    assert (await answer.json())["result"] == "ignored"


async def test_a_key_that_stripe_does_not_take_is_shown(
    selling: Client, stripe: FakeStripe, caplog: pytest.LogCaptureFixture
) -> None:
    stripe.is_revoked = True

    _, found = await ask(selling, "GET", f"{OPENMETER}/apps/{app_id(App.STRIPE)}")

    assert (found["status"], found["account_id"]) == ("unauthorized", "")
    assert "canary" not in caplog.text


async def test_a_profile_s_invoices_go_to_stripe_and_stay_there(selling: Client) -> None:
    stripe_app, sandbox = ({"id": app_id(one)} for one in (App.STRIPE, App.SANDBOX))
    apps = {"tax": sandbox, "invoicing": stripe_app, "payment": stripe_app}
    given = {"name": "Stripe", "supplier": {}, "workflow": {}, "default": True}

    made, profile = await ask(selling, "POST", f"{OPENMETER}/profiles", given | {"apps": apps})
    _, changed = await ask(selling, "PUT", f"{OPENMETER}/profiles/{profile['id']}", given)
    mixed, problem = await ask(
        selling, "POST", f"{OPENMETER}/profiles", given | {"apps": apps | {"payment": sandbox}}
    )

    assert (made, profile["apps"], changed["apps"]) == (201, apps, apps)
    assert (mixed, problem["invalid_parameters"][0]["field"]) == (400, "apps.payment.id")


async def test_a_profile_cannot_have_an_app_that_is_not_set_up(client: Client) -> None:
    apps = {name: {"id": app_id(App.STRIPE)} for name in ("tax", "invoicing", "payment")}
    given = {"name": "Stripe", "supplier": {}, "workflow": {}, "default": True, "apps": apps}

    status, problem = await ask(client, "POST", f"{OPENMETER}/profiles", given)

    assert (status, problem["invalid_parameters"][0]["rule"]) == (400, "missing_reference")


async def test_an_invoice_of_stripe_s_profile_is_billed_and_paid_by_the_server(
    selling: Client, stripe: FakeStripe
) -> None:
    stripe_app, sandbox = ({"id": app_id(one)} for one in (App.STRIPE, App.SANDBOX))
    apps = {"tax": sandbox, "invoicing": stripe_app, "payment": stripe_app}
    given = {"name": "Stripe", "supplier": {}, "workflow": {}, "default": True, "apps": apps}
    await ask(selling, "POST", f"{OPENMETER}/profiles", given)
    await acme(selling)
    await subscribe(selling)

    answer = await selling.post(
        "/api/v1/billing/run", json={"at": "2026-11-30T00:00:00Z", "ahead": True}
    )
    await answer.read()
    _, before = await ask(selling, "GET", f"{OPENMETER}/billing/invoices")
    assert isinstance(selling.server, TestServer)
    running = selling.server.app[STRIPE]
    assert running is not None
    await running.work()
    _, after = await ask(selling, "GET", f"{OPENMETER}/billing/invoices")

    extended = before["data"][0]["status_details"]["extended_status"]
    assert extended == "issuing.syncing"
    assert [one["status"] for one in after["data"]] == ["paid"]
    [(stripe_id, amount)] = stripe.payments
    assert after["data"][0]["external_references"]["invoicing_id"] == stripe_id
    assert amount == 2000


async def subscribe(client: Client) -> None:
    """Acme has a plan of $20 a month, in advance, since 1 November."""
    flat = {"type": "flat", "amount": "20"}
    card = {"key": "base", "name": "Base", "price": flat, "payment_term": "in_advance"}
    plan = {
        "key": "starter",
        "name": "Starter",
        "currency": "USD",
        "billing_cadence": "P1M",
        "phases": [
            {"key": "all", "name": "All", "rate_cards": [card | {"billing_cadence": "P1M"}]}
        ],
    }
    _, made = await ask(client, "POST", f"{OPENMETER}/plans", plan)
    status, _ = await ask(client, "POST", f"{OPENMETER}/plans/{made['id']}/publish", {})
    assert status == 200
    new = {
        "customer": {"key": "acme"},
        "plan": {"key": "starter"},
        "active_from": "2026-11-01T00:00:00Z",
        "billing_anchor": "2026-11-01T00:00:00Z",
    }
    status, problem = await ask(client, "POST", f"{OPENMETER}/subscriptions", new)
    assert status == 201, problem


async def test_a_top_up_that_stripe_cannot_take_is_refused_when_it_is_put(selling: Client) -> None:
    await acme(selling)
    path = "/api/v1/customers/acme/credits/top-ups/KWD"
    body = {"threshold": "5", "amount": "1.001", "most_per_month": "9"}

    status, problem = await ask(selling, "PUT", path, body)
    assert (status, problem["code"]) == (400, "stripe_refused")
    assert (await ask(selling, "PUT", path, body | {"amount": "1.010"}))[0] == 200
