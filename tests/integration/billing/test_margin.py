"""The margin: revenue less cost, worked out by hand; and the cards that make a loss."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from tallyman.billing.credit import Order, let_off, void_note
from tallyman.billing.losses import losses
from tallyman.billing.margin import Asked, margin
from tallyman.billing.margin_report import loss_answers, loss_line, margin_answer, months_until
from tallyman.domain.credit_note import Credit
from tallyman.domain.margin import MarginBy, MarginRow
from tallyman.domain.price import FlatPrice, GraduatedPrice, PriceTier, UnitPrice

from tests.rigs.shop import DECEMBER, NOVEMBER, Shop

MIDDLE = NOVEMBER + timedelta(days=14)
BILLED = DECEMBER + timedelta(days=1)
GPT = {"provider": "openai", "model": "gpt-4o"}  # 2.50 in, 10.00 out per million
HAIKU = {"provider": "anthropic", "model": "claude-haiku-4-5"}  # 1.00 in, 5.00 out
LLAMA = {"provider": "llama2", "model": "llama2"}  # nobody knows


async def sold(shop: Shop) -> dict[str, str]:
    """Two customers on a plan in dollars, one on a plan in euros; the ids by key."""
    base = await shop.card("base", FlatPrice(D(20)))
    tokens = await shop.card("tokens", UnitPrice(D("0.000004")))
    await shop.plan(base, tokens)
    await shop.plan(tokens, key="euro", currency="EUR")
    ids = {}
    for key, plan in (("acme", "starter"), ("globex", "starter"), ("initech", "euro")):
        ids[key] = (await shop.customer(key)).id
        await shop.subscribe(key, plan)
    await shop.use(1_000_000, MIDDLE, "acme", **GPT)
    await shop.use(500_000, MIDDLE, "acme", **HAIKU)
    await shop.use(300_000, MIDDLE, "globex", **GPT | {"type": "response"})
    await shop.use(7_000, MIDDLE, "globex", **LLAMA)
    await shop.use(2_000_000, MIDDLE, "initech", **HAIKU)
    await shop.use(100_000, MIDDLE, "stranger", **GPT)
    await shop.use(0, MIDDLE, "acme", **GPT, waived_tokens=40_000)
    return ids


async def rows(shop: Shop, by: MarginBy, now: datetime = BILLED, **rest: Any) -> list[MarginRow]:
    """The margin of November."""
    months = months_until(rest.get("last", NOVEMBER), rest.get("months", 1))
    return await margin(shop.books, Asked(shop.namespace, months, by, now))


def row(key: str, currency: str, invoiced: str, unbilled: str, cost: str, no: int = 0) -> MarginRow:
    """A row, in short."""
    return MarginRow(key, currency, D(invoiced), D(unbilled), D(cost), D(no))


async def test_a_customers_margin_is_what_it_is_billed_less_what_the_providers_take(
    shop: Shop,
) -> None:
    ids = await sold(shop)
    await shop.bill(BILLED)
    await shop.bill(BILLED + timedelta(hours=2))

    found = {(one.key, one.currency): one for one in await rows(shop, MarginBy.CUSTOMER)}

    assert found == {
        # 20 + 1.5 million at 4; 1 million at 2.50, 0.5 at 1, and what was waived at 2.50
        (ids["acme"], "USD"): row(ids["acme"], "USD", "26", "0", "3.1"),
        (ids["globex"], "USD"): row(ids["globex"], "USD", "21.23", "0", "3", 7_000),
        # nothing is converted
        (ids["initech"], "EUR"): row(ids["initech"], "EUR", "8", "0", "0"),
        (ids["initech"], "USD"): row(ids["initech"], "USD", "0", "0", "2"),
        ("", "USD"): row("", "USD", "0", "0", "0.25"),
    }
    assert found[ids["acme"], "USD"].margin == D("22.9")
    assert found[ids["acme"], "USD"].percent == D("88")  # 22.9 of 26 is 88.07…


async def test_before_the_bill_the_same_is_not_yet_billed(shop: Shop) -> None:
    ids = await sold(shop)

    found = {(one.key, one.currency): one for one in await rows(shop, MarginBy.CUSTOMER, MIDDLE)}

    assert found[ids["acme"], "USD"] == row(ids["acme"], "USD", "0", "26", "3.1")


async def test_what_a_credit_note_takes_back_is_not_earned_until_the_note_is_void(
    shop: Shop,
) -> None:
    ids = await sold(shop)
    await shop.bill(BILLED)
    await shop.bill(BILLED + timedelta(hours=2))
    lines = {
        one.name: (invoice.id, one.id)
        for invoice in await shop.invoices()
        for one in invoice.lines
        if invoice.customer.key == "acme" and one.service_period.from_ == NOVEMBER
    }
    invoice_id, line_id = lines["Tokens"]
    later = BILLED + timedelta(hours=3)
    note = await let_off(
        shop.books, shop.namespace, Order(invoice_id, "an outage", "me"), [Credit(line_id, D("1.5"))],
        later,
    )  # fmt: skip

    less = {one.key: one for one in await rows(shop, MarginBy.CUSTOMER)}
    await void_note(shop.books, shop.namespace, note.id, later)
    again = {one.key: one for one in await rows(shop, MarginBy.CUSTOMER)}

    assert (less[ids["acme"]].invoiced, less[ids["acme"]].cost) == (D("24.5"), D("3.1"))
    assert again[ids["acme"]].invoiced == D(26)


async def test_by_model_a_line_is_shared_out_by_what_was_used(shop: Shop) -> None:
    await sold(shop)

    found = {(one.key, one.currency): one for one in await rows(shop, MarginBy.MODEL, MIDDLE)}

    assert found == {
        ("", "USD"): row("", "USD", "0", "40", "0"),
        ("gpt-4o", "USD"): row("gpt-4o", "USD", "0", "5.2", "5.85"),
        ("claude-haiku-4-5", "USD"): row("claude-haiku-4-5", "USD", "0", "2", "2.5"),
        ("claude-haiku-4-5", "EUR"): row("claude-haiku-4-5", "EUR", "0", "8", "0"),
        ("llama2", "USD"): row("llama2", "USD", "0", "0.03", "0", 7_000),
    }


async def test_by_feature_and_by_month_it_adds_up_to_the_same(shop: Shop) -> None:
    await sold(shop)

    by_feature = {
        (one.key, one.currency): one for one in await rows(shop, MarginBy.FEATURE, MIDDLE)
    }
    by_month = await rows(shop, MarginBy.MONTH, MIDDLE, months=2)

    assert by_feature["tokens", "USD"] == row("tokens", "USD", "0", "7.23", "8.25", 7_000)
    assert by_feature["", "USD"] == row("", "USD", "0", "40", "0")
    assert by_month == [
        row("2026-11", "USD", "0", "47.23", "8.35", 7_000),
        row("2026-11", "EUR", "0", "8", "0"),
    ]


async def test_the_answer_names_customers_and_sums_each_currency(shop: Shop) -> None:
    await sold(shop)
    asked = Asked(shop.namespace, months_until(NOVEMBER, 1), MarginBy.CUSTOMER, MIDDLE)

    answer = await margin_answer(shop.books, asked)

    assert {one.key for one in answer.rows} == {"acme", "globex", "initech", ""}
    assert [(one.currency, one.revenue, one.cost) for one in answer.totals] == [
        ("EUR", "8", "0"),
        ("USD", "47.23", "8.35"),
    ]


async def test_a_cost_of_which_nothing_is_known_is_not_0(shop: Shop) -> None:
    await sold(shop)
    asked = Asked(shop.namespace, months_until(NOVEMBER, 1), MarginBy.MODEL, MIDDLE)

    answer = await margin_answer(shop.books, asked)

    by_model = {one.key: one for one in answer.rows}
    llama = by_model["llama2"]
    assert (llama.cost, llama.margin, llama.unknown_usage) == (None, None, "7000")
    [dollars] = [one for one in answer.totals if one.currency == "USD"]
    assert (dollars.cost, dollars.margin, dollars.margin_percent) == ("8.35", "38.88", None)


async def test_a_card_that_sells_for_less_than_it_costs_is_found_with_its_customers(
    shop: Shop,
) -> None:
    await sold(shop)

    found = await losses(shop.books, shop.namespace, MIDDLE + timedelta(days=1))

    [answer] = loss_answers(found)
    assert (answer.plan, answer.rate_card, answer.model, answer.type) == (
        "starter", "tokens", "gpt-4o", "response",
    )  # fmt: skip
    assert [(x.key, x.usage, x.loss) for x in answer.customers] == [
        ("globex", "300000", "1.8"),
        ("acme", "0", "0"),
    ]
    assert loss_line(answer) == (
        "starter version 1, tokens: gpt-4o response is sold at 4 and costs 10 USD per million; "
        "it lost 1.80 USD in 31 days with globex"
    )


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        pytest.param(UnitPrice(D("0.00001")), [], id="at the price of the provider"),
        pytest.param(UnitPrice(D("0.0000099")), ["0.0000099"], id="a little less"),
        pytest.param(
            GraduatedPrice((PriceTier(D(10), D(0), D(5)), PriceTier(None, D("0.000009")))),
            ["0.000009"],
            id="in the last tier",
        ),
    ],
)
async def test_a_card_for_a_model_that_its_filter_names_is_looked_at_before_anyone_uses_it(
    shop: Shop, price: Any, expected: list[str]
) -> None:
    card = await shop.card("out", price, only={"model": "gpt-4o", "type": "response"})
    await shop.plan(card)

    found = await losses(shop.books, shop.namespace, MIDDLE)

    assert [str(one.price) for one in found] == expected


async def test_months_are_of_the_calendar() -> None:
    months = months_until(datetime(2026, 1, 31, tzinfo=UTC), 3)

    assert [f"{one.from_:%Y-%m-%d}" for one in months] == ["2025-11-01", "2025-12-01", "2026-01-01"]
