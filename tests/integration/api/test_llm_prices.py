"""`/llm-cost`, and what a feature's usage cost, over the API."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tallyman.domain.access import Scope
from tallyman.domain.price_list import read_price_list
from tallyman.store.price_changes import PriceChanges

from tests.integration.api.conftest import Client, ClientOf
from tests.integration.api.selling import created, send
from tests.integration.api.test_features import FEATURES, LLM, feature, tokens
from tests.rigs.shop import NOVEMBER, Shop

COST = "/api/v3/openmeter/llm-cost"
HELD = "/api/v1/llm-cost/held"
OVERRIDE = {
    "provider": "openai",
    "model_id": "gpt-4o",
    "pricing": {"input_per_token": "0.000002", "output_per_token": "0.000009"},
    "currency": "USD",
    "effective_from": "2026-01-01T00:00:00Z",
}


async def page(client: Client, path: str) -> list[dict[str, Any]]:
    """The data of a page."""
    answer = await client.get(f"{COST}/{path}")
    assert answer.status == 200, await answer.text()
    found: list[dict[str, Any]] = (await answer.json())["data"]
    return found


async def test_the_built_in_prices_can_be_listed_filtered_and_read(client: Client) -> None:
    [listed] = await page(client, "prices?filter[provider]=openai&filter[model_id][eq]=gpt-4o")

    answer = await client.get(f"{COST}/prices/{listed['id']}")
    assert await answer.json() == listed
    assert listed["source"] == "system"
    assert listed["provider"] == {"id": "openai", "name": "OpenAI"}
    assert listed["model"] == {"id": "gpt-4o", "name": "GPT-4o"}
    assert listed["currency"] == "USD"
    assert set(listed["pricing"]) == {
        "input_per_token",
        "output_per_token",
        "cache_read_per_token",
    }


async def test_an_override_is_made_listed_and_taken_back(client: Client) -> None:
    made = await created(client, f"{COST}/overrides", OVERRIDE)

    assert made["source"] == "manual"
    assert made["model"] == {"id": "gpt-4o", "name": "gpt-4o"}
    assert made["pricing"] == OVERRIDE["pricing"]
    assert await page(client, "overrides") == [made]
    again = await client.post(f"{COST}/overrides", json=OVERRIDE)
    assert again.status == 409
    deleted = await client.delete(f"{COST}/overrides/{made['id']}")
    assert deleted.status == 204
    assert await page(client, "overrides") == []
    assert (await client.get(f"{COST}/prices/{made['id']}")).status == 410
    assert (await client.delete(f"{COST}/overrides/{made['id']}")).status == 410


async def test_a_lists_price_is_no_override_to_be_deleted(client: Client) -> None:
    [listed] = await page(client, "prices?filter[model_id]=gpt-4o")

    answer = await client.delete(f"{COST}/overrides/{listed['id']}")

    assert answer.status == 404


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "in gold": ({"currency": "XAU"}, "currency"),
    "negative": (
        {"pricing": {"input_per_token": "-1", "output_per_token": "0"}},
        "pricing.input_per_token",
    ),
    "by the million": (
        {"pricing": {"input_per_token": "2.5", "output_per_token": "0"}},
        "pricing.input_per_token",
    ),
    "a number": (
        {"pricing": {"input_per_token": 0.1, "output_per_token": "0"}},
        "pricing.input_per_token",
    ),
    "over before it begins": ({"effective_to": "2025-01-01T00:00:00Z"}, "effective_to"),
}


async def test_an_override_that_breaks_a_rule_is_refused_by_its_field(client: Client) -> None:
    for name, (change, field) in BROKEN.items():
        answer = await client.post(f"{COST}/overrides", json=OVERRIDE | change)

        problem = await answer.json()
        assert answer.status == 400, name
        assert [one["field"] for one in problem["invalid_parameters"]] == [field], name


async def test_who_may_only_read_cannot_override(client_of: ClientOf) -> None:
    reader = await client_of(Scope.READ)

    answer = await reader.post(f"{COST}/overrides", json=OVERRIDE)

    assert answer.status == 403


async def test_another_namespace_sees_no_override(client: Client, client_of: ClientOf) -> None:
    await created(client, f"{COST}/overrides", OVERRIDE)
    other = await client_of(Scope.ADMIN, namespace="other")

    assert await page(other, "overrides") == []


async def test_a_held_price_stays_out_until_it_is_accepted(client: Client, shop: Shop) -> None:
    entry = {
        "litellm_provider": "openai",
        "input_cost_per_token": 0.000004,
        "output_cost_per_token": 0.00001,
    }
    offer = read_price_list(json.dumps({"gpt-4o": entry}))
    changes = PriceChanges(shop.books.prices)
    await changes.put_in_force("default", offer, datetime.now(UTC))

    [held] = (await (await client.get(HELD)).json())["data"]
    answer = await client.post(f"{HELD}/{held['id']}/accept", json={})
    prices = await page(client, "prices?filter[model_id]=gpt-4o&sort=effective_from")

    assert (await answer.json())["state"] == "accepted"
    assert [one["pricing"]["input_per_token"] for one in prices] == ["0.0000025", "0.000004"]
    assert prices[0]["effective_to"] == prices[1]["effective_from"]
    assert (await (await client.get(HELD)).json())["data"] == []
    assert (await client.post(f"{HELD}/{held['id']}/reject")).status == 409


async def test_a_features_cost_is_asked_like_its_meter(client: Client, shop: Shop) -> None:
    made = await created(client, FEATURES, feature(await tokens(client), unit_cost=LLM))
    data = {"provider": "openai", "model": "gpt-4o-2024-08-06"}
    await shop.use(1000, NOVEMBER, **data)
    await shop.use(10, NOVEMBER, **data | {"type": "response"})
    await shop.use(7, NOVEMBER, provider="openai", model="gpt-99")
    body = {"from": "2026-11-01T00:00:00Z", "group_by_dimensions": ["model"]}

    answer = await client.post(f"{FEATURES}/{made['id']}/cost/query", json=body)
    as_csv = await client.post(
        f"{FEATURES}/{made['id']}/cost/query", json=body, headers={"Accept": "text/csv"}
    )

    rows = (await answer.json())["data"]
    assert [
        {name: row.get(name) for name in ("usage", "cost", "currency", "detail", "dimensions")}
        for row in rows
    ] == [
        {
            "usage": "1010",
            "cost": str(Decimal("0.0026")),
            "currency": "USD",
            "detail": None,
            "dimensions": {"model": "gpt-4o-2024-08-06"},
        },
        {
            "usage": "7",
            "cost": None,
            "currency": "USD",
            "detail": "no price is known: openai/gpt-99 (7)",
            "dimensions": {"model": "gpt-99"},
        },
    ]
    assert (await as_csv.text()).splitlines()[0] == "from,to,model,usage,cost,currency,detail"


async def test_a_feature_without_a_meter_has_no_cost_to_ask_for(client: Client) -> None:
    made = await created(client, FEATURES, {"key": "support", "name": "Support"})

    answer = await client.post(f"{FEATURES}/{made['id']}/cost/query")

    assert answer.status == 400
    assert (await answer.json())["invalid_parameters"][0]["field"] == "meter"


async def test_a_new_unit_cost_holds_at_once(client: Client, shop: Shop) -> None:
    made = await created(client, FEATURES, feature(await tokens(client)))
    await shop.use(1000, NOVEMBER, provider="openai", model="gpt-4o")
    await send(client)

    await client.patch(
        f"{FEATURES}/{made['id']}", json={"unit_cost": {"type": "manual", "amount": "0.5"}}
    )
    answer = await client.post(f"{FEATURES}/{made['id']}/cost/query")

    assert [row["cost"] for row in (await answer.json())["data"]] == ["500"]


async def test_a_feature_of_one_model_says_what_it_costs_now(client: Client) -> None:
    cost = LLM | {"provider": "openai", "model": "gpt-4o-2024-08-06"}
    del cost["provider_property"], cost["model_property"]
    made = await created(client, FEATURES, feature(await tokens(client), unit_cost=cost))
    await created(client, f"{COST}/overrides", OVERRIDE)

    read = await (await client.get(f"{FEATURES}/{made['id']}")).json()

    assert read["unit_cost"] == cost | {"pricing": OVERRIDE["pricing"]}


async def test_a_plan_that_is_published_says_which_card_makes_a_loss(client: Client) -> None:
    filters = {"type": {"eq": "response"}, "model": {"eq": "gpt-4o"}, "provider": {"eq": "openai"}}
    counted = {"id": await tokens(client), "filters": filters}
    sold = await created(client, FEATURES, {"key": "out", "name": "Out", "meter": counted})
    card = {
        "key": "out",
        "name": "Out",
        "feature": {"id": sold["id"]},
        "billing_cadence": "P1M",
        "price": {"type": "unit", "amount": "0.000009"},
    }
    phases = [{"key": "all", "name": "All", "rate_cards": [card]}]
    plan = {"key": "p", "name": "P", "currency": "USD", "billing_cadence": "P1M", "phases": phases}
    made = await created(client, "/api/v3/openmeter/plans", plan)

    answer = await client.post(f"/api/v3/openmeter/plans/{made['id']}/publish")

    assert (await answer.json())["warnings"] == [
        {
            "code": "rate_card_makes_a_loss",
            "rate_card": "out",
            "message": "p version 1, out: gpt-4o response is sold at 9 and costs 10 USD per million",
        }
    ]
