"""What was billed before and is otherwise now comes on a later invoice, however it came about."""

from datetime import timedelta
from decimal import Decimal as D

import pytest
from tallyman.billing.advance import trigger
from tallyman.billing.preview import preview
from tallyman.domain.invoice_state import InvoiceState, Trigger
from tallyman.domain.price import FlatPrice, UnitPrice
from tallyman.domain.subscription_change import EditTiming
from tallyman.store import usage_quantities
from tallyman.store.customers import CustomerChange
from tallyman.store.new_subscription import NewSubscription, PlanReference

from tests.rigs.shop import COLLECTED, DECEMBER, JANUARY, NOVEMBER, Shop

FEBRUARY = JANUARY + timedelta(days=31)
MARCH = FEBRUARY + timedelta(days=28)


@pytest.fixture(autouse=True)
def _no_look_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are late to the millisecond: what a test stores is not within the tolerance of clocks."""
    monkeypatch.setattr(usage_quantities, "_LOOK_BACK", timedelta())


async def _as_time_goes_on(shop: Shop) -> None:
    """Until what is stored from now on is later than what is stored, and behind no watermark."""
    quantities = shop.books.quantities
    before = await quantities.watermark() + timedelta(milliseconds=3)
    while await quantities.watermark() <= before:
        pass


async def _approve_all(shop: Shop) -> None:
    for one in await shop.invoices():
        if one.state is InvoiceState.DRAFT_MANUAL_APPROVAL_NEEDED:
            now = one.updated_at
            await trigger(shop.books, shop.namespace, one.id, Trigger.APPROVE, now)


async def test_usage_from_long_before_the_mapping_is_billed_once_it_is_made(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    acme = await shop.customer()
    await shop.subscribe()
    await shop.use(3, NOVEMBER)
    await shop.use(5, NOVEMBER, subject="batch")
    await _as_time_goes_on(shop)
    await shop.bill(DECEMBER + COLLECTED)
    await _as_time_goes_on(shop)
    change = CustomerChange("acme", ("acme", "batch"))
    await shop.books.customers.replace(shop.namespace, acme.id, change, DECEMBER)

    await shop.bill(JANUARY + COLLECTED)
    await shop.bill(FEBRUARY + COLLECTED)

    assert [one.totals.total for one in await shop.invoices()] == [D(3), D(5), D(0)]


async def test_what_comes_while_a_draft_waits_for_approval_is_corrected_once_it_is_final(
    shop: Shop,
) -> None:
    await shop.change_workflow(auto_advance=False)
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    await shop.subscribe()
    await shop.use(3, NOVEMBER)
    await _as_time_goes_on(shop)
    await shop.bill(DECEMBER + COLLECTED)
    await _as_time_goes_on(shop)
    await shop.use(4, NOVEMBER)
    await _as_time_goes_on(shop)
    await shop.bill(JANUARY + COLLECTED)  # November's draft still waits, and cannot be corrected
    await _approve_all(shop)
    await _as_time_goes_on(shop)

    await shop.bill(FEBRUARY + COLLECTED)
    await _approve_all(shop)
    await shop.bill(MARCH + COLLECTED)

    assert [one.totals.total for one in await shop.invoices()] == [D(3), D(0), D(4), D(0)]


async def test_a_fee_cut_by_an_end_that_is_taken_back_is_made_whole(shop: Shop) -> None:
    await shop.plan(await shop.card("fee", FlatPrice(D(31))))
    await shop.customer()
    begun = await shop.subscribe()
    await shop.bill(NOVEMBER)
    books, namespace = shop.books.subscriptions, shop.namespace
    await books.cancel(namespace, begun.id, DECEMBER + timedelta(days=10), NOVEMBER)
    await shop.bill(DECEMBER)
    await books.unschedule_cancelation(namespace, begun.id, DECEMBER + timedelta(days=5))

    await shop.bill(JANUARY)
    await shop.bill(FEBRUARY)

    assert [one.totals.total for one in await shop.invoices()] == [D(31), D(10), D(31 + 21), D(31)]


async def test_a_fee_cut_by_an_end_that_is_put_off_is_billed_up_to_the_new_end(shop: Shop) -> None:
    await shop.plan(await shop.card("fee", FlatPrice(D(31))))
    await shop.customer()
    begun = await shop.subscribe(at=DECEMBER)
    books, namespace = shop.books.subscriptions, shop.namespace
    await books.cancel(namespace, begun.id, DECEMBER + timedelta(days=10), DECEMBER)
    await shop.bill(DECEMBER)
    await books.unschedule_cancelation(namespace, begun.id, DECEMBER + timedelta(days=5))
    later = DECEMBER + timedelta(days=20)
    await books.cancel(namespace, begun.id, EditTiming.IMMEDIATE, later)

    await shop.bill(later)
    await shop.bill(JANUARY)

    assert [one.totals.total for one in await shop.invoices()] == [D(10), D(10)]


async def test_who_goes_on_in_another_currency_gets_back_what_was_paid_in_the_first(
    shop: Shop,
) -> None:
    await shop.plan(await shop.card("fee", FlatPrice(D(30))))
    euro = await shop.card("euro_fee", FlatPrice(D(60)))
    await shop.plan(euro, key="euro", currency="EUR")
    await shop.customer()
    begun = await shop.subscribe()
    await shop.bill(NOVEMBER)
    new = NewSubscription("acme", PlanReference(key="euro"))
    middle = NOVEMBER + timedelta(days=15)
    books = shop.books.subscriptions
    await books.change(shop.namespace, begun.id, new, EditTiming.IMMEDIATE, middle)

    await shop.bill(middle)
    await shop.bill(DECEMBER)

    assert sorted((one.currency, one.totals.total) for one in await shop.invoices()) == [
        ("EUR", D(30)),
        ("EUR", D(60)),
        ("USD", D(-15)),
        ("USD", D(30)),
    ]


async def test_a_preview_shows_corrections_where_nothing_else_is_owed(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    acme = await shop.customer()
    begun = await shop.subscribe()
    await shop.use(3, NOVEMBER)
    end = NOVEMBER + timedelta(days=15)
    await shop.books.subscriptions.cancel(shop.namespace, begun.id, EditTiming.IMMEDIATE, end)
    await shop.bill(end + COLLECTED)
    await shop.use(4, NOVEMBER)

    shown = await preview(shop.books, shop.namespace, acme.id, DECEMBER)
    await shop.bill(DECEMBER)

    assert [one.totals.total for one in shown] == [D(4)]
    assert [one.totals.total for one in await shop.invoices()] == [D(3), D(4)]
