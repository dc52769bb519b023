"""Every change over the API leaves one line in the audit log, with who made it; a refusal none."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal as D
from typing import Any, Final

import pytest
from aiohttp.test_utils import TestServer
from sqlalchemy import select
from tallyman.api.routes import ROUTES
from tallyman.api.state import BOOKS, DATABASE, KEYS
from tallyman.domain.access import Scope
from tallyman.domain.billing_profile import App
from tallyman.domain.credit_top_up import CreditTopUp
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.price_list import read_price_list
from tallyman.store.credit_top_ups import CreditTopUpStore
from tallyman.store.price_changes import PriceChanges
from tallyman.store.tables import audit_log

from tests.integration.api.conftest import Client, ClientOf, Clock
from tests.integration.api.invoicing import V1, only, read
from tests.integration.api.selling import HARD, customer, sell, subscribe
from tests.integration.api.test_access import filled
from tests.integration.api.test_billing_profiles import profile
from tests.integration.api.test_credits import asked as gift
from tests.integration.api.test_llm_prices import OVERRIDE
from tests.rigs.shop import COLLECTED, DECEMBER, Shop

API: Final = "/api/v3/openmeter"
LOG: Final = "/api/v1/audit-log"
# What changes nothing that is kept, or is nobody's to change by a key.
NO_CHANGE: Final = {
    "ingest-metering-events",  # events say themselves who sent them, and when
    "take-kong-log",
    "compare-catalogue",  # taken back
    "backtest-catalogue",  # taken back too
    "link-invoice",  # nothing is kept of a link
    "reconcile",  # mends what is derived, and says so itself
    "create-customer-stripe-checkout-session",  # a page at Stripe
    "create-customer-stripe-portal-session",
    "take-stripe-webhook",
}
MAKING: Final = ("created", "reset", "granted", "overridden")
CHANGES: Final = {
    route.name
    for route in ROUTES
    if route.method != "GET" and route.scope is not Scope.READ and route.name not in NO_CHANGE
}


class Story:
    """Makes requests, and looks at what each left in the log."""

    def __init__(self, server: TestServer, client: Client, actor: str) -> None:
        self.client = client
        self._server = server
        self._actor = actor
        self._seen: set[str] = set()
        self.told: set[str] = set()

    async def new(self) -> list[Any]:
        """The lines since the last look, in their order."""
        async with self._server.app[DATABASE].reading() as connection:
            rows = (await connection.execute(select(audit_log).order_by(audit_log.c.at))).all()
        found = [row for row in rows if row.id not in self._seen]
        self._seen = {row.id for row in rows}
        return found

    async def tell(self, name: str, path: str, body: Any, *expected: str) -> dict[str, Any]:
        """Take a step; `expected` are the lines that it leaves, as `action entity`."""
        route = next(route for route in ROUTES if route.name == name)
        assert re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route.paths[0]), path), (name, path)
        await self.new()
        answer = await self.client.request(route.method, path, json=body)
        text = await answer.text()
        assert answer.status == route.answered.status, (name, text)
        lines = await self.new()
        assert [f"{line.action} {line.entity}" for line in lines] == list(expected), name
        for line in lines:
            assert line.actor == self._actor, name
            assert (line.before is None) == (line.action in MAKING), (name, line.before)
            assert (line.after is None) <= (line.action in ("deleted", "archived")), name
        self.told.add(name)
        found: dict[str, Any] = (
            {} if not text or answer.content_type != "application/json" else (await answer.json())
        )
        return found


@pytest.fixture
async def story(server: TestServer, client: Client, shop: Shop, clock: Clock) -> Story:
    """Told by an administrator, of a shop where Acme's November is not billed yet."""
    [key] = await server.app[KEYS].list()
    clock.now = DECEMBER
    return Story(server, client, key.id)


async def test_every_change_leaves_its_lines_and_says_who_made_it(
    story: Story, shop: Shop, clock: Clock, server: TestServer, client_of: ClientOf
) -> None:
    await _tell_of_the_catalogue(story)
    await _tell_of_costs(story, shop)
    await _tell_of_events_and_credit(story, shop)
    await _tell_of_customers(story)
    await _tell_of_invoices(story, shop, clock)
    await _tell_of_apps(story, shop)
    await _tell_of_a_sandbox(story, server, client_of)

    assert story.told == CHANGES


async def _tell_of_the_catalogue(story: Story) -> None:
    meter = {"key": "m", "name": "M", "aggregation": "count", "event_type": "call"}
    made = await story.tell("create-meter", f"{API}/meters", meter, "created meter")
    path = f"{API}/meters/{made['id']}"
    await story.tell("update-meter", path, {"name": "N"}, "changed meter")
    feature = {"key": "f", "name": "F", "meter": {"id": made["id"]}}
    at = (await story.tell("create-feature", f"{API}/features", feature, "created feature"))["id"]
    cost = {"unit_cost": {"type": "manual", "amount": "1"}}
    await story.tell("update-feature", f"{API}/features/{at}", cost, "changed feature")
    await story.tell("delete-feature", f"{API}/features/{at}", None, "deleted feature")
    await story.tell("delete-meter", path, None, "deleted meter")
    plan = {
        "key": "p", "name": "P", "currency": "USD", "billing_cadence": "P1M",
        "phases": [{"key": "only", "name": "Only", "rate_cards": [{
            "key": "fee", "name": "Fee", "billing_cadence": "P1M",
            "price": {"type": "flat", "amount": "1"},
        }]}],
    }  # fmt: skip
    made = await story.tell("create-plan", f"{API}/plans", plan, "created plan")
    path = f"{API}/plans/{made['id']}"
    again = {name: plan[name] for name in ("name", "phases")}
    await story.tell("update-plan", path, again, "changed plan")
    await story.tell("publish-plan", f"{path}/publish", None, "published plan")
    await story.tell("archive-plan", f"{path}/archive", None, "archived plan")
    made = await story.tell("create-plan", f"{API}/plans", plan, "created plan")
    await story.tell("delete-plan", f"{API}/plans/{made['id']}", None, "deleted plan")


async def _tell_of_costs(story: Story, shop: Shop) -> None:
    costs, held = f"{API}/llm-cost/overrides", "/api/v1/llm-cost/held"
    made = await story.tell("create-llm-cost-override", costs, OVERRIDE, "created llm_price")
    await story.tell("delete-llm-cost-override", f"{costs}/{made['id']}", None, "deleted llm_price")
    listed = {"litellm_provider": "openai", "input_cost_per_token": 0.000004}
    offer = read_price_list(json.dumps(dict.fromkeys(("gpt-4o", "gpt-4o-mini"), listed)))
    await PriceChanges(shop.books.prices).put_in_force("default", offer, datetime.now(UTC))
    first, second = (await read(story.client, held))["data"]
    lines = ("changed llm_price", "created llm_price", "accepted held_llm_price")
    await story.tell("accept-held-price", f"{held}/{first['id']}/accept", {}, *lines)
    rejected = "rejected held_llm_price"
    await story.tell("reject-held-price", f"{held}/{second['id']}/reject", None, rejected)


async def _tell_of_events_and_credit(story: Story, shop: Shop) -> None:
    which = {"source": "kong", "id": "1", "reason": "a test run"}
    amended = {**which, "data": {"tokens": 15_000, "type": "request", "model": "gpt-4o"}}
    await story.tell("void-metering-event", f"{API}/events/void", which, "voided event")
    await story.tell("amend-metering-event", f"{API}/events/amend", amended, "amended event")
    credits, made_one = f"{API}/customers/acme/credits", "created credit_grant"
    purchase = {"currency": "EUR", "per_unit_cost_basis": "0.9"}
    bought = gift(funding_method="external", purchase=purchase)
    made = await story.tell("create-credit-grant", f"{credits}/grants", bought, made_one)
    await story.tell(
        "update-credit-grant-external-settlement",
        f"{credits}/grants/{made['id']}/settlement/external",
        {"status": "settled"},
        "settled credit_grant",
    )
    await story.tell(
        "void-credit-grant", f"{credits}/grants/{made['id']}/void", {}, "voided credit_grant"
    )
    more = {"name": "Goodwill", "currency": "USD", "amount": "5"}
    await story.tell("create-credit-adjustment", f"{credits}/adjustments", more, made_one)
    acme = await shop.books.customers.get("default", "acme")
    amounts = (D(1), D(5), D(50))
    setting = CreditTopUp("default", acme.id, "USD", *amounts, DECEMBER, DECEMBER)
    await CreditTopUpStore(shop.database).put(setting, by="key-1")  # the route needs Stripe
    [line] = await story.new()
    assert (line.actor, line.action, line.entity) == ("key-1", "created", "credit_top_up")
    story.told.add("put-credit-top-up")
    top_up = "/api/v1/customers/acme/credits/top-ups/USD"
    await story.tell("delete-credit-top-up", top_up, None, "deleted credit_top_up")


async def _tell_of_customers(story: Story) -> None:
    profiles, customers = f"{API}/profiles", f"{API}/customers"
    made = await story.tell("create-billing-profile", profiles, profile(), "created profile")
    at = f"{profiles}/{made['id']}"
    await story.tell("update-billing-profile", at, profile(name="EU"), "changed profile")
    new = {"key": "globex", "name": "Globex"}
    await story.tell("create-customer", customers, new, "created customer")
    globex = f"{customers}/globex"
    await story.tell("upsert-customer", globex, {"name": "Globex Ltd"}, "changed customer")
    by = {"billing_profile": {"id": made["id"]}}
    await story.tell("update-customer-billing", f"{globex}/billing", by, "changed customer")
    await story.tell("update-customer-billing", f"{globex}/billing", {}, "changed customer")
    stripe = {"stripe": {"labels": {"team": "x"}}}
    await story.tell(
        "update-customer-billing-app-data", f"{globex}/billing/app-data", stripe, "linked customer"
    )
    await story.tell("delete-billing-profile", at, None, "deleted profile")
    subscriptions = f"{API}/subscriptions"
    wanted = {"customer": {"key": "globex"}, "plan": {"key": "starter"}}
    begun = await story.tell("create-subscription", subscriptions, wanted, "created subscription")
    at = f"{subscriptions}/{begun['id']}"
    changed = await story.tell(
        "change-subscription", f"{at}/change", {**wanted, "timing": "next_billing_cycle"},
        "changed subscription", "created subscription",
    )  # fmt: skip
    following = f"{subscriptions}/{changed['next']['id']}"
    await story.tell("delete-subscription", following, None, "deleted subscription")
    await story.tell(
        "unschedule-cancelation", f"{at}/unschedule-cancelation", None, "continued subscription"
    )
    await story.tell(
        "cancel-subscription", f"{at}/cancel", {"timing": "immediate"}, "canceled subscription"
    )
    await story.tell("delete-customer", globex, None, "deleted customer")


async def _tell_of_invoices(story: Story, shop: Shop, clock: Clock) -> None:
    await shop.change_workflow(auto_advance=False)
    run = f"{V1}/run"
    await story.tell("run-billing", run, {}, "created invoice")
    at = f"{API}/billing/invoices/{(await only(story.client))['id']}"
    counted = f"{at}/snapshot-quantities"
    await story.tell("snapshot-quantities-invoice", counted, None, "snapshot_quantities invoice")
    await story.tell("delete-invoice", at, None, "delete invoice")
    [card] = (await shop.plans.active("default", "starter", DECEMBER)).phases[0].rate_cards
    meter_id = await shop.set_meter(card, None)  # so it cannot be rated
    await story.tell("run-billing", run, {}, "created invoice")
    found = await only(story.client)
    at = f"{API}/billing/invoices/{found['id']}"
    clock.now += COLLECTED
    await story.tell("advance-invoice", f"{at}/advance", None, "advance invoice")
    await shop.set_meter(card, meter_id)
    await story.tell("retry-invoice", f"{at}/retry", None, "retry invoice")
    said = {
        "type": "standard", "description": "Order 7", "supplier": {"name": "We"},
        "customer": {"id": found["customer"]["id"], "name": "Acme"}, "workflow": {"workflow": {}},
    }  # fmt: skip
    await story.tell("update-invoice", at, said, "edited invoice")
    await story.tell("approve-invoice", f"{at}/approve", None, "approve invoice")
    paid, failed = f"{V1}/invoices/{found['id']}/payment/status", {"trigger": "payment_failed"}
    await story.tell("report-invoice-payment", paid, failed, "fail invoice")
    await _tell_of_what_is_put_right(story, at, found)


async def _tell_of_what_is_put_right(story: Story, at: str, found: dict[str, Any]) -> None:
    some = {"reason": "x", "lines": [{"line_id": found["lines"][0]["id"], "amount": "0.01"}]}
    note = await story.tell("create-credit-note", f"{at}/credit-notes", some, "created credit_note")
    voided = f"{API}/billing/credit-notes/{note['id']}/void"
    await story.tell("void-credit-note", voided, None, "voided credit_note")
    price = {"key": "tokens", "price": {"type": "unit", "amount": "0.000001"}}
    period = {"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
    again = {**period, "reason": "x", "prices": [price]}
    await story.tell(
        "re-rate-customer", f"{API}/billing/customers/acme/re-rate", again, "created re_rating"
    )
    pending = {"action": "pending"}
    await story.tell("void-invoice", f"{V1}/invoices/{found['id']}/void", pending, "void invoice")
    await story.tell("run-billing", f"{V1}/run", {}, "created invoice")
    _, invoice = (await read(story.client, f"{API}/billing/invoices"))["data"]
    at = f"{API}/billing/invoices/{invoice['id']}"
    await story.tell("approve-invoice", f"{at}/approve", None, "approve invoice")
    status = f"{V1}/invoices/{invoice['id']}/payment/status"
    await story.tell("report-invoice-payment", status, {"trigger": "paid"}, "pay invoice")
    asked = {"reason": "x", "amount": "0.01"}
    await story.tell("create-refund", f"{at}/refunds", asked, "created refund")


async def _tell_of_apps(story: Story, shop: Shop) -> None:
    new = {"type": "external_invoicing", "name": "ERP", "create_billing_profile": False}
    catalogue = f"{API}/app-catalog/install"
    made = (await story.tell("install-app", catalogue, new, "created app"))["app"]
    hooks = {"enable_draft_sync_hook": False, "enable_issuing_sync_hook": True}
    said, at = {"type": made["type"], "name": "SAP", **hooks}, f"{API}/apps/{made['id']}"
    await story.tell("update-app", at, said, "changed app")
    await story.tell("uninstall-app", at, None, "deleted app")
    [*_, last] = (await shop.books.invoices.page("default"))[0]
    waits = replace(last, app=App.EXTERNAL_INVOICING, state=InvoiceState.ISSUING_SYNCING)
    await shop.books.invoices.replace("default", [(last, waits)])
    path = f"{V1}/invoices/{waits.id}/synchronized"
    await story.tell("synchronize-invoice", path, None, "synchronized invoice")


async def _tell_of_a_sandbox(story: Story, server: TestServer, client_of: ClientOf) -> None:
    await server.app[BOOKS].sandboxes.open("play")
    client = await client_of(Scope.ADMIN, namespace="play")
    key = (await server.app[KEYS].list())[-1]
    play = Story(server, client, key.id)
    clocks, time = "/api/v1/test-clocks", {"frozen_time": "2028-01-31T00:00:00Z"}
    made = await play.tell("create-test-clock", clocks, time, "created test_clock")
    at = f"{clocks}/{made['id']}/advance"
    await play.tell("advance-test-clock", at, time, "advanced test_clock")
    await sell(play.client, {"calls": HARD}, "pro")
    await customer(play.client, "initech")
    await subscribe(play.client, "initech", "pro")
    reset = "/api/v2/customers/initech/entitlements/calls/reset"
    await play.tell("reset-entitlement", reset, {}, "reset entitlement")
    grant = {"amount": 25, "effectiveAt": time["frozen_time"]}
    limit = {"type": "metered", "issueAfterReset": 7}
    for whose, at in (("customer", "customers"), ("subject", "subjects")):
        path = f"/api/v1/{at}/initech/entitlements/calls"
        name = f"create-{whose}-entitlement-grant"
        made = await play.tell(name, f"{path}/grants", grant, "granted entitlement")
        name = f"override-{whose}-entitlement"
        await play.tell(name, f"{path}/override", limit, "overridden entitlement")
        name = f"reset-{whose}-entitlement"
        await play.tell(name, f"{path}/reset", {}, "reset entitlement")
    void = f"/api/v1/grants/{made['id']}"
    await play.tell("void-entitlement-grant", void, None, "voided entitlement")
    story.told |= play.told


async def test_what_is_refused_leaves_no_line(
    client_of: ClientOf, client: Client, server: TestServer
) -> None:
    reader = await client_of(Scope.READ)
    story = Story(server, client, "")
    await story.new()

    for route in ROUTES:
        if route.name not in CHANGES:
            continue
        for asker, body in ((reader, {}), (client, {"unknown": 1}), (client, None)):
            answer = await asker.request(route.method, filled(route, route.paths[0]), json=body)
            if answer.status < 400:
                continue

            assert await story.new() == [], route.name


async def test_the_log_is_read_by_pages_and_filters(
    client: Client, client_of: ClientOf, server: TestServer
) -> None:
    theirs = await client_of(Scope.ADMIN, namespace="theirs")
    reader = await client_of(Scope.READ)
    for key in ("a", "b", "c"):
        body = {"key": key, "name": key}
        made = await (await client.post(f"{API}/customers", json=body)).json()
        await client.put(f"{API}/customers/{key}", json={"name": key.upper()})

    first = await read(client, f"{LOG}?page[size]=4")
    rest = await read(client, f"{LOG}?page[size]=100&page[after]={first['meta']['page']['next']}")

    lines = [*first["data"], *rest["data"]]
    assert sorted(line["id"] for line in lines) == [line["id"] for line in lines][::-1]
    changed = lines[0]
    assert (changed["action"], changed["actor"]["name"]) == ("changed", "test")
    assert changed["resource"] == {"type": "customer", "id": made["id"]}
    assert (changed["before"]["name"], changed["after"]["name"]) == ("c", "C")
    for query, count in (
        (f"filter[resource_id]={made['id']}", 2),
        ("filter[resource_type]=customer", 6),
        (f"filter[actor]={changed['actor']['id']}&filter[action]=created", 3),
        (f"filter[resource_type]=customer&filter[at][gte]={changed['at']}", 1),
        (f"filter[at][lt]={lines[-1]['at']}", 0),
    ):
        assert len((await read(client, f"{LOG}?{query}"))["data"]) == count, query
    assert [line["resource"]["type"] for line in (await read(theirs, LOG))["data"]] == ["api_key"]
    assert (await reader.get(LOG)).status == 403
    assert (await client.get(f"{LOG}?page[after]=x")).status == 400
