"""`/customers`: made, read, listed, put anew, deleted, and what bad input gets."""

from typing import Any

import pytest
from tallyman.domain.access import Scope

from tests.integration.api.conftest import Client, ClientOf

CUSTOMERS = "/api/v3/openmeter/customers"
ADDRESS = {"country": "DE", "city": "Berlin", "line1": "Torstrasse 1"}


def customer(key: str = "user-001", **changed: Any) -> dict[str, Any]:
    """The walkthrough's customer."""
    return {"key": key, "name": "Alice", "usage_attribution": {"subject_keys": [key]}, **changed}


async def made(client: Client, key: str = "user-001", **changed: Any) -> dict[str, Any]:
    answer = await client.post(CUSTOMERS, json=customer(key, **changed))
    found: dict[str, Any] = await answer.json()
    assert answer.status == 201, found
    return found


async def test_a_customer_is_made_and_read_by_id_and_by_key(client: Client) -> None:
    given = customer(
        primary_email="alice@example.com",
        currency="EUR",
        billing_address=ADDRESS,
        labels={"team": "a"},
        description="The first one",
    )

    found = await made(client, **given)

    for name in (found["id"], found["key"]):
        assert await (await client.get(f"{CUSTOMERS}/{name}")).json() == found
    assert len(found.pop("id")) == 26
    assert found.pop("created_at") == found.pop("updated_at")
    assert found == given


async def test_a_customer_needs_no_subject(client: Client) -> None:
    found = await (await client.post(CUSTOMERS, json={"key": "a/b c", "name": "A"})).json()

    assert "usage_attribution" not in found
    assert (await client.get(f"{CUSTOMERS}/a%2Fb%20c")).status == 200


@pytest.mark.parametrize(
    ("again", "field"),
    [
        pytest.param(
            customer(usage_attribution={"subject_keys": ["other"]}), "key", id="the key is taken"
        ),
        pytest.param(
            customer("user-002", usage_attribution={"subject_keys": ["user-002", "user-001"]}),
            "usage_attribution.subject_keys[1]",
            id="a subject belongs to one customer",
        ),
    ],
)
async def test_what_another_customer_has_is_a_conflict_that_names_the_field(
    client: Client, again: dict[str, Any], field: str
) -> None:
    await made(client)

    answer = await client.post(CUSTOMERS, json=again)

    problem = await answer.json()
    assert (answer.status, problem["type"]) == (
        409,
        "https://kongapi.info/konnect/resource-conflict",
    )
    assert [found["field"] for found in problem["invalid_parameters"]] == [field]
    assert (await (await client.get(CUSTOMERS)).json())["meta"]["page"]["total"] == 1


async def test_a_customer_put_anew_is_only_what_is_given(client: Client) -> None:
    before = await made(client, primary_email="alice@example.com", labels={"team": "a"})
    given = {"name": "Alice B.", "usage_attribution": {"subject_keys": ["user-009", "user-001"]}}

    answer = await client.put(f"{CUSTOMERS}/{before['id']}", json=given)

    after = await answer.json()
    assert after.pop("updated_at") >= before["updated_at"]
    assert after == {
        **given,
        "id": before["id"],
        "key": "user-001",
        "labels": {},
        "created_at": before["created_at"],
    }
    assert (await client.put(f"{CUSTOMERS}/{before['id']}", json=customer())).status == 400


async def test_a_deleted_customer_is_gone_and_its_key_and_subjects_are_free(client: Client) -> None:
    first = await made(client)

    assert (await client.delete(f"{CUSTOMERS}/{first['id']}")).status == 204

    for answer in (
        await client.get(f"{CUSTOMERS}/{first['id']}"),
        await client.put(f"{CUSTOMERS}/{first['id']}", json={"name": "x"}),
        await client.delete(f"{CUSTOMERS}/{first['id']}"),
    ):
        assert answer.status == 410
    assert (await made(client))["id"] != first["id"]


async def test_an_unknown_customer_is_not_found(client: Client) -> None:
    for name in ("nobody", "%00", "01ARZ3NDEKTSV4RRFFQ69G5FAV"):
        assert (await client.get(f"{CUSTOMERS}/{name}")).status == 404


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        pytest.param({"filter[key]": "b"}, ["b"], id="key"),
        pytest.param({"filter[key][oeq]": "a,c"}, ["a", "c"], id="any of several keys"),
        pytest.param({"filter[name][contains]": "ALI"}, ["a"], id="part of a name"),
        pytest.param({"filter[primary_email][exists]": "true"}, ["c"], id="has an address"),
        pytest.param({"filter[usage_attribution_subject_key]": "two"}, ["a"], id="has the subject"),
        pytest.param(
            {"filter[usage_attribution_subject_key][neq]": "two"}, ["b", "c"], id="has not"
        ),
        pytest.param(
            {"filter[usage_attribution_subject_key][exists]": "false"}, ["b"], id="has none"
        ),
        pytest.param(
            {"sort": "key desc", "page[size]": "1", "page[number]": "2"}, ["b"], id="page"
        ),
    ],
)
async def test_customers_are_listed_by_filter_order_and_page(
    client: Client, query: dict[str, str], keys: list[str]
) -> None:
    await made(client, "a", usage_attribution={"subject_keys": ["one", "two"]})
    await made(client, "b", name="Bob", usage_attribution={"subject_keys": []})
    await made(client, "c", name="Carol", primary_email="c@example.com")

    answer = await (await client.get(CUSTOMERS, params=query)).json()

    assert [found["key"] for found in answer["data"]] == keys


@pytest.mark.parametrize(
    ("changed", "field", "rule"),
    [
        pytest.param({"key": ""}, "key", "min_length", id="an empty key"),
        pytest.param({"key": "a" * 257}, "key", "max_length", id="a long key"),
        pytest.param({"name": None}, "name", "is_string", id="no name"),
        pytest.param(
            {"billing_address": {"country": "XX"}},
            "billing_address.country",
            "invalid",
            id="a country that there is not",
        ),
        pytest.param({"currency": "eur"}, "currency", "matches_regex", id="no currency"),
        pytest.param({"currency": "ZZZ"}, "currency", "invalid", id="a currency that there is not"),
        pytest.param(
            {"billing_address": {"country": "Germany"}},
            "billing_address.country",
            "max_length",
            id="no country",
        ),
        pytest.param(
            {"usage_attribution": {"subject_keys": ["a", "a"]}},
            "usage_attribution.subject_keys",
            "invalid",
            id="a subject twice",
        ),
        pytest.param(
            {"usage_attribution": {"subject_keys": [""]}},
            "usage_attribution.subject_keys[0]",
            "min_length",
            id="an empty subject",
        ),
        pytest.param({"plan": "starter"}, "plan", "unknown_property", id="an unknown field"),
    ],
)
async def test_a_wrong_customer_is_refused_with_the_field_and_the_rule(
    client: Client, changed: dict[str, Any], field: str, rule: str
) -> None:
    answer = await client.post(CUSTOMERS, json=customer() | changed)

    assert answer.status == 400
    assert [
        (found["field"], found["rule"]) for found in (await answer.json())["invalid_parameters"]
    ] == [(field, rule)]


async def test_a_namespace_has_its_own_customers_and_only_an_admin_makes_them(
    client: Client, client_of: ClientOf
) -> None:
    mine = await made(client)
    theirs = await client_of(Scope.ADMIN, namespace="theirs")
    reader = await client_of(Scope.READ)

    assert (await theirs.get(f"{CUSTOMERS}/{mine['id']}")).status == 404
    assert (await theirs.post(CUSTOMERS, json=customer())).status == 201
    assert (await reader.get(f"{CUSTOMERS}/{mine['id']}")).status == 200
    assert (await reader.post(CUSTOMERS, json=customer("x"))).status == 403
