"""The margin over the API, and its page."""

import re
from datetime import timedelta
from decimal import Decimal

from tallyman.domain.access import Scope
from tallyman.domain.price import UnitPrice

from tests.integration.api.conftest import Client, ClientOf, Clock
from tests.rigs.shop import NOVEMBER, Shop

MARGIN = "/api/v1/billing/margin"
MIDDLE = NOVEMBER + timedelta(days=14)


async def sold(shop: Shop, clock: Clock) -> None:
    """A customer whose name is no HTML, and a card that makes a loss with it."""
    clock.now = MIDDLE + timedelta(days=1)
    tokens = await shop.card("out", UnitPrice(Decimal("0.000004")))
    await shop.plan(tokens, key="cheap")
    await shop.customer("<b>hooli</b>", "hooli")
    await shop.subscribe("<b>hooli</b>", "cheap")
    await shop.use(1_000_000, MIDDLE, "hooli", provider="openai", model="gpt-4o", type="response")
    await shop.use(5_000, MIDDLE, "hooli", provider="openai", model="gpt-99", type="response")


async def test_the_margin_says_what_is_earned_and_what_it_costs(
    client: Client, shop: Shop, clock: Clock
) -> None:
    await sold(shop, clock)

    answer = await (await client.get(f"{MARGIN}?month=2026-11")).json()

    assert (answer["from"], answer["to"], answer["by"]) == ("2026-11", "2026-11", "customer")
    row, other = answer["rows"]
    assert (other["key"], other["revenue"], other["unknown_usage"]) == ("acme", "0.03", "15000")
    assert row == {
        "key": "<b>hooli</b>",
        "name": "<b>hooli</b>",
        "currency": "USD",
        "invoiced": "0",
        "unbilled": "4.02",
        "revenue": "4.02",
        "cost": "10",
        "margin": "-5.98",
        "unknown_usage": "5000",
    }
    loss = next(one for one in answer["losses"] if one["plan"] == "cheap")
    assert (loss["price_per_million"], loss["cost_per_million"]) == ("4", "10")
    assert loss["customers"] == [{"key": "<b>hooli</b>", "usage": "1000000", "loss": "6"}]
    losses = await (await client.get("/api/v1/billing/losses")).json()
    assert losses == {"losses": answer["losses"]}


async def test_the_page_shows_the_same_in_a_table_a_picture_and_words(
    client: Client, shop: Shop, clock: Clock
) -> None:
    await sold(shop, clock)

    answer = await client.get("/margin?by=customer")
    page = await answer.text()

    assert answer.status == 200
    assert "<script" not in page
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]*", "", page)
    assert "<b>hooli" not in page
    assert 'src="data:image/svg+xml;base64,' in page
    alternative = re.findall(r'alt="([^"]*)"', page)
    assert alternative == [
        "Revenue and cost in USD. &lt;b&gt;hooli&lt;/b&gt;: revenue 4.02 USD, cost over "
        "10.00 USD; acme: revenue 0.03 USD, cost unknown."
    ]
    for text in (
        "$4.02",
        "over $10.00",
        "under -$5.98",
        "loss",
        "unknown",
        "openai gpt-4o response",
        "5,000",
    ):
        assert text in page
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_what_cannot_be_asked_is_named(client: Client) -> None:
    for query, field in (
        ("by=planet", "by"),
        ("month=2026-13", "month"),
        ("months=0", "months"),
        ("months=99", "months"),
        ("year=2026", "year"),
        ("by=model&by=model", "by"),
    ):
        answer = await client.get(f"{MARGIN}?{query}")

        assert answer.status == 400, query
        assert [one["field"] for one in (await answer.json())["invalid_parameters"]] == [field]


async def test_who_may_only_send_events_sees_no_margin(client_of: ClientOf) -> None:
    sender = await client_of(Scope.INGEST)

    assert (await sender.get(MARGIN)).status == 403
    assert (await sender.get("/margin")).status == 403


async def test_a_namespace_with_nothing_in_it_has_an_empty_page(client: Client) -> None:
    page = await (await client.get("/margin")).text()

    assert "Nothing was earned or used." in page
    assert "<img" not in page
