"""`/plans`: drafts, versions, every price on the wire, and the API's codes for what is wrong."""

import json
from copy import deepcopy
from typing import Any

import pytest
from tallyman.domain.access import Scope

from tests.integration.api.conftest import Client, ClientOf

FEATURES = "/api/v3/openmeter/features"
PLANS = "/api/v3/openmeter/plans"
PRICE = {"type": "unit", "amount": "0.000002"}


async def make(client: Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    made: dict[str, Any] = await answer.json()
    assert answer.status == 201, made
    return made


async def feature(client: Client, key: str = "ai_tokens") -> dict[str, str]:
    """A reference to a new feature."""
    return {"id": (await make(client, FEATURES, {"key": key, "name": "AI Tokens"}))["id"]}


def plan(*rate_cards: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """The walkthrough's plan with these rate cards."""
    return {
        "key": "starter",
        "name": "Starter",
        "currency": "USD",
        "billing_cadence": "P1M",
        "phases": [{"key": "default", "name": "Default", "rate_cards": list(rate_cards)}],
        **changed,
    }


def card(reference: dict[str, str], **changed: Any) -> dict[str, Any]:
    """The walkthrough's rate card: 0.000002 a token, monthly."""
    return {
        "key": "ai_tokens",
        "name": "AI Tokens",
        "feature": reference,
        "billing_cadence": "P1M",
        "price": PRICE,
        **changed,
    }


async def test_a_draft_with_every_price_comes_back_as_it_was_sent(client: Client) -> None:
    tokens, packs, seats = [await feature(client, key) for key in ("tokens", "packs", "seats")]
    tiers = [
        {"up_to_amount": "1000000", "unit_price": {"type": "unit", "amount": "0"}},
        {"up_to_amount": "5000000", "unit_price": {"type": "unit", "amount": "0.000003"}},
        {"flat_price": {"type": "flat", "amount": "5"}},
    ]
    cards = [
        {"key": "setup", "name": "Setup", "price": {"type": "flat", "amount": "99.9"}},
        {
            "key": "fee", "name": "Fee", "billing_cadence": "P1M", "payment_term": "in_advance",
            "price": {"type": "flat", "amount": "20"}, "currency": "USD",
            "tax_config": {"behavior": "exclusive", "code": {"id": "01J00000000000000000000000"}},
        },
        {
            "key": "tokens", "name": "Tokens", "feature": tokens, "billing_cadence": "P1M",
            "price": {"type": "graduated", "tiers": tiers},
            "commitments": {"minimum_amount": "10", "maximum_amount": "500.5"},
            "discounts": {"percentage": 12.5, "usage": "1000"},
            "entitlement": {"type": "metered", "is_soft_limit": True, "limit": 5000000,
                            "usage_period": "P1D"},
        },
        {
            "key": "packs", "name": "Packs", "feature": packs, "billing_cadence": "P1M",
            "price": {"type": "unit", "amount": "0.5"},
            "unit_config": {"operation": "divide", "conversion_factor": "1000",
                            "rounding": "ceiling", "precision": 0, "display_unit": "thousand"},
            "entitlement": {"type": "static", "config": {"models": ["gpt-4o", None]}},
        },
        {
            "key": "seats", "name": "Seats", "feature": seats, "billing_cadence": "P1Y",
            "price": {"type": "volume", "tiers": tiers}, "labels": {"a": "b"}, "description": "d",
            "entitlement": {"type": "boolean"},
        },
    ]  # fmt: skip
    trial = {
        "key": "trial", "name": "Trial", "duration": "P2W", "description": "d",
        "labels": {"a": "b"},
        "rate_cards": [{"key": "access", "name": "Access", "billing_cadence": "P1M",
                        "price": {"type": "free"}}],
    }  # fmt: skip
    phases = [trial, {"key": "default", "name": "Default", "rate_cards": cards}]
    given = plan(phases=phases, description="All", labels={"tier": "pro"}, pro_rating_enabled=False)

    made = await make(client, PLANS, given)

    assert await (await client.get(f"{PLANS}/{made['id']}")).json() == made
    expected = deepcopy(given)
    for one in (phase_card for phase in expected["phases"] for phase_card in phase["rate_cards"]):
        one.setdefault("payment_term", "in_arrears")
        for tier in one["price"].get("tiers", []):
            if "unit_price" in tier:
                million = {"0": "0", "0.000003": "3"}[tier["unit_price"]["amount"]]
                tier["unit_price"]["amount_per_million"] = million
    stamps = {name: made.pop(name) for name in ("id", "created_at", "updated_at")}
    assert len(stamps["id"]) == 26
    assert made == {**expected, "version": 1, "status": "draft"}
    # What was read can be sent back.
    body = {name: made[name] for name in ("name", "description", "labels", "phases")}
    again = await client.put(f"{PLANS}/{stamps['id']}", json=body)
    assert (await again.json())["phases"] == made["phases"]


@pytest.mark.parametrize(
    ("amount", "unit_config", "shown"),
    [
        pytest.param("0.000002", None, {"amount_per_million": "2"}, id="per token"),
        pytest.param(
            "3.00",
            {"operation": "divide", "conversion_factor": "1000000"},
            {"amount_per_unit": "0.000003", "amount_per_million": "3"},
            id="per million",
        ),
        pytest.param(
            "1",
            {"operation": "multiply", "conversion_factor": "1.2"},
            {"amount_per_unit": "1.2", "amount_per_million": "1200000"},
            id="cost plus 20 %",
        ),
        pytest.param(
            "0.5",
            {"operation": "divide", "conversion_factor": "1000", "rounding": "ceiling"},
            {},
            id="whole packages have no price per token",
        ),
    ],
)
async def test_a_unit_price_is_shown_per_million_too(
    client: Client, amount: str, unit_config: dict[str, Any] | None, shown: dict[str, str]
) -> None:
    price = {"type": "unit", "amount": amount}
    given = card(await feature(client), price=price, unit_config=unit_config)

    made = await make(client, PLANS, plan(given))

    found = made["phases"][0]["rate_cards"][0]["price"]
    assert {name: value for name, value in found.items() if name not in price} == shown


async def test_the_largest_price_that_is_taken_can_be_shown_and_listed(client: Client) -> None:
    price = {"type": "unit", "amount": "9" * 40}
    config = {"operation": "multiply", "conversion_factor": "9" * 40}
    given = card(await feature(client), price=price, unit_config=config)

    made = await make(client, PLANS, plan(given))
    listed = await (await client.get(PLANS)).json()

    shown = made["phases"][0]["rate_cards"][0]["price"]
    assert shown["amount_per_million"] == f"{int('9' * 40) ** 2}000000"
    assert listed["data"] == [made]


async def test_a_price_per_million_that_does_not_agree_is_refused(client: Client) -> None:
    wrong = card(await feature(client), price={**PRICE, "amount_per_million": "0.000002"})

    answer = await client.post(PLANS, json=plan(wrong))
    problem = await answer.json()

    assert answer.status == 400
    assert problem["detail"].endswith("leave it out, or send 2")


async def test_a_version_is_published_and_archived_by_the_next(client: Client) -> None:
    reference = await feature(client)
    first = await make(client, PLANS, plan(card(reference)))
    published = await (await client.post(f"{PLANS}/{first['id']}/publish")).json()
    second = await make(client, PLANS, plan(card(reference, price={"type": "free"})))
    await client.post(f"{PLANS}/{second['id']}/publish")
    listed = await (await client.get(f"{PLANS}?sort=version")).json()
    active = await (await client.get(f"{PLANS}?filter[status]=active")).json()

    assert (published["version"], published["status"]) == (1, "active")
    assert {"effective_from", "effective_to"} & published.keys() == {"effective_from"}
    assert [(one["version"], one["status"]) for one in listed["data"]] == [
        (1, "archived"), (2, "active"),
    ]  # fmt: skip
    assert [one["version"] for one in active["data"]] == [2]
    old, new = listed["data"]
    assert old["effective_to"] == new["effective_from"]


async def test_a_published_version_cannot_be_changed_published_or_deleted(client: Client) -> None:
    made = await make(client, PLANS, plan(card(await feature(client))))
    at = f"{PLANS}/{made['id']}"
    await client.post(f"{at}/publish")
    before = await (await client.get(at)).json()

    for answer in (
        await client.put(at, json={"name": "Other", "phases": []}),
        await client.post(f"{at}/publish"),
        await client.delete(at),
    ):
        problem = await answer.json()
        assert (answer.status, problem["code"]) == (400, "invalid_plan")
        assert [one["code"] for one in problem["extensions"]["validationErrors"]] == [
            "plan_invalid_status"
        ]
    assert await (await client.get(at)).json() == before
    archived = await (await client.post(f"{at}/archive")).json()
    assert archived["status"] == "archived"
    assert (await client.delete(at)).status == 204
    assert (await client.get(at)).status == 410


async def test_a_feature_of_a_plan_in_force_cannot_be_archived(client: Client) -> None:
    reference = await feature(client)
    made = await make(client, PLANS, plan(card(reference)))
    await client.post(f"{PLANS}/{made['id']}/publish")

    assert (await client.delete(f"{FEATURES}/ai_tokens")).status == 409


async def test_plans_of_another_namespace_are_not_there(
    client: Client, client_of: ClientOf
) -> None:
    made = await make(client, PLANS, plan())
    theirs = await client_of(Scope.ADMIN, namespace="theirs")

    assert (await theirs.get(f"{PLANS}/{made['id']}")).status == 404
    assert (await theirs.post(f"{PLANS}/{made['id']}/publish")).status == 404
    assert (await (await theirs.get(PLANS)).json())["data"] == []


ONE_TIER = [{"up_to_amount": "10", "unit_price": {"type": "unit", "amount": "1"}}]


@pytest.mark.parametrize(
    ("changed", "code", "field"),
    [
        pytest.param(
            {"price": {"type": "graduated", "tiers": ONE_TIER}},
            "invoice_line_missing_open_ended_tier", "price.tiers", id="no open-ended tier",
        ),
        pytest.param(
            {"price": {"type": "volume", "tiers": []}},
            "invoice_line_no_tiers", "price.tiers", id="no tiers",
        ),
        pytest.param(
            {"payment_term": "in_advance"},
            "payment_term_in_advance_with_usage_price", "payment_term", id="usage in advance",
        ),
        pytest.param(
            {"billing_cadence": None}, "rate_card_only_flat_price_allowed", "price", id="usage once"
        ),
        pytest.param(
            {"feature": None, "entitlement": {"type": "boolean"}},
            "entitlement_template_with_no_feature", "feature", id="an entitlement to nothing",
        ),
        pytest.param(
            {"entitlement": {"type": "metered", "usage_period": "PT1M"}},
            "entitlement_template_usage_period_less_then_an_hour", "entitlement.usage_period",
            id="a usage period of a minute",
        ),
    ],
)  # fmt: skip
async def test_a_draft_says_what_keeps_it_from_being_published(
    client: Client, changed: dict[str, Any], code: str, field: str
) -> None:
    made = await make(client, PLANS, plan(card(await feature(client), **changed)))
    answer = await client.post(f"{PLANS}/{made['id']}/publish")
    problem = await answer.json()

    at = f"phases[0].rate_cards[0].{field}"
    expected = [(code, at)]
    assert [(one["code"], one["field"]) for one in made["validation_errors"]][:1] == expected
    assert (answer.status, problem["code"]) == (400, "invalid_plan")
    errors = problem["extensions"]["validationErrors"]
    assert [(one["code"], one["field"]) for one in errors][:1] == expected
    assert [(one["field"], one["rule"]) for one in problem["invalid_parameters"]][:1] == [
        (at, "invalid")
    ]


@pytest.mark.parametrize("config", ["NaN", "[1, -Infinity]"])
async def test_a_setting_that_is_no_json_is_refused(client: Client, config: str) -> None:
    given = card(await feature(client), entitlement={"type": "static", "config": "CONFIG"})
    body = json.dumps(plan(given)).replace('"CONFIG"', config)

    answer = await client.post(PLANS, data=body, headers={"Content-Type": "application/json"})

    assert answer.status == 400
    [parameter] = (await answer.json())["invalid_parameters"]
    assert parameter["field"] == "phases[0].rate_cards[0].entitlement.config"


async def test_a_plan_without_phases_is_a_draft_that_says_so(client: Client) -> None:
    made = await make(client, PLANS, plan(phases=[]))

    assert [one["code"] for one in made["validation_errors"]] == ["plan_with_no_phases"]


@pytest.mark.parametrize(
    ("changed", "code", "field"),
    [
        pytest.param({"key": "other"}, "rate_card_key_feature_key_mismatch", "key", id="other key"),
        pytest.param(
            {"feature": {"id": "01J00000000000000000000000"}},
            "rate_card_feature_not_found", "feature.id", id="no such feature",
        ),
        pytest.param(
            {"discounts": {"percentage": 101}},
            "percentage_discount_invalid_value", "discounts.percentage", id="101 %",
        ),
        pytest.param(
            {"price": {"type": "unit", "amount": "-1"}},
            "price_negative_amount", "price.amount", id="a negative price",
        ),
        pytest.param(
            {"currency": "EUR"}, "invoice_line_currency_mismatch", "currency", id="other currency"
        ),
    ],
)  # fmt: skip
async def test_not_even_a_draft_may_be_so_wrong(
    client: Client, changed: dict[str, Any], code: str, field: str
) -> None:
    answer = await client.post(PLANS, json=plan(card(await feature(client), **changed)))
    problem = await answer.json()

    assert (answer.status, problem["code"]) == (400, "invalid_plan")
    [error] = problem["extensions"]["validationErrors"]
    assert (error["code"], error["field"]) == (code, f"phases[0].rate_cards[0].{field}")
    assert (await (await client.get(PLANS)).json())["data"] == []


@pytest.mark.parametrize(
    ("changed", "field", "rule"),
    [
        pytest.param({"key": "ai-tokens"}, "key", "matches_regex", id="a hyphen"),
        pytest.param(
            {"price": {"type": "unit", "amount": 0.000002}}, "price.amount", "is_string",
            id="a price as a number",
        ),
        pytest.param(
            {"price": {"type": "unit", "amount": "1e-6"}}, "price.amount", "matches_regex",
            id="an exponent",
        ),
        pytest.param({"price": {"type": "per_seat"}}, "price", "type", id="no such price"),
        pytest.param({"price": {"amount": "1"}}, "price", "type", id="a price without a type"),
        pytest.param({"billing_cadence": "monthly"}, "billing_cadence", "matches_regex", id="cadence"),
        pytest.param({"per": 1000000}, "per", "unknown_property", id="unknown field"),
        pytest.param(
            {"entitlement": {"type": "static", "config": None}}, "entitlement.config", "required",
            id="nothing configured",
        ),
    ],
)  # fmt: skip
async def test_bad_input_gets_the_field_and_the_rule(
    client: Client, changed: dict[str, Any], field: str, rule: str
) -> None:
    answer = await client.post(PLANS, json=plan(card(await feature(client), **changed)))
    problem = await answer.json()

    assert (answer.status, problem["code"]) == (400, "invalid_input")
    [parameter] = problem["invalid_parameters"]
    at = f"phases[0].rate_cards[0].{field}"
    assert (parameter["field"], parameter["rule"]) == (at, rule)


async def test_a_number_without_quotes_is_refused_with_how_to_write_it(client: Client) -> None:
    unquoted = card(await feature(client), price={"type": "unit", "amount": 0.000002})
    answer = await client.post(PLANS, json=plan(unquoted))

    (parameter,) = (await answer.json())["invalid_parameters"]
    assert parameter == {
        "field": "phases[0].rate_cards[0].price.amount",
        "rule": "is_string",
        "reason": 'must be a string: write the number in quotes, such as "0.000003"',
        "source": "body",
    }
