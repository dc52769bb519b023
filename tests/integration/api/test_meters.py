"""`/meters`: made, read, listed, changed, deleted, and what bad input gets."""

from typing import Any

import pytest
from tallyman.domain.builtin_meters import BUILTIN_METERS

from tests.integration.api.conftest import Client

METERS = "/api/v3/openmeter/meters"


def meter(**changed: Any) -> dict[str, Any]:
    """The walkthrough's meter."""
    return {
        "key": "llm_total_tokens",
        "name": "LLM Total Tokens",
        "description": "Total tokens consumed per LLM request",
        "event_type": "llm_token_usage",
        "aggregation": "sum",
        "value_property": "$.total_tokens",
        "dimensions": {"model": "$.model", "endpoint": "$.endpoint"},
        **changed,
    }


async def test_a_meter_is_made_and_read_by_id_and_by_key(client: Client) -> None:
    answer = await client.post(METERS, json=meter())
    made = await answer.json()

    assert answer.status == 201
    for name in ("id", made["key"]):
        read = await client.get(f"{METERS}/{made.get(name, name)}")
        assert await read.json() == made
    stamps = {made.pop("id"), made.pop("created_at"), made.pop("updated_at")}
    assert len(stamps) == 2
    assert made == {**meter(), "labels": {}}


async def test_a_new_meter_without_options_has_none_of_them(client: Client) -> None:
    answer = await client.post(
        METERS, json={"key": "calls", "name": "Calls", "aggregation": "count", "event_type": "t"}
    )

    assert set(await answer.json()) == {
        "id", "key", "name", "aggregation", "event_type", "created_at", "updated_at",
        "labels", "dimensions",
    }  # fmt: skip


async def test_the_built_in_meters_are_there_and_stay(client: Client) -> None:
    listed = await (await client.get(METERS)).json()

    assert {found["key"] for found in listed["data"]} == {found.key for found in BUILTIN_METERS}
    for found in listed["data"]:
        assert len(found["id"]) == 26
        assert (await client.delete(f"{METERS}/{found['key']}")).status == 409
        assert (await client.put(f"{METERS}/{found['id']}", json={"name": "x"})).status == 409


async def test_a_taken_key_is_a_conflict(client: Client) -> None:
    await client.post(METERS, json=meter())

    again = await client.post(METERS, json=meter())

    assert again.status == 409
    assert (await again.json())["type"] == "https://kongapi.info/konnect/resource-conflict"


async def test_a_deleted_meter_is_gone_and_its_key_free(client: Client) -> None:
    made = await (await client.post(METERS, json=meter())).json()

    deleted = await client.delete(f"{METERS}/{made['id']}")

    assert (deleted.status, await deleted.read()) == (204, b"")
    for name in (made["id"], made["key"]):
        assert (await client.get(f"{METERS}/{name}")).status == 410
        assert (await client.put(f"{METERS}/{name}", json={})).status == 410
        assert (await client.delete(f"{METERS}/{name}")).status == 410
        assert (await client.post(f"{METERS}/{name}/query", json={})).status == 410
    assert (await client.post(METERS, json=meter())).status == 201


async def test_an_unknown_meter_is_not_found(client: Client) -> None:
    for answer in (
        await client.get(f"{METERS}/nothing"),
        await client.put(f"{METERS}/nothing", json={}),
        await client.delete(f"{METERS}/nothing"),
        await client.post(f"{METERS}/nothing/query", json={}),
    ):
        assert answer.status == 404
        assert (await answer.json())["code"] == "not_found"


async def test_a_change_leaves_the_rest_as_it_was(client: Client) -> None:
    made = await (await client.post(METERS, json=meter())).json()

    answer = await client.put(f"{METERS}/llm_total_tokens", json={"labels": {"team": "a"}})

    changed = await answer.json()
    assert changed.pop("updated_at") > made.pop("updated_at")
    assert changed == {**made, "labels": {"team": "a"}}


async def test_what_cannot_be_changed_is_named(client: Client) -> None:
    await client.post(METERS, json=meter())

    answer = await client.put(f"{METERS}/llm_total_tokens", json={"key": "other"})

    assert answer.status == 400
    assert [
        (found["field"], found["rule"]) for found in (await answer.json())["invalid_parameters"]
    ] == [("key", "unknown_property")]


@pytest.mark.parametrize(
    ("changed", "field", "rule", "extra"),
    [
        pytest.param({"key": "Tokens"}, "key", "matches_regex", {}, id="a key in capitals"),
        pytest.param({"key": "a" * 65}, "key", "max_length", {"maximum": 64}, id="a long key"),
        pytest.param({"name": ""}, "name", "min_length", {"minimum": 1}, id="an empty name"),
        pytest.param({"name": 7}, "name", "is_string", {}, id="a name that is a number"),
        pytest.param({"name": "\x00"}, "name", "matches_regex", {}, id="a NUL"),
        pytest.param(
            {"aggregation": "median"},
            "aggregation",
            "enum",
            {"choices": ["sum", "count", "unique_count", "avg", "min", "max", "latest"]},
            id="an unknown aggregation",
        ),
        pytest.param({"events_from": "yesterday"}, "events_from", "is_date_time", {}, id="no time"),
        pytest.param(
            {"events_from": "2026-01-01T00:00:00"}, "events_from", "is_date_time", {}, id="no zone"
        ),
        pytest.param(
            {"value_property": "tokens"}, "value_property", "matches_regex", {}, id="path"
        ),
        pytest.param({"value_property": None}, "body", "required", {}, id="a sum of nothing"),
        pytest.param({"aggregation": "count"}, "body", "invalid", {}, id="a count of something"),
        pytest.param(
            {"dimensions": {"model": "model"}},
            "dimensions.model",
            "matches_regex",
            {},
            id="no path",
        ),
        pytest.param(
            {"dimensions": {"subject": "$.x"}}, "dimensions", "matches_regex", {}, id="reserved"
        ),
        pytest.param({"dimensions": []}, "dimensions", "is_object", {}, id="a list of dimensions"),
        pytest.param({"labels": {"kong": "x"}}, "labels", "is_label", {}, id="a label of Kong's"),
        pytest.param({"labels": {"a": "-"}}, "labels.a", "matches_regex", {}, id="a label's value"),
        pytest.param({"unit": "token"}, "unit", "unknown_property", {}, id="an unknown field"),
    ],
)
async def test_a_wrong_meter_is_refused_with_the_field_and_the_rule(
    client: Client, changed: dict[str, Any], field: str, rule: str, extra: dict[str, Any]
) -> None:
    answer = await client.post(METERS, json=meter(**changed))

    assert answer.status == 400
    problem = await answer.json()
    assert problem["code"] == "invalid_input"
    (found,) = problem["invalid_parameters"]
    assert found.pop("reason")
    assert found == {"field": field, "rule": rule, "source": "body", **extra}


async def test_meters_are_listed_by_page_filter_and_order(client: Client) -> None:
    for number in range(3):
        await client.post(METERS, json=meter(key=f"mine_{number}", name=f"Mine {number}"))

    answer = await client.get(
        METERS,
        params={
            "filter[key][contains]": "MINE_",
            "sort": "key desc",
            "page[size]": "2",
            "page[number]": "1",
        },
    )

    listed = await answer.json()
    assert [found["key"] for found in listed["data"]] == ["mine_2", "mine_1"]
    assert listed["meta"] == {"page": {"number": 1, "size": 2, "total": 3}}
    bare = await (await client.get(METERS, params={"filter[name]": "Mine 1"})).json()
    assert [found["key"] for found in bare["data"]] == ["mine_1"]


@pytest.mark.parametrize(
    ("query", "field", "rule"),
    [
        ("page[size]=0", "page[size]", "min"),
        ("page[size]=101", "page[size]", "max"),
        ("page[size]=ten", "page[size]", "is_integer"),
        ("page[number]=0", "page[number]", "min"),
        ("page[after]=x", "page[after]", "unknown_property"),
        ("sort=labels", "sort", "enum"),
        ("sort=key up", "sort", "enum"),
        ("filter[labels]=x", "filter[labels]", "unknown_property"),
        ("filter[key][like]=x", "filter[key][like]", "enum"),
        ("filter[key][exists]=1", "filter[key][exists]", "is_boolean"),
        ("filter[key]=a&filter[key]=b", "filter[key]", "invalid"),
        ("limit=5", "limit", "unknown_property"),
    ],
)
async def test_a_wrong_parameter_is_refused_by_name(
    client: Client, query: str, field: str, rule: str
) -> None:
    answer = await client.get(f"{METERS}?{query}")

    assert answer.status == 400
    (found,) = (await answer.json())["invalid_parameters"]
    assert (found["field"], found["rule"], found["source"]) == (field, rule, "query")


async def test_a_method_that_is_not_there_says_which_are(client: Client) -> None:
    answer = await client.patch(METERS)

    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, POST")
    assert (await answer.json())["type"] == "https://kongapi.info/konnect/method-not-allowed"


async def test_a_path_that_is_not_there_is_a_problem_too(client: Client) -> None:
    answer = await client.get("/api/v3/openmeter/nothing")

    assert answer.status == 404
    assert answer.content_type == "application/problem+json"
