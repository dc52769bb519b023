"""What customers may use, over the whole application: access, value, reset, restart, and how old."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from tallyman import app
from tallyman.api.state import ENTITLEMENTS, KEYS
from tallyman.config import Settings
from tallyman.domain.access import Scope

from tests.integration.api.conftest import Client, ClientOf
from tests.integration.api.selling import API, HARD, customer, event, sell, send, subscribe

QUERY = f"{API}/entitlement-access/query"
VALUE = "/api/v2/customers/{}/entitlements/tokens"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Counted often, so that tests need not wait."""
    return settings.model_copy(update={"entitlements_interval_seconds": 0.1})


async def becomes(ask: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    """Wait until the answer is this; it must be within the bound that is promised."""
    found = None
    try:
        async with asyncio.timeout(10):
            while (found := await ask()) != wanted:  # noqa: ASYNC110 - a poll is what is tested
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"it stayed {found}")


async def access(client: Client, name: str = "acme") -> Any:
    answer = await (await client.get(f"{API}/customers/{name}/entitlement-access")).json()
    return [(one["feature_key"], one["has_access"]) for one in answer["data"]]


async def asked(client: Client, *customers: str, features: list[str] | None = None) -> Any:
    body: dict[str, Any] = {"customer": {"keys": list(customers)}}
    if features is not None:
        body["feature"] = {"keys": features}
    answer = await client.post(QUERY, json=body)
    found = await answer.json()
    assert answer.status == 200, found
    return found


async def value(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = await (await client.get(VALUE.format("acme") + "/value")).json()
    return found


async def test_a_customer_sees_all_that_it_is_entitled_to(client: Client) -> None:
    await sell(
        client,
        {
            "tokens": HARD,
            "seats": {"type": "static", "config": {"n": 3}},
            "sso": {"type": "boolean"},
            "plain": None,
        },
    )
    acme = await customer(client, "acme")
    await customer(client, "idle")
    await subscribe(client, "acme")

    for name in ("acme", acme["id"]):
        answer = await client.get(f"{API}/customers/{name}/entitlement-access")
        assert (await answer.json())["data"] == [
            {"type": "static", "feature_key": "seats", "has_access": True, "config": '{"n": 3}'},
            {"type": "boolean", "feature_key": "sso", "has_access": True},
            {"type": "metered", "feature_key": "tokens", "has_access": True},
        ]
    assert await access(client, "idle") == []
    assert (await client.get(f"{API}/customers/nobody/entitlement-access")).status == 404


async def test_a_hard_limit_is_held_a_moment_after_it_is_reached(client: Client) -> None:
    await sell(client, {"tokens": HARD})
    await customer(client, "acme", "acme", "acme-batch")
    await subscribe(client, "acme")
    assert await access(client) == [("tokens", True)]

    await send(client, event("acme", 60), event("acme-batch", 60), event("nobody", 9))

    await becomes(lambda: access(client), [("tokens", False)])
    [found] = (await asked(client, "acme"))["data"]
    reason = found["features"]["tokens"]["reason"]
    assert (reason["code"], reason["attributes"]["usage"]) == ("usage_limit_reached", "120")
    left = await value(client)
    assert (left["hasAccess"], left["usage"], left["balance"], left["overage"], left["limit"]) == (
        False, 120, 0, 20, 100,
    )  # fmt: skip


async def test_a_query_is_answered_for_many_customers_by_key_id_and_subject(
    client: Client,
) -> None:
    await sell(client, {"tokens": HARD})
    acme = await customer(client, "acme", "robot")
    await customer(client, "idle")
    await subscribe(client, "acme")

    found = await asked(
        client, "robot", "idle", acme["id"], "nobody", features=["tokens", "nothing"]
    )

    by_key = {one["customer"]["key"]: one for one in found["data"]}
    assert by_key["acme"]["matched"] == ["robot", acme["id"]]
    assert by_key["acme"]["customer"] == acme
    codes = {
        key: {name: one.get("reason", {}).get("code") for name, one in result["features"].items()}
        for key, result in by_key.items()
    }
    assert codes == {
        "acme": {"tokens": None, "nothing": "feature_not_found"},
        "idle": {"tokens": "feature_unavailable", "nothing": "feature_not_found"},
    }
    [error] = found["errors"]
    assert (error["code"], error["customer"]) == ("customer_not_found", "nobody")
    assert found["meta"]["page"] == {
        "size": 100,
        "next": None,
        "previous": None,
        "first": found["data"][0]["customer"]["id"],
        "last": found["data"][1]["customer"]["id"],
    }


async def test_a_query_goes_on_by_cursor(client: Client) -> None:
    for key in ("a", "b", "c"):
        await customer(client, key)
    body = {"customer": {"keys": ["c", "b", "a"]}}
    seen, after = [], None
    for _ in range(2):
        query = {"page[size]": "2"} | ({} if after is None else {"page[after]": after})
        page = await (await client.post(QUERY, json=body, params=query)).json()
        seen += [one["customer"]["key"] for one in page["data"]]
        after = page["meta"]["page"]["next"]

    assert (seen, after) == (["a", "b", "c"], None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({}, "customer", id="nobody"),
        pytest.param({"customer": {"keys": []}}, "customer.keys", id="no keys"),
        pytest.param({"customer": {"keys": ["a"] * 101}}, "customer.keys", id="too many keys"),
        pytest.param(
            {"customer": {"keys": ["a"]}, "include_credits": 1}, "include_credits", id="credits"
        ),
    ],
)
async def test_a_wrong_query_is_refused_with_the_field(
    client: Client, body: dict[str, Any], field: str
) -> None:
    answer = await client.post(QUERY, json=body)

    assert answer.status == 400
    assert [one["field"] for one in (await answer.json())["invalid_parameters"]] == [field]


async def test_a_reset_counts_anew_and_may_keep_the_overage(client: Client) -> None:
    await sell(client, {"tokens": HARD, "sso": {"type": "boolean"}})
    await customer(client, "acme")
    await subscribe(client, "acme")
    await send(client, event("acme", 130))
    await becomes(lambda: access(client), [("sso", True), ("tokens", False)])
    first = await value(client)

    answer = await client.post(VALUE.format("acme") + "/reset", json={"preserveOverage": True})

    assert answer.status == 204, await answer.text()
    left = await value(client)
    assert (left["hasAccess"], left["usage"], left["balance"]) == (True, 30, 70)
    assert left["usagePeriod"]["from"] == left["countedFrom"] > first["countedFrom"]
    for feature, body, status in (
        ("tokens", {"effectiveAt": "2020-01-01T00:00:00Z"}, 400),
        ("sso", {}, 400),
        ("nothing", {}, 404),
    ):
        path = f"/api/v2/customers/acme/entitlements/{feature}/reset"
        assert (await client.post(path, json=body)).status == status


async def test_counts_that_are_too_old_grant_no_hard_limit(
    settings: Settings, client_of: ClientOf, server: TestServer
) -> None:
    client = await client_of(Scope.ADMIN)
    await sell(client, {"tokens": HARD})
    await sell(client, {"more": {**HARD, "is_soft_limit": True}}, plan="soft")
    for key, plan in (("acme", "starter"), ("soft", "soft")):
        await customer(client, key)
        await subscribe(client, key, plan)
    counters = server.app[ENTITLEMENTS]
    now = datetime.now(UTC)
    assert counters.counted_at is not None
    age = settings.entitlements_max_age_seconds + 1
    async with counters._one_at_a_time:  # nobody counts meanwhile, as when the store is away
        counters.counted_at = now - timedelta(seconds=age)

        answer = await client.get(f"{API}/customers/acme/entitlement-access")
        granted = await client.get(f"{API}/customers/soft/entitlement-access")
        found = await asked(client, "acme", "soft")

    assert (answer.status, granted.status) == (503, 200)
    codes = {
        one["customer"]["key"]: [f.get("reason", {}).get("code") for f in one["features"].values()]
        for one in found["data"]
    }
    assert codes == {"acme": ["unknown"], "soft": [None]}


async def test_a_restart_counts_the_same(settings: Settings) -> None:
    first = TestServer(app.build(settings))
    async with first:
        _, secret = await first.app[KEYS].create("default", "test", [Scope.ADMIN])
        headers = {"Authorization": f"Bearer {secret}"}
        client: Client = TestClient(first, headers=headers)
        await sell(client, {"tokens": HARD})
        await customer(client, "acme")
        await subscribe(client, "acme")
        await send(client, event("acme", 30))
        await becomes(lambda: usage(client), 30)
        await client.session.close()
    second = TestServer(app.build(settings))
    async with second:
        restarted: Client = TestClient(second, headers=headers)
        found = await usage(restarted)
        await restarted.session.close()

    assert found == 30


async def usage(client: Client) -> Any:
    return (await value(client))["usage"]


async def test_who_pays_by_credit_alone_may_use_what_has_a_price_while_credit_is_left(
    client: Client,
) -> None:
    await sell(client, {"tokens": HARD, "seats": None, "sso": {"type": "boolean"}})
    acme = await customer(client, "acme")
    await subscribe(client, "acme", settlement_mode="credit_only")

    async def reason(*, credits: bool = True) -> Any:
        body = {"customer": {"keys": ["acme"]}, "include_credits": credits}
        answer = await (await client.post(QUERY, json=body)).json()
        found = answer["data"][0]["features"]["tokens"]
        return found.get("reason", {}).get("code")

    assert await reason(credits=False) is None
    await becomes(reason, "no_credit_available")
    grants = f"{API}/customers/{acme['id']}/credits/grants"
    gift = {"name": "Gift", "funding_method": "none", "currency": "USD", "amount": "0.01"}
    made = await (await client.post(grants, json=gift)).json()
    assert await reason() is None
    await client.post(f"{grants}/{made['id']}/void", json={})
    assert await reason() == "no_credit_available"
