"""Each invoice, computed again from the events as they were at its watermark, is the same."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D

from tallyman.billing.advance import trigger
from tallyman.billing.recount import recounted
from tallyman.domain.invoice_state import InvoiceState, Trigger
from tallyman.domain.price import FlatPrice, GraduatedPrice, PriceTier
from tallyman.store.customers import CustomerChange
from tallyman.store.meters import MeterChange

from tests.rigs.shop import COLLECTED, DECEMBER, JANUARY, NOVEMBER, PER_TOKEN, Shop

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


async def test_what_becomes_of_a_subscription_does_not_change_what_was_charged(shop: Shop) -> None:
    await shop.plan(await shop.card("fee", FlatPrice(D(30))), await shop.card(price=TIERS))
    customer = await shop.customer()
    begun = await shop.subscribe(at=NOVEMBER + timedelta(days=10))
    await shop.use(1_500_000, NOVEMBER + timedelta(days=11))
    await shop.bill(NOVEMBER + timedelta(days=10, hours=1))
    end = NOVEMBER + timedelta(days=15)
    await shop.books.subscriptions.cancel(shop.namespace, begun.id, end, end)
    await shop.bill(end + COLLECTED)
    await shop.use(1_000_000, NOVEMBER + timedelta(days=12))
    await shop.bill(DECEMBER)
    await shop.bill(JANUARY)
    first, second, third = await shop.invoices()
    await trigger(shop.books, shop.namespace, first.id, Trigger.VOID, JANUARY, rebill=True)
    change = CustomerChange("acme", ())
    await shop.books.customers.replace(shop.namespace, customer.id, change, JANUARY)

    again = [await recounted(shop.books, one) for one in (first, second, third)]

    assert again == [first.lines, second.lines, third.lines]
    # A month from 11 November is 30 days, of which 5 were served.
    assert [line.totals.total for line in first.lines] == [D("30.00")]
    assert [line.totals.total for line in second.lines] == [D("0.65"), D("-25.00")]
    assert [line.totals.total for line in third.lines] == [D("0.10")]


async def test_what_could_not_be_rated_is_the_same_too(shop: Shop) -> None:
    card = await shop.card(price=PER_TOKEN)
    await shop.plan(card)
    await shop.customer()
    await shop.subscribe()
    await shop.use(5, NOVEMBER)
    await shop.set_meter(card, None)
    await shop.bill(DECEMBER + COLLECTED)

    [invoice] = await shop.invoices()

    assert (invoice.state, invoice.totals.total) == (InvoiceState.DRAFT_INVALID, D(0))
    assert await recounted(shop.books, invoice) == invoice.lines


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
