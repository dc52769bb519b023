"""`/subscriptions`: made, read, changed, canceled, and what the start leaves out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tallyman.domain.access import Scope

from tests.integration.api.conftest import Client, ClientOf
from tests.integration.api.selling import (
    API,
    SUBSCRIPTIONS,
    created,
    customer,
    event,
    sell,
    send,
    subscribe,
)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_a_subscription_is_made_and_read_as_the_api_has_it(client: Client) -> None:
    plan = await sell(client)
    acme = await customer(client, "acme")

    made = await subscribe(client, "acme", labels={"team": "a"})

    found = await (await client.get(f"{SUBSCRIPTIONS}/{made['id']}")).json()
    assert made.pop("usage_before_start") == {"to": found["active_from"], "quantities": []}
    assert found == made
    [phase] = found.pop("phases")
    [item] = phase["items"]
    assert (item["rate_card"]["key"], item["active_from"]) == ("tokens", found["active_from"])
    period = found.pop("current_period")
    assert period["from"] == found["active_from"] == found["billing_anchor"]
    assert moment(period["to"]) - moment(period["from"]) >= timedelta(days=28)
    assert {name: found[name] for name in found if not name.endswith(("_at", "_from"))} == {
        "id": made["id"],
        "name": "Starter",
        "labels": {"team": "a"},
        "customer_id": acme["id"],
        "plan_id": plan["id"],
        "plan": {"id": plan["id"], "key": "starter", "version": 1},
        "invoice_currency": "USD",
        "cost_basis_mode": "dynamic",
        "cost_basis_pins": [],
        "billing_cadence": "P1M",
        "pro_rating_config": {"enabled": True, "mode": "prorate_prices"},
        "billing_anchor": found["active_from"],
        "status": "active",
    }


async def test_the_answer_says_what_the_start_leaves_out(client: Client) -> None:
    await sell(client)
    await customer(client, "acme", "acme", "acme-batch")
    start = datetime.now(UTC) - timedelta(hours=1)
    before = start - timedelta(milliseconds=1)
    await send(client, event("acme", 7000, start), event("nobody", 9))
    await send(client, event("acme", 3000, before), event("acme-batch", 12, before))

    made = await subscribe(client, "acme", active_from=start.isoformat())

    assert made["usage_before_start"] == {
        "to": made["active_from"],
        "quantities": [{"feature_key": "tokens", "quantity": "3012"}],
    }
    await client.post(f"{SUBSCRIPTIONS}/{made['id']}/cancel", json={})
    again = await subscribe(client, "acme")
    assert again["usage_before_start"]["quantities"] == []
    assert again["usage_before_start"]["from"] <= again["active_from"]


async def test_a_second_subscription_at_a_time_is_a_conflict_with_the_apis_code(
    client: Client,
) -> None:
    await sell(client)
    await customer(client, "acme")
    await subscribe(client, "acme")

    answer = await client.post(
        SUBSCRIPTIONS, json={"customer": {"key": "acme"}, "plan": {"key": "starter"}}
    )

    problem = await answer.json()
    assert (answer.status, problem["code"]) == (
        409,
        "only_single_subscription_allowed_per_customer_at_a_time",
    )
    assert problem["extensions"]["validationErrors"][0]["code"] == problem["code"]
    assert [one["field"] for one in problem["invalid_parameters"]] == ["customer"]


async def test_a_subscription_is_changed_canceled_and_continued(client: Client) -> None:
    await sell(client)
    acme = await customer(client, "acme")
    made = await subscribe(client, "acme")
    path = f"{SUBSCRIPTIONS}/{made['id']}"
    other = {"customer": {"id": acme["id"]}, "plan": {"key": "starter", "version": 1}}

    changed = await (
        await client.post(f"{path}/change", json={**other, "timing": "next_billing_cycle"})
    ).json()

    assert changed["current"]["status"] == "canceled"
    assert changed["next"]["status"] == "scheduled"
    assert changed["current"]["active_to"] == changed["next"]["active_from"]
    assert changed["current"]["active_to"] == made["current_period"]["to"]
    assert (await client.post(f"{path}/unschedule-cancelation")).status == 409
    next_path = f"{SUBSCRIPTIONS}/{changed['next']['id']}"
    assert (await client.delete(next_path)).status == 204
    assert (await client.get(next_path)).status == 410
    continued = await (await client.post(f"{path}/unschedule-cancelation")).json()
    assert (continued["status"], "active_to" in continued) == ("active", False)
    assert (await client.delete(path)).status == 409
    canceled = await (await client.post(f"{path}/cancel")).json()  # without a body: at once
    assert canceled["status"] == "inactive"
    assert (await client.post(f"{path}/cancel", json={})).status == 409


async def test_a_customers_currency_cannot_leave_that_of_its_subscription(client: Client) -> None:
    await sell(client)
    acme = await customer(client, "acme")
    made = await subscribe(client, "acme")
    path, euro = f"{API}/customers/{acme['id']}", {"name": "Acme", "currency": "EUR"}

    refused = await client.put(path, json=euro)

    problem = await refused.json()
    code = "customer_currency_differs_from_subscription"
    assert (refused.status, problem["code"]) == (409, code)
    [wrong] = problem["invalid_parameters"]
    assert (wrong["field"], wrong["rule"]) == ("currency", "invalid")
    await client.post(f"{SUBSCRIPTIONS}/{made['id']}/cancel")
    assert (await client.put(path, json=euro)).status == 200


async def test_subscriptions_are_listed_by_filter_and_page(client: Client) -> None:
    await sell(client)
    made = {}
    for key in ("a", "b"):
        await customer(client, key)
        made[key] = await subscribe(client, key)
    await client.post(f"{SUBSCRIPTIONS}/{made['b']['id']}/cancel", json={})

    async def listed(**query: str) -> list[str]:
        answer = await (await client.get(SUBSCRIPTIONS, params=query)).json()
        return [one["id"] for one in answer["data"]]

    assert await listed() == [made["a"]["id"], made["b"]["id"]]
    assert await listed(**{"filter[status]": "active"}) == [made["a"]["id"]]
    assert await listed(**{"filter[customer_id]": made["b"]["customer_id"]}) == [made["b"]["id"]]
    assert await listed(**{"filter[plan_key][eq]": "other"}) == []
    assert await listed(**{"sort": "created_at desc", "page[size]": "1"}) == [made["b"]["id"]]
    assert (await (await client.get(SUBSCRIPTIONS)).json())["meta"]["page"]["total"] == 2


@pytest.mark.parametrize(
    ("changed", "status", "field"),
    [
        pytest.param({"customer": {}}, 400, "customer", id="no customer"),
        pytest.param(
            {"customer": {"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "key": "acme"}}, 400, "customer",
            id="two customers",
        ),
        pytest.param({"plan": {"version": 1}}, 400, "plan", id="a number of no plan"),
        pytest.param({"plan": {"key": "starter", "version": 0}}, 400, "plan.version", id="version 0"),
        pytest.param({"billing_anchor": "tomorrow"}, 400, "billing_anchor", id="no time"),
        pytest.param(
            {"billing_anchor": "0001-01-01T00:00:00Z"}, 400, "billing_anchor", id="too early"
        ),
        pytest.param({"cost_basis_mode": "pinned"}, 400, "cost_basis_mode", id="not supported"),
        pytest.param({"timing": "immediate"}, 400, "timing", id="an unknown field"),
        pytest.param({"customer": {"key": "nobody"}}, 404, "customer.key", id="no such customer"),
        pytest.param(
            {"customer": {"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}}, 404, "customer.id",
            id="no customer of this id",
        ),
        pytest.param({"plan": {"key": "nothing"}}, 404, "plan.key", id="no such plan"),
        pytest.param(
            {"plan": {"key": "starter", "version": 2}}, 404, "plan.version", id="no such version"
        ),
        pytest.param(
            {"plan": {"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}}, 404, "plan.id", id="no plan of this id"
        ),
    ],
)  # fmt: skip
async def test_a_wrong_subscription_is_refused_with_the_field(
    client: Client, changed: dict[str, Any], status: int, field: str
) -> None:
    await sell(client)
    await customer(client, "acme")
    body = {"customer": {"key": "acme"}, "plan": {"key": "starter"}, **changed}

    answer = await client.post(SUBSCRIPTIONS, json=body)

    problem = await answer.json()
    assert answer.status == status, problem
    assert [one["field"] for one in problem["invalid_parameters"]] == [field]
    assert (await (await client.get(SUBSCRIPTIONS)).json())["data"] == []


async def test_a_customer_or_plan_that_was_deleted_is_named_by_the_field_too(
    client: Client,
) -> None:
    plan = await sell(client)
    gone = await customer(client, "gone")
    await customer(client, "acme")
    made = await subscribe(client, "acme")
    assert (await client.delete(f"{API}/customers/{gone['id']}")).status == 204
    wanted = {"customer": {"key": "gone"}, "plan": {"id": plan["id"]}}
    elsewhere = {"customer": {"key": "acme"}, "plan": {"key": "nothing"}, "timing": "immediate"}

    begun = await created(client, SUBSCRIPTIONS, wanted, 410)
    changed = await created(client, f"{SUBSCRIPTIONS}/{made['id']}/change", elsewhere, 404)
    absent = await created(client, f"{SUBSCRIPTIONS}/nothing/change", elsewhere, 404)

    assert begun["invalid_parameters"] == [
        {
            "field": "customer.key", "rule": "missing_reference", "source": "body",
            "reason": "the customer gone was deleted",
        }
    ]  # fmt: skip
    assert [one["field"] for one in changed["invalid_parameters"]] == ["plan.key"]
    assert "invalid_parameters" not in absent  # the path names it


@pytest.mark.parametrize(
    "timing",
    [
        pytest.param("soon", id="no timing"),
        pytest.param("2020-01-01T00:00:00Z", id="in the past"),
        pytest.param("9999-01-01T00:00:00Z", id="beyond the calendar"),
    ],
)
async def test_a_wrong_timing_is_refused(client: Client, timing: str) -> None:
    await sell(client)
    await customer(client, "acme")
    made = await subscribe(client, "acme")

    answer = await client.post(f"{SUBSCRIPTIONS}/{made['id']}/cancel", json={"timing": timing})

    assert answer.status == 400
    assert [one["field"] for one in (await answer.json())["invalid_parameters"]] == ["timing"]


async def test_a_namespace_has_its_own_subscriptions_and_only_an_admin_makes_them(
    client: Client, client_of: ClientOf
) -> None:
    await sell(client)
    await customer(client, "acme")
    made = await subscribe(client, "acme")
    theirs = await client_of(Scope.ADMIN, namespace="theirs")
    reader = await client_of(Scope.READ)

    path = f"{SUBSCRIPTIONS}/{made['id']}"
    assert (await theirs.get(path)).status == 404
    assert (await theirs.post(f"{path}/cancel", json={})).status == 404
    assert (await reader.get(path)).status == 200
    assert (await reader.post(f"{path}/cancel", json={})).status == 403
    assert (await client.get(f"{API}/subscriptions/nothing")).status == 404


async def test_who_subscribes_to_a_draft_is_told_to_publish_it(client: Client) -> None:
    await customer(client, "acme")
    draft = {"key": "starter", "name": "Starter", "currency": "USD", "billing_cadence": "P1M"}
    cards = [{"key": "fee", "name": "Fee", "price": {"type": "flat", "amount": "1"}}]
    phases = [{"key": "only", "name": "Only", "rate_cards": cards}]
    await created(client, "plans", {**draft, "phases": phases})
    wanted = {"customer": {"key": "acme"}, "plan": {"key": "starter"}}

    problem = await created(client, SUBSCRIPTIONS, wanted, 404)
    assert problem["detail"] == (
        "no version of the plan starter is in force: version 1 is a draft: publish it"
    )


async def test_an_event_from_before_the_subscription_says_that_it_is_not_billed(
    client: Client,
) -> None:
    await sell(client)
    await customer(client, "acme")
    start = moment("2026-11-01T00:00:00.250Z")
    await send(client, event("acme", 1, start), event("acme", 2, start - timedelta(milliseconds=1)))
    assert await why_not_billed(client) == {1: "no_subscription", 2: "no_subscription"}

    made = await subscribe(client, "acme", active_from=start.isoformat())
    assert await why_not_billed(client) == {1: None, 2: "before_subscription"}

    await client.post(f"{SUBSCRIPTIONS}/{made['id']}/cancel", json={"timing": "immediate"})
    await send(client, event("acme", 3), event("nobody", 4))
    assert await why_not_billed(client) == {
        1: None,
        2: "before_subscription",
        3: "no_subscription",
        4: None,  # it is nobody's
    }
    [first] = (await (await client.get(f"{API}/events?sort=time asc&page[size]=1")).json())["data"]
    assert first["not_billed"]["message"] == (
        "the customer's subscription begins after the event's time, at 2026-11-01 00:00:00.250 UTC"
    )


async def why_not_billed(client: Client) -> dict[int, str | None]:
    """The code, by the number of tokens."""
    listed = (await (await client.get(f"{API}/events")).json())["data"]
    return {
        item["event"]["data"]["tokens"]: item.get("not_billed", {}).get("code") for item in listed
    }
