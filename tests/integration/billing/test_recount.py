"""Each invoice, computed again from the events as they were at its watermark, is the same."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D

from tallyman.billing.recount import recounted
from tallyman.domain.price import FlatPrice, GraduatedPrice, PriceTier
from tallyman.store.customers import CustomerChange
from tallyman.store.meters import MeterChange

from tests.rigs.shop import COLLECTED, DECEMBER, JANUARY, NOVEMBER, Shop

TIERS = GraduatedPrice((PriceTier(D(1_000), D(0)), PriceTier(None, D("0.0000001"), D("0.5"))))


async def test_an_invoice_computed_again_at_its_watermark_is_the_same_to_the_digit(
    shop: Shop,
) -> None:
    await shop.plan(
        await shop.card(price=TIERS),
        await shop.card("requests", only={"type": "request"}),
        await shop.card("fee", FlatPrice(D("9.99"))),
    )
    await shop.customer("acme", "acme", "acme-batch")
    await shop.subscribe()
    await shop.use("1234567.000000000000000001", NOVEMBER, usage_source="estimated")
    await shop.use(33_333, NOVEMBER, "acme-batch", type="response", model="claude")
    await shop.bill(DECEMBER + COLLECTED)
    await shop.use(777, NOVEMBER + timedelta(days=3), "acme-batch")
    await shop.bill(JANUARY + COLLECTED)
    await shop.use(10**9, NOVEMBER)
    await shop.use(10**9, DECEMBER)
    change = CustomerChange("acme", ("acme",))
    await shop.books.customers.replace(shop.namespace, "acme", change, NOVEMBER)

    invoices = await shop.invoices()
    again = [await recounted(shop.books, invoice) for invoice in invoices]

    assert [invoice.lines for invoice in invoices] == again
    assert sum(line.corrects is not None for lines in again for line in lines) == 2


async def test_a_meter_that_is_changed_later_does_not_change_what_was_counted(shop: Shop) -> None:
    from datetime import UTC, datetime

    from tallyman.domain.meter import Aggregation, Meter

    now = datetime.now(UTC)
    dimensions = {"team": "$.team"}
    meter = Meter(
        "", shop.namespace, "teams", "Teams", Aggregation.SUM, "llm.tokens", "$.tokens",
        dimensions, now, now,
    )  # fmt: skip
    made = await shop.books.meters.create(meter)
    await shop.plan(await shop.card(meter="teams", only={"team": "red"}))
    await shop.customer()
    await shop.subscribe()
    await shop.use(1_000_000, NOVEMBER, team="red", other="blue")
    await shop.bill(DECEMBER + COLLECTED)
    await shop.books.meters.change(
        shop.namespace, made.id, MeterChange(dimensions={"team": "$.other"})
    )

    [invoice] = await shop.invoices()

    assert invoice.totals.total == D(2)
    assert await recounted(shop.books, invoice) == invoice.lines
    assert replace(invoice, lines=()) != invoice
