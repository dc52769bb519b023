"""What a month would have brought under another catalogue, against what it brought."""

from datetime import timedelta

import pytest
from tallyman.api.catalogue.backtest import BacktestRow, backtest
from tallyman.api.catalogue.run import compare, put_in_force
from tallyman.api.catalogue.shelf import Shelf
from tallyman.errors import InvalidCatalogue, InvalidInput

from tests.integration.billing.test_catalogue_next_invoices import FILE
from tests.rigs.shop import DECEMBER, NOVEMBER, Shop

DAY = timedelta(days=1)
SONNET = {"provider": "anthropic", "model": "claude-sonnet-4-5"}  # 3.00 in, 15.00 out


async def november(shop: Shop) -> Shelf:
    """The file in force since November, with usage, billed in December."""
    await put_in_force(Shelf(shop.database, shop.namespace, NOVEMBER), FILE, "catalog.yaml")
    await shop.use(2_000_000, NOVEMBER + DAY, "acme", **SONNET)
    await shop.use(5_000_000, NOVEMBER + DAY, "globex", **SONNET)
    await shop.bill(DECEMBER + DAY)
    await shop.bill(DECEMBER + DAY + timedelta(hours=2))
    return Shelf(shop.database, shop.namespace, DECEMBER + 2 * DAY)


async def tried(shop: Shop, shelf: Shelf, text: str) -> list[BacktestRow]:
    """The rows of November."""
    answer = await backtest(shelf, shop.books, text, "catalog.yaml", "2026-11")
    assert answer.issues == []
    return answer.rows


async def test_the_catalogue_in_force_would_have_brought_what_it_brought(shop: Shop) -> None:
    shelf = await november(shop)

    assert await tried(shop, shelf, FILE) == [
        BacktestRow("acme", "USD", "26.00", "26.00", "0.00"),
        BacktestRow("globex", "USD", "35.00", "35.00", "0.00"),
    ]


async def test_other_prices_are_tried_on_whoever_is_on_the_plan(shop: Shop) -> None:
    shelf = await november(shop)
    tiers = (
        "{type: graduated, tiers: [{up_to_amount: 1000000, unit_price: {type: unit, amount: 0.00}},"
        " {unit_price: {per: 1000000, amount: 5.00}}]}"
    )
    dearer = FILE.replace("{per: 1000000, amount: 3.00}", tiers).replace("amount: 20", "amount: 10")

    rows = await tried(shop, shelf, dearer.replace("{key: starter, version: 1}", "starter"))
    pinned = await tried(shop, shelf, dearer)

    # 10 + 1 million free, then 5.00 a million
    assert rows == [
        BacktestRow("acme", "USD", "26.00", "15.00", "-11.00"),
        BacktestRow("globex", "USD", "35.00", "30.00", "-5.00"),
    ]
    # who stays on version 1 stays on its prices
    assert pinned[1] == BacktestRow("globex", "USD", "35.00", "35.00", "0.00")


async def test_a_customer_that_the_file_moves_is_tried_on_its_new_plan(shop: Shop) -> None:
    shelf = await november(shop)
    euro = FILE.split("plans:\n")[1].split("customers:")[0].replace("key: starter", "key: euro")
    euro = euro.replace("currency: USD", "currency: EUR").replace("3.00", "4.00")
    text = FILE.replace("customers:", f"{euro}customers:").replace(
        "{customer: acme, plan: starter}", "{customer: acme, plan: euro}"
    )

    rows = await tried(shop, shelf, text)

    assert rows[:2] == [
        BacktestRow("acme", "EUR", "0.00", "28.00", "28.00"),
        BacktestRow("acme", "USD", "26.00", "0.00", "-26.00"),
    ]


async def test_nothing_is_kept_of_it(shop: Shop) -> None:
    shelf = await november(shop)
    before = await shop.invoices()

    await tried(shop, shelf, FILE.replace("3.00", "9.00"))

    assert await shop.invoices() == before
    assert {one.action for one in (await compare(shelf, FILE, "c")).changes} == {"unchanged"}


async def test_a_month_before_anyone_was_there_is_empty(shop: Shop) -> None:
    shelf = await november(shop)

    answer = await backtest(shelf, shop.books, FILE, "catalog.yaml", "2026-09")

    assert (answer.rows, answer.issues) == ([], [])


async def test_what_is_no_catalogue_or_no_month_is_refused(shop: Shop) -> None:
    shelf = await november(shop)

    with pytest.raises(InvalidCatalogue, match=r"catalog\.yaml:1"):
        await backtest(shelf, shop.books, "plan: []", "catalog.yaml", "2026-11")
    with pytest.raises(InvalidInput, match="month"):
        await backtest(shelf, shop.books, FILE, "catalog.yaml", "2026-13")


async def test_a_file_whose_plan_would_make_a_loss_says_so_before_it_is_in_force(
    shop: Shop,
) -> None:
    shelf = await november(shop)
    now = Shelf(shop.database, shop.namespace, NOVEMBER + 10 * DAY)

    seen = await compare(now, FILE.replace("3.00", "2.90"), "catalog.yaml", shop.books)
    same = await compare(shelf, FILE, "catalog.yaml", shop.books)

    assert seen.losses == [
        "starter version 2, tokens: claude-sonnet-4-5 request is sold at 2.9 and costs 3 USD per "
        "million; it lost 0.20 USD in 31 days with acme"
    ]
    assert same.losses == []


async def test_a_comparison_does_not_lose_the_prices_that_it_asked_for_first(shop: Shop) -> None:
    now = Shelf(shop.database, shop.namespace, NOVEMBER)

    await compare(now, FILE, "catalog.yaml", shop.books)

    book = await shop.books.prices.book(shop.namespace, NOVEMBER)
    assert book.price_at("openai", "gpt-4o", NOVEMBER) is not None
