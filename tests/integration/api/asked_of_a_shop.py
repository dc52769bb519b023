"""Owns what neighbours ask of a shop: events, what is sold, what it costs, customers and credit.

Invoices are asked_of_invoices.py's.
"""

import json
from datetime import UTC, datetime
from typing import Any, Final

from tallyman.domain.price_list import read_price_list
from tallyman.store.price_changes import PriceChanges

from tests.integration.api.invoicing import V1
from tests.integration.api.neighbours import (
    ACME,
    CANARY,
    THEIRS,
    Neighbours,
)
from tests.integration.api.test_billing_profiles import profile
from tests.integration.api.test_credits import asked as gift
from tests.integration.api.test_kong_log import entry
from tests.integration.api.test_llm_prices import OVERRIDE

API: Final = "/api/v3/openmeter"
TOP_UP: Final = {"threshold": "5", "amount": "20", "most_per_month": "100"}
OF_ACME: Final = f"{API}/customers/{ACME}"


async def ask_about_events(ask: Neighbours) -> None:
    event = {
        "specversion": "1.0", "id": f"{CANARY}_1", "source": "kong", "type": "llm.tokens",
        "subject": ACME, "time": "2026-11-02T00:00:00Z",
        "data": {"tokens": 7, "type": "request", "model": "gpt-4o"},
    }  # fmt: skip
    await ask.tell("ingest-metering-events", f"{API}/events", event)
    stored = await ask.tell("reconcile-events", "/api/v1/reconciliation/query", [event])
    assert stored == {"stored": [True]}
    call = entry()
    call["request"]["id"] = f"{CANARY}_call"
    await ask.tell("take-kong-log", "/kong/log", call)
    await ask.tell("list-metering-events", f"{API}/events?filter[subject]={ACME}")
    which = {"source": "kong", "id": f"{CANARY}_1", "reason": "a test run"}
    await ask.tell("amend-metering-event", f"{API}/events/amend", {**which, "data": {"tokens": 8}})
    await ask.tell("void-metering-event", f"{API}/events/void", which)
    usage = await ask.tell("consumer-usage", f"/api/usage?subject={ACME}")
    assert usage["customer"]["key"] == ACME
    await ask.tell("status", "/api/v1/status")


async def ask_about_what_is_sold(ask: Neighbours) -> None:
    meters, features, plans = f"{API}/meters", f"{API}/features", f"{API}/plans"
    new = {"key": f"{CANARY}_m", "name": CANARY, "aggregation": "count", "event_type": "llm.tokens"}
    meter = await ask.tell("create-meter", meters, new)
    await ask.tell("list-meters", f"{meters}?filter[key]={CANARY}_m")
    at, acme = f"{meters}/{meter['id']}", await ask.shop.books.customers.get(THEIRS, ACME)
    for one in (at, f"{meters}/{CANARY}_m"):
        await ask.tell("get-meter", one)
        by = {"filters": {"dimensions": {"customer_id": {"eq": acme.id}}}}
        await ask.tell("query-meter", f"{one}/query", by)
    await ask.tell("update-meter", at, {"name": f"{CANARY}_n"})
    spare = (
        f"{meters}/{(await ask.tell('create-meter', meters, {**new, 'key': f'{CANARY}_o'}))['id']}"
    )
    counted = {"key": f"{CANARY}_f", "name": CANARY, "meter": {"id": meter["id"]}}
    feature = await ask.tell("create-feature", features, counted)
    of_it = f"{features}/{feature['id']}"
    await ask.tell("list-features", f"{features}?filter[key]={CANARY}_f")
    await ask.tell("get-feature", of_it)
    await ask.tell("update-feature", of_it, {"unit_cost": {"type": "manual", "amount": "1"}})
    await ask.tell("query-feature-cost", f"{of_it}/cost/query", {})
    card = {
        "key": f"{CANARY}_f", "name": CANARY, "billing_cadence": "P1M",
        "feature": {"id": feature["id"]}, "price": {"type": "unit", "amount": "1"},
    }  # fmt: skip
    phases = [{"key": "only", "name": "Only", "rate_cards": [card]}]
    named = {"key": f"{CANARY}_p", "currency": "USD", "billing_cadence": "P1M"}
    body = {"name": CANARY, "phases": phases}
    plan = f"{plans}/{(await ask.tell('create-plan', plans, {**named, **body}))['id']}"
    await ask.tell("list-plans", f"{plans}?filter[key]={CANARY}_p")
    await ask.tell("get-plan", plan)
    await ask.tell("update-plan", plan, body)
    await ask.tell("publish-plan", f"{plan}/publish")
    await ask.tell("archive-plan", f"{plan}/archive")
    again = await ask.tell("create-plan", plans, {**named, **body})
    await ask.tell("delete-plan", f"{plans}/{again['id']}")
    text = f"subscriptions: [{{customer: {ACME}, plan: {CANARY}_plan}}]"
    await ask.tell("compare-catalogue", "/api/v1/catalogue/compare", {"text": text, "name": "c"})
    month = {"text": text, "month": "2026-11"}
    await ask.tell("backtest-catalogue", "/api/v1/catalogue/backtest", month)
    sold = await ask.tell("create-feature", features, {"key": f"{CANARY}_g", "name": CANARY})
    await ask.tell("delete-feature", f"{features}/{sold['id']}")
    await ask.tell("delete-meter", spare)


async def ask_about_costs(ask: Neighbours) -> None:
    costs, held = f"{API}/llm-cost", "/api/v1/llm-cost/held"
    new = OVERRIDE | {"model_id": f"{CANARY}-model"}
    made = await ask.tell("create-llm-cost-override", f"{costs}/overrides", new)
    await ask.tell("list-llm-cost-overrides", f"{costs}/overrides")
    await ask.tell("list-llm-cost-prices", f"{costs}/prices?filter[model_id]={CANARY}-model")
    await ask.tell("get-llm-cost-price", f"{costs}/prices/{made['id']}")
    await ask.tell("delete-llm-cost-override", f"{costs}/overrides/{made['id']}")
    listed = {"litellm_provider": "openai", "input_cost_per_token": 0.000004}
    offer = read_price_list(json.dumps(dict.fromkeys(("gpt-4o", "gpt-4o-mini"), listed)))
    await PriceChanges(ask.shop.books.prices).put_in_force(THEIRS, offer, datetime.now(UTC))
    first, second = (await ask.tell("list-held-prices", held))["data"]
    await ask.tell("accept-held-price", f"{held}/{first['id']}/accept", {})
    await ask.tell("reject-held-price", f"{held}/{second['id']}/reject")
    for path in (f"{V1}/margin?month=2026-11", "/margin?month=2026-11"):
        name = "margin" if path.startswith(V1) else "margin-page"
        assert CANARY in str(await ask.tell(name, path))
    await ask.tell("losses", f"{V1}/losses")


async def ask_about_customers(ask: Neighbours) -> None:
    profiles, customers, zoe = f"{API}/profiles", f"{API}/customers", f"{CANARY}_zoe"
    made = await ask.tell("create-billing-profile", profiles, profile(name=CANARY))
    at = f"{profiles}/{made['id']}"
    await ask.tell("list-billing-profiles", profiles)
    await ask.tell("get-billing-profile", at)
    await ask.tell("update-billing-profile", at, profile(name=f"{CANARY}_eu"))
    new = {"key": zoe, "name": CANARY, "usage_attribution": {"subject_keys": [zoe]}}
    id_ = (await ask.tell("create-customer", customers, new))["id"]
    await ask.tell("list-customers", f"{customers}?filter[key]={zoe}")
    of_zoe = f"{customers}/{id_}"
    for path in (of_zoe, f"{customers}/{zoe}"):
        await ask.tell("get-customer", path)
        await ask.tell("get-customer-billing", f"{path}/billing")
    await ask.tell("upsert-customer", of_zoe, {"name": f"{CANARY}_z"})
    billed_by = {"billing_profile": {"id": made["id"]}}
    await ask.tell("update-customer-billing", f"{of_zoe}/billing", billed_by)
    await ask.tell("update-customer-billing", f"{of_zoe}/billing", {})
    labels = {"stripe": {"labels": {"team": "x"}}}
    await ask.tell("update-customer-billing-app-data", f"{of_zoe}/billing/app-data", labels)
    for kind in ("checkout", "portal"):
        options: dict[str, Any] = {"stripe_options": {}}
        path = f"{of_zoe}/billing/stripe/{kind}-sessions"
        await ask.tell(f"create-customer-stripe-{kind}-session", path, options)
    await ask.tell("delete-billing-profile", at)
    subscriptions = f"{API}/subscriptions"
    wanted = {"customer": {"id": id_}, "plan": {"key": f"{CANARY}_plan"}}
    begun = await ask.tell("create-subscription", subscriptions, wanted)
    at = f"{subscriptions}/{begun['id']}"
    await ask.tell("list-subscriptions", f"{subscriptions}?filter[customer_id]={id_}")
    await ask.tell("get-subscription", at)
    other = {**wanted, "timing": "next_billing_cycle"}
    changed = await ask.tell("change-subscription", f"{at}/change", other)
    await ask.tell("delete-subscription", f"{subscriptions}/{changed['next']['id']}")
    await ask.tell("unschedule-cancelation", f"{at}/unschedule-cancelation")
    await ask.tell("cancel-subscription", f"{at}/cancel", {"timing": "immediate"})
    await ask.tell("delete-customer", of_zoe)


async def ask_about_credit(ask: Neighbours) -> None:
    grants, purchase = (
        f"{OF_ACME}/credits/grants",
        {"currency": "EUR", "per_unit_cost_basis": "0.9"},
    )
    bought = gift(name=CANARY, funding_method="external", purchase=purchase)
    at = f"{grants}/{(await ask.tell('create-credit-grant', grants, bought))['id']}"
    await ask.tell("list-credit-grants", grants)
    await ask.tell("get-credit-grant", at)
    settled = {"status": "settled"}
    await ask.tell("update-credit-grant-external-settlement", f"{at}/settlement/external", settled)
    await ask.tell("get-customer-credit-balance", f"{OF_ACME}/credits/balance")
    await ask.tell("list-credit-transactions", f"{OF_ACME}/credits/transactions")
    await ask.tell("void-credit-grant", f"{at}/void", {})
    more = {"name": CANARY, "currency": "EUR", "amount": "5"}
    await ask.tell("create-credit-adjustment", f"{OF_ACME}/credits/adjustments", more)
    top_up = f"/api/v1/customers/{ACME}/credits/top-ups/USD"
    await ask.tell("put-credit-top-up", top_up, TOP_UP)
    await ask.tell("get-credit-top-up", top_up)
    await ask.tell("delete-credit-top-up", top_up)
