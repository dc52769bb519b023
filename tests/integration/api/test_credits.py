"""`/customers/{id}/credits`: grants, balances, the ledger, and what invoices show of them."""

from datetime import timedelta
from typing import Any

import pytest

from tests.integration.api.conftest import Client, Clock
from tests.integration.api.invoicing import only, read
from tests.rigs.shop import COLLECTED, DECEMBER, NOVEMBER, Shop

API = "/api/v3/openmeter"
CREDITS = f"{API}/customers/acme/credits"


async def sent(client: Client, path: str, body: object) -> tuple[int, dict[str, Any]]:
    answer = await client.post(f"{CREDITS}/{path}", json=body)
    return answer.status, await answer.json()


def asked(amount: str = "10.00", **rest: Any) -> dict[str, Any]:
    """A gift of so much."""
    return {
        "name": "Welcome", "funding_method": "none", "currency": "USD", "amount": amount, **rest
    }  # fmt: skip


async def ledger(client: Client, **filters: str) -> list[tuple[str, str, str, str]]:
    query = "&".join(f"filter[{name}]={value}" for name, value in filters.items())
    page = await read(client, f"{CREDITS}/transactions?{query}")
    return [
        (x["type"], x["amount"], x["available_balance"]["before"], x["available_balance"]["after"])
        for x in page["data"]
    ]


async def test_a_grant_is_made_read_listed_used_and_voided(
    client: Client, shop: Shop, clock: Clock
) -> None:
    clock.now = NOVEMBER + timedelta(days=2)
    terms = {"priority": 3, "expires_after": "P3M", "key": "k 1", "labels": {"tier": "gold"}}
    status, made = await sent(client, "grants", asked("0.02", **terms))
    assert status == 201
    assert made == {
        "id": made["id"], "name": "Welcome", "labels": {"tier": "gold"}, "funding_method": "none",
        "currency": "USD", "amount": "0.02", "priority": 3, "key": "k 1", "status": "active",
        "created_at": "2026-11-03T00:00:00Z", "updated_at": "2026-11-03T00:00:00Z",
        "effective_at": "2026-11-03T00:00:00Z", "expires_at": "2027-02-03T00:00:00Z",
    }  # fmt: skip
    assert (await sent(client, "grants", asked(key="k 1")))[0] == 409
    assert await read(client, f"{CREDITS}/grants/{made['id']}") == made
    before = (await read(client, f"{CREDITS}/balance"))["balances"]
    assert before == [{"currency": "USD", "live": "0", "settled": "0.02", "pending": "0"}]
    clock.now = DECEMBER + COLLECTED
    await shop.bill(clock.now)
    invoice = await only(client)
    [line] = invoice["lines"]
    assert line["credits_applied"] == [{"amount": "0.02", "description": "Welcome"}]
    assert (line["totals"]["amount"], line["totals"]["credits_total"]) == ("0.03", "0.02")
    assert (invoice["totals"]["credits_total"], invoice["totals"]["total"]) == ("0.02", "0.01")
    after = await read(client, f"{CREDITS}/balance?filter[currency]=USD&filter[feature_key]=tokens")
    assert after["balances"] == [{"currency": "USD", "live": "0", "settled": "0", "pending": "0"}]
    assert await ledger(client) == [
        ("consumed", "-0.02", "0.02", "0"),
        ("funded", "0.02", "0", "0.02"),
    ]
    assert await ledger(client, type="funded", feature_key="other") == [
        ("funded", "0.02", "0", "0.02")
    ]
    assert (await sent(client, f"grants/{made['id']}/void", {}))[1]["status"] == "voided"
    assert (await sent(client, f"grants/{made['id']}/void", {}))[0] == 409
    page = await read(client, f"{CREDITS}/grants?filter[status]=voided&filter[key][contains]=k")
    assert ([x["status"] for x in page["data"]], page["meta"]["page"]["total"]) == (["voided"], 1)
    assert (await read(client, f"{CREDITS}/grants?filter[status]=active"))["data"] == []
    for accept, shown in (
        ("text/html", "Credit pays $0.02: Welcome."),
        ("application/pdf", "%PDF"),
    ):
        path = f"{API}/billing/invoices/{invoice['id']}"
        answer = await client.get(path, headers={"Accept": accept})
        assert shown in (await answer.read()).decode("latin-1")


async def test_an_external_grant_says_how_far_its_payment_is(client: Client, shop: Shop) -> None:
    purchase = {"currency": "EUR", "per_unit_cost_basis": "0.9"}
    body = asked(funding_method="external", purchase=purchase)
    _, made = await sent(client, "grants", body)
    settlement = f"grants/{made['id']}/settlement/external"

    assert made["status"] == "active"
    assert made["purchase"] == {
        **purchase, "amount": "9", "availability_policy": "on_creation",
        "settlement_status": "pending",
    }  # fmt: skip
    _, settled = await sent(client, settlement, {"status": "settled"})
    assert settled["purchase"]["settlement_status"] == "settled"
    assert (await sent(client, settlement, {"status": "pending"}))[0] == 409
    _, gift = await sent(client, "grants", asked())
    other = f"grants/{gift['id']}/settlement/external"
    assert (await sent(client, other, {"status": "settled"}))[0] == 409


async def test_an_adjustment_gives_or_takes_and_the_ledger_goes_by_pages(
    client: Client, shop: Shop
) -> None:
    await sent(client, "grants", asked("10.00"))
    for amount, status in (("5", 201), ("-12.5", 201), ("-2.51", 409), ("0", 400), ("0.001", 400)):
        body = {"name": "Goodwill", "currency": "USD", "amount": amount}
        assert (await sent(client, "adjustments", body))[0] == status

    assert await ledger(client) == [
        ("consumed", "-12.5", "15", "2.5"),
        ("funded", "5", "10", "15"),
        ("funded", "10", "0", "10"),
    ]
    assert len((await read(client, f"{CREDITS}/grants"))["data"]) == 1
    seen, after = [], ""
    while True:
        page = await read(client, f"{CREDITS}/transactions?page[size]=1{after}")
        seen += [one["amount"] for one in page["data"]]
        if page["meta"]["page"]["next"] is None:
            break
        after = f"&page[after]={page['meta']['page']['next']}"
    assert seen == ["-12.5", "5", "10"]


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        pytest.param(asked("0"), "amount", "min", id="nothing"),
        pytest.param(asked("1.001"), "amount", "invalid", id="less than a cent"),
        pytest.param(asked("1" * 20), "amount", "max", id="more than anyone has"),
        pytest.param(asked(currency="ZZZ"), "currency", "invalid", id="no currency"),
        pytest.param(asked(funding_method="invoice"), "funding_method", "enum", id="no invoice"),
        pytest.param(asked(priority=0), "priority", "min", id="no such priority"),
        pytest.param(
            asked(filters={"features": ["tokens", "nope"]}), "filters.features[1]",
            "missing_reference", id="no such feature",
        ),
        pytest.param(asked(purchase={"currency": "USD"}), "body", "invalid", id="a gift is not sold"),
        pytest.param(
            asked(effective_at="2020-01-01T00:00:00Z", expires_after="P1D"), "expires_after",
            "invalid", id="over before it begins",
        ),
    ],
)  # fmt: skip
async def test_what_cannot_be_granted_is_refused_with_the_field_and_the_rule(
    client: Client, shop: Shop, body: dict[str, Any], field: str, rule: str
) -> None:
    status, answer = await sent(client, "grants", body)

    [wrong] = answer["invalid_parameters"]
    assert (status, wrong["field"], wrong["rule"]) == (400, field, rule)


async def test_parameters_that_mean_nothing_are_refused(client: Client, shop: Shop) -> None:
    for path in (
        "balance?timestamp=2100-01-01T00:00:00Z",
        "balance?timestamp=today",
        "balance?filter[feature_key][contains]=x",
        "transactions?page[after]=x",
        "transactions?filter[type]=spent",
        "transactions?sort=booked_at asc",
        "grants?filter[status]=gone",
    ):
        assert (await client.get(f"{CREDITS}/{path}")).status == 400, path
    for path in ("grants/01ARZ3NDEKTSV4RRFFQ69G5FAV",):
        assert (await client.get(f"{CREDITS}/{path}")).status == 404


async def test_a_top_up_needs_stripe_and_amounts_that_go_together(
    client: Client, shop: Shop
) -> None:
    path = "/api/v1/customers/acme/credits/top-ups"
    body = {"threshold": "5", "amount": "20", "most_per_month": "100"}

    assert (await client.put(f"{path}/USD", json=body)).status == 409
    assert (await client.get(f"{path}/USD")).status == 404
    assert (await client.delete(f"{path}/USD")).status == 404
    assert (await client.put(f"{path}/USD", json={**body, "amount": 20})).status == 400
