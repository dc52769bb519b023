"""`/features`: made, read, listed, changed, archived, and what bad input gets."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tallyman.domain.access import Scope

from tests.integration.api.conftest import Client, ClientOf
from tests.integration.api.selling import send

FEATURES = "/api/v3/openmeter/features"
METERS = "/api/v3/openmeter/meters"
LLM = {
    "type": "llm",
    "provider_property": "provider",
    "model_property": "model",
    "token_type_property": "type",
}


async def tokens(client: Client) -> str:
    """The id of the built-in meter of tokens."""
    found = await (await client.get(f"{METERS}/kong_konnect_llm_tokens")).json()
    return str(found["id"])


def feature(meter_id: str, **changed: Any) -> dict[str, Any]:
    """The walkthrough's feature: filters on provider and type."""
    filters = {"provider": {"eq": "openai"}, "type": {"in": ["request", "response"]}}
    return {
        "key": "ai_token",
        "name": "AI Token",
        "meter": {"id": meter_id, "filters": filters},
        **changed,
    }


async def test_a_feature_is_made_and_read_by_id_and_by_key(client: Client) -> None:
    given = feature(await tokens(client), description="Tokens", labels={"a": "b"}, unit_cost=LLM)

    answer = await client.post(FEATURES, json=given)
    made = await answer.json()

    assert answer.status == 201
    for name in (made["id"], "ai_token"):
        assert await (await client.get(f"{FEATURES}/{name}")).json() == made
    assert len({made.pop("id"), made.pop("created_at"), made.pop("updated_at")}) == 2
    assert made == given


async def test_every_filter_comes_back_as_it_was_sent(client: Client) -> None:
    filters = {
        "provider": {"nin": ["a", "b"]},
        "model": {"or": [{"contains": "gpt"}, {"and": [{"neq": "o1"}, {"ncontains": "x"}]}]},
        "task": {"exists": False},
    }
    given = feature(await tokens(client))
    given["meter"]["filters"] = filters

    made = await (await client.post(FEATURES, json=given)).json()

    assert made["meter"]["filters"] == filters


async def test_only_the_unit_cost_of_a_feature_changes(client: Client) -> None:
    made = await (await client.post(FEATURES, json={"key": "support", "name": "Support"})).json()
    at = f"{FEATURES}/{made['id']}"
    cost = {"type": "manual", "amount": "0.5"}

    set_ = await (await client.patch(at, json={"unit_cost": cost})).json()
    kept = await (await client.patch(at, json={})).json()
    cleared = await (await client.patch(at, json={"unit_cost": None})).json()

    assert (set_["unit_cost"], kept["unit_cost"]) == (cost, cost)
    assert "unit_cost" not in cleared
    assert (await client.patch(at, json={"name": "Other"})).status == 400


async def test_the_list_is_filtered_by_meter_key_and_name_and_ordered(client: Client) -> None:
    meter_id = await tokens(client)
    await client.post(FEATURES, json=feature(meter_id))
    for key in ("b", "a"):
        await client.post(FEATURES, json={"key": key, "name": key.upper()})

    async def keys(query: str) -> list[str]:
        listed = await (await client.get(f"{FEATURES}?{query}")).json()
        assert listed["meta"]["page"]["total"] == len(listed["data"])
        return [found["key"] for found in listed["data"]]

    assert await keys(f"filter[meter_id]={meter_id}") == ["ai_token"]
    assert await keys("filter[name][contains]=token") == ["ai_token"]
    assert await keys("sort=key desc") == ["b", "ai_token", "a"]


async def test_an_archived_feature_is_gone_and_its_key_free(client: Client) -> None:
    made = await (await client.post(FEATURES, json={"key": "support", "name": "Support"})).json()
    at = f"{FEATURES}/{made['id']}"

    assert (await client.delete(at)).status == 204
    assert [(await client.get(at)).status, (await client.delete(at)).status] == [410, 410]
    assert (await client.post(FEATURES, json={"key": "support", "name": "S"})).status == 201


async def test_features_of_another_namespace_are_not_there(
    client: Client, client_of: ClientOf
) -> None:
    made = await (await client.post(FEATURES, json={"key": "support", "name": "Support"})).json()
    theirs = await client_of(Scope.ADMIN, namespace="theirs")

    assert (await theirs.get(f"{FEATURES}/{made['id']}")).status == 404
    assert (await (await theirs.get(FEATURES)).json())["data"] == []


async def test_a_meter_that_counts_a_feature_stays_with_the_dimensions_of_its_filters(
    client: Client,
) -> None:
    meter = await (
        await client.post(
            METERS,
            json={
                "key": "calls", "name": "Calls", "aggregation": "count", "event_type": "call",
                "dimensions": {"model": "$.model", "task": "$.task"},
            },
        )
    ).json()  # fmt: skip
    given = {"key": "call", "name": "Call", "meter": {"id": meter["id"]}}
    given["meter"] = {"id": meter["id"], "filters": {"model": {"eq": "gpt-4o"}}}
    await client.post(FEATURES, json=given)
    at = f"{METERS}/{meter['id']}"

    assert (await client.delete(at)).status == 409
    assert (await client.put(at, json={"dimensions": {"task": "$.task"}})).status == 409
    assert (await client.put(at, json={"dimensions": {"model": "$.model"}})).status == 200
    await client.delete(f"{FEATURES}/call")
    assert (await client.delete(at)).status == 204


METER = "METER"


@pytest.mark.parametrize(
    ("changed", "field", "rule", "code"),
    [
        pytest.param({"key": "ai-token"}, "key", "matches_regex", "invalid_input", id="a hyphen"),
        pytest.param({"color": 1}, "color", "unknown_property", "invalid_input", id="unknown"),
        pytest.param(
            {"meter": {"id": "01J00000000000000000000000"}},
            "meter.id",
            "missing_reference",
            "invalid_input",
            id="no such meter",
        ),
        pytest.param(
            {"meter": {"id": METER, "filters": {"colour": {"eq": "x"}}}},
            "meter.filters.colour",
            "invalid",
            "invalid_dimension_filter",
            id="no such dimension",
        ),
        pytest.param(
            {"meter": {"id": METER, "filters": {"subject": {"eq": "x"}}}},
            "meter.filters.subject",
            "invalid",
            "invalid_dimension_filter",
            id="a feature is not of a subject",
        ),
        pytest.param(
            {"meter": {"id": METER, "filters": {"model": {"gt": "x"}}}},
            "meter.filters.model.gt",
            "unknown_property",
            "invalid_input",
            id="no such operator",
        ),
        pytest.param(
            {"unit_cost": {"type": "gold"}}, "unit_cost", "type", "invalid_input", id="no such cost"
        ),
        pytest.param(
            {"unit_cost": {"type": "manual", "amount": 0.5}},
            "unit_cost.amount",
            "is_string",
            "invalid_input",
            id="an amount as a number",
        ),
        pytest.param(
            {"unit_cost": {**LLM, "provider": "openai"}},
            "unit_cost",
            "invalid",
            "invalid_input",
            id="provider twice",
        ),
        pytest.param(
            {"unit_cost": {**LLM, "model_property": "colour"}},
            "unit_cost.model_property",
            "missing_reference",
            "invalid_input",
            id="a cost by an unknown dimension",
        ),
        pytest.param(
            {"unit_cost": LLM, "meter": None}, "meter", "required", "invalid_input", id="no meter"
        ),
    ],
)
async def test_bad_input_gets_the_field_and_the_rule(
    client: Client, changed: dict[str, Any], field: str, rule: str, code: str
) -> None:
    meter_id = await tokens(client)
    given = feature(meter_id, **changed)
    if given["meter"] and given["meter"]["id"] == METER:
        given["meter"] = {**given["meter"], "id": meter_id}

    answer = await client.post(FEATURES, json=given)
    problem = await answer.json()

    assert (answer.status, problem["code"]) == (400, code)
    [parameter] = problem["invalid_parameters"]
    assert (parameter["field"], parameter["rule"]) == (field, rule)
    assert (await (await client.get(FEATURES)).json())["data"] == []


async def test_a_taken_key_is_a_conflict(client: Client) -> None:
    await client.post(FEATURES, json={"key": "support", "name": "Support"})

    answer = await client.post(FEATURES, json={"key": "support", "name": "Support"})

    assert answer.status == 409


async def test_a_filter_that_no_event_passes_is_warned_of(client: Client) -> None:
    wrong = feature(await tokens(client))
    wrong["meter"]["filters"]["type"] = {"eq": "input"}
    made = await (await client.post(FEATURES, json=wrong)).json()
    assert "warnings" not in made  # there are no events yet, so none is missing

    await send(client, event("acme", 5, type="request", provider="openai"))
    await send(client, event("acme", 7, type="response", provider="openai"))
    made = await (await client.post(FEATURES, json={**wrong, "key": "again"})).json()
    right = await (await client.post(FEATURES, json=feature(await tokens(client), key="b"))).json()

    assert made["warnings"] == [
        {
            "field": "meter.filters.type",
            "message": "no event of the last 31 days passes it: type is request, response",
        }
    ]
    assert "warnings" not in right
    assert "warnings" not in await (await client.get(f"{FEATURES}/again")).json()


def event(subject: str, tokens: int, **data: str) -> dict[str, Any]:
    return {
        "id": f"{subject}-{tokens}",
        "source": "test",
        "specversion": "1.0",
        "type": "llm.tokens",
        "subject": subject,
        "time": datetime.now(UTC).isoformat(),
        "data": {"tokens": tokens, **data},
    }
