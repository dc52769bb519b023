"""What was billed and is owed no more is given back, and what was given back too much is owed again."""

from datetime import timedelta
from decimal import Decimal as D

import pytest
from tallyman.billing.advance import trigger
from tallyman.billing.explain import explain_all
from tallyman.billing.recount import recounted
from tallyman.domain.duration import Duration
from tallyman.domain.invoice import IssueSeverity
from tallyman.domain.invoice_state import InvoiceState, Trigger
from tallyman.domain.plan_phase import PlanPhase
from tallyman.domain.price import Commitments, FlatPrice, UnitPrice
from tallyman.domain.service_period import EndProration
from tallyman.domain.subscription_change import EditTiming
from tallyman.errors import Conflict
from tallyman.metrics import NOT_CORRECTED
from tallyman.store.new_subscription import NewSubscription, PlanReference

from tests.rigs.shop import COLLECTED, DECEMBER, JANUARY, NOVEMBER, Shop

FEBRUARY = JANUARY + timedelta(days=31)
MIDDLE = NOVEMBER + timedelta(days=15)


async def _totals(shop: Shop) -> list[D]:
    return [one.totals.total for one in await shop.invoices()]


async def _is_proved(shop: Shop) -> bool:
    counted = [one for one in await shop.invoices() if one.quantity_snapshotted_at]
    for one in counted:
        _, explained = await explain_all(shop.books, shop.namespace, one.id)
        assert [problem for line in explained for problem in line.problems] == []
    return [one.lines for one in counted] == [await recounted(shop.books, x) for x in counted]


async def test_a_sum_that_late_events_make_negative_gives_back_all_that_was_billed(
    shop: Shop,
) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    await shop.subscribe()
    await shop.use(8, NOVEMBER)
    await shop.bill(DECEMBER + COLLECTED)
    await shop.use(-20, NOVEMBER)

    await shop.bill(JANUARY + COLLECTED)
    await shop.use(15, NOVEMBER)
    await shop.bill(FEBRUARY + COLLECTED)

    assert await _totals(shop) == [D(8), D(-8), D(3)]
    _, second, third = await shop.invoices()
    assert [second.lines[-1].raw_quantity, third.lines[-1].raw_quantity] == [D(-20), D(15)]
    assert await _is_proved(shop)


async def test_the_minimum_is_owed_whatever_late_events_take_away(shop: Shop) -> None:
    least = Commitments(minimum_amount=D(5))
    await shop.plan(await shop.card(price=UnitPrice(D(1)), commitments=least))
    await shop.customer()
    await shop.subscribe()
    await shop.use(8, NOVEMBER)
    await shop.bill(DECEMBER + COLLECTED)
    await shop.use(-20, NOVEMBER)

    await shop.bill(JANUARY + COLLECTED)

    assert await _totals(shop) == [D(8), D(5 - 3)]


async def test_a_negative_sum_is_billed_as_nothing_and_the_invoice_says_so(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    await shop.subscribe()
    await shop.use(-3, NOVEMBER)

    await shop.bill(DECEMBER + COLLECTED)

    [invoice] = await shop.invoices()
    [issue] = invoice.validation_issues
    assert (invoice.state, invoice.totals.total) == (InvoiceState.PAYMENT_PENDING, D(0))
    assert invoice.lines[0].raw_quantity == D(-3)
    assert (issue.code, issue.severity) == ("invoice_line_negative_quantity", IssueSeverity.WARNING)


async def test_what_cannot_be_rated_again_is_said_until_it_can(shop: Shop) -> None:
    card = await shop.card(price=UnitPrice(D(1)))
    await shop.plan(card)
    await shop.customer()
    begun = await shop.subscribe()
    await shop.use(8, NOVEMBER)
    await shop.bill(DECEMBER + COLLECTED)
    await shop.use(5, NOVEMBER)
    await shop.books.subscriptions.cancel(
        shop.namespace, begun.id, EditTiming.IMMEDIATE, DECEMBER + COLLECTED
    )
    meter_id = await shop.set_meter(card, None)
    before = NOT_CORRECTED._value.get()
    december = (await shop.bill(DECEMBER + 2 * COLLECTED)).invoices
    outcome = await shop.bill(DECEMBER + timedelta(days=2))
    counted = NOT_CORRECTED._value.get() - before
    await shop.set_meter(card, meter_id)
    await shop.bill(DECEMBER + timedelta(days=3))

    [short] = december.values()
    assert "invoice_line_not_corrected" in short.issues
    assert "cannot be rated again" in outcome.not_corrected[0]
    assert counted >= 2
    assert sum(await _totals(shop)) == 8 + 5


async def test_how_a_last_period_is_billed_stays_as_it_was_when_the_end_was_set(
    shop: Shop,
) -> None:
    await shop.change_workflow(end_proration=EndProration.BILL_FULL_PERIOD)
    await shop.plan(await shop.card("fee", FlatPrice(D(30))))
    await shop.customer()
    begun = await shop.subscribe()
    await shop.bill(NOVEMBER)
    await shop.books.subscriptions.cancel(shop.namespace, begun.id, EditTiming.IMMEDIATE, MIDDLE)
    await shop.bill(MIDDLE)
    await shop.change_workflow(end_proration=EndProration.BILL_ACTUAL_PERIOD)

    await shop.bill(DECEMBER)

    assert await _totals(shop) == [D(30)]


async def test_periods_that_were_billed_ahead_and_never_begin_are_given_back(shop: Shop) -> None:
    least = Commitments(minimum_amount=D(7))
    await shop.plan(
        await shop.card("fee", FlatPrice(D(30))),
        await shop.card(price=UnitPrice(D(1)), commitments=least),
    )
    await shop.customer()
    begun = await shop.subscribe()
    await shop.use(9, NOVEMBER)
    await shop.use(9, DECEMBER)
    await shop.bill(JANUARY + COLLECTED)  # as with --ahead, in November
    assert sum(await _totals(shop)) == 3 * 30 + 2 * 9
    await shop.books.subscriptions.cancel(shop.namespace, begun.id, EditTiming.IMMEDIATE, MIDDLE)

    await shop.bill(MIDDLE + COLLECTED)
    again = await shop.bill(MIDDLE + 2 * COLLECTED)

    assert sum(await _totals(shop)) == 15 + 9
    assert again.invoices == {}
    back = [line for one in await shop.invoices() for line in one.lines if line.corrects]
    assert await _is_proved(shop)
    assert sorted((x.name, x.service_period.from_, x.totals.total) for x in back) == [
        ("Fee: correction", NOVEMBER, D(-15)),
        ("Fee: correction", DECEMBER, D(-30)),
        ("Fee: correction", JANUARY, D(-30)),
        ("Tokens: correction", DECEMBER, D(-9)),
    ]


@pytest.mark.parametrize("is_first", [True, False])
async def test_what_was_forgiven_is_not_given_back(shop: Shop, is_first: bool) -> None:
    await shop.plan(await shop.card("fee", FlatPrice(D(30))))
    await shop.customer()
    begun = await shop.subscribe()
    await shop.bill(NOVEMBER)
    [paid] = await shop.invoices()

    async def forgive() -> None:
        await trigger(shop.books, shop.namespace, paid.id, Trigger.VOID, MIDDLE + COLLECTED)

    if is_first:
        await forgive()
    await shop.books.subscriptions.cancel(shop.namespace, begun.id, EditTiming.IMMEDIATE, MIDDLE)
    await shop.bill(MIDDLE)
    if not is_first:
        await forgive()
    await shop.bill(MIDDLE + 2 * COLLECTED)

    assert sum(await _totals(shop)) - 30 == 0
    assert await _is_proved(shop)


async def test_what_an_end_makes_due_before_what_was_billed_ahead_is_billed(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    begun = await shop.subscribe()
    await shop.use(9, NOVEMBER)
    await shop.bill(NOVEMBER + timedelta(days=25))  # as with --ahead: nothing is due until then
    await shop.books.subscriptions.cancel(shop.namespace, begun.id, EditTiming.IMMEDIATE, MIDDLE)

    await shop.bill(MIDDLE + COLLECTED)

    assert await _totals(shop) == [D(9)]


async def test_what_a_draft_of_a_run_ahead_lost_to_an_end_that_is_taken_back_is_billed(
    shop: Shop,
) -> None:
    await shop.plan(await shop.card("fee", FlatPrice(D(30))), await shop.card())
    await shop.customer()
    begun = await shop.subscribe()
    await shop.bill(NOVEMBER)
    await shop.bill(DECEMBER)  # as with --ahead: a draft with the usage, and December's fee
    books = shop.books.subscriptions
    await books.cancel(shop.namespace, begun.id, EditTiming.NEXT_BILLING_CYCLE, MIDDLE)
    await shop.bill(DECEMBER + COLLECTED)  # it is collected without the fee
    await books.unschedule_cancelation(shop.namespace, begun.id, MIDDLE + COLLECTED)

    await shop.bill(DECEMBER + 2 * COLLECTED)

    assert sum(await _totals(shop)) == 60


async def test_a_subscription_that_is_billed_ahead_is_not_deleted(shop: Shop) -> None:
    await shop.plan(await shop.card("fee", FlatPrice(D(30))))
    await shop.customer()
    new = NewSubscription("acme", PlanReference(key="starter"), active_from=DECEMBER)
    begun = await shop.books.subscriptions.create(shop.namespace, new, NOVEMBER)
    await shop.bill(DECEMBER)

    with pytest.raises(Conflict, match=f"subscription {begun.id} is on the invoice INV-000001"):
        await shop.books.subscriptions.delete(shop.namespace, begun.id, NOVEMBER)

    [invoice] = await shop.invoices()
    await trigger(shop.books, shop.namespace, invoice.id, Trigger.VOID, NOVEMBER, rebill=True)
    await shop.books.subscriptions.delete(shop.namespace, begun.id, NOVEMBER)
    assert (await shop.bill(JANUARY)).invoices == {}


async def test_late_usage_of_before_does_not_wait_for_a_plan_that_never_costs_anything(
    shop: Shop,
) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.plan(await shop.card("seat", FlatPrice(D(0)), billing_cadence=None), key="free")
    await shop.customer()
    begun = await shop.subscribe()
    await shop.use(8, NOVEMBER)
    new = NewSubscription("acme", PlanReference(key="free"))
    await shop.books.subscriptions.change(
        shop.namespace, begun.id, new, EditTiming.IMMEDIATE, MIDDLE
    )
    await shop.bill(MIDDLE + COLLECTED)
    await shop.use(5, NOVEMBER)

    await shop.bill(MIDDLE + 2 * COLLECTED)
    again = await shop.bill(MIDDLE + 3 * COLLECTED)

    assert [total for total in await _totals(shop) if total] == [D(8), D(5)]
    assert again.invoices == {}


async def test_late_usage_of_a_phase_does_not_wait_for_one_that_never_costs_anything(
    shop: Shop,
) -> None:
    trial = PlanPhase("trial", "Trial", (await shop.card(price=UnitPrice(D(1))),), Duration(1))
    free = await shop.card("seat", FlatPrice(D(0)), billing_cadence=None)
    await shop.plan(phases=(trial, PlanPhase("after", "After", (free,))))
    await shop.customer()
    await shop.subscribe()
    await shop.use(8, NOVEMBER)
    await shop.bill(DECEMBER + COLLECTED)
    await shop.use(5, NOVEMBER)

    await shop.bill(DECEMBER + 2 * COLLECTED)

    assert [total for total in await _totals(shop) if total] == [D(8), D(5)]


@pytest.mark.parametrize("goes_on", [True, False])
async def test_a_fee_that_is_voided_to_be_billed_again_is_though_its_correction_stands(
    shop: Shop, goes_on: bool
) -> None:
    await shop.plan(await shop.card("fee", FlatPrice(D(30))))
    await shop.customer()
    begun = await shop.subscribe()
    await shop.bill(NOVEMBER)
    books = shop.books.subscriptions
    await books.cancel(shop.namespace, begun.id, EditTiming.IMMEDIATE, MIDDLE)
    await shop.bill(MIDDLE)
    if goes_on:
        await shop.subscribe(at=MIDDLE + COLLECTED)
        await shop.bill(MIDDLE + COLLECTED)
    first = (await shop.invoices())[0]
    await trigger(
        shop.books, shop.namespace, first.id, Trigger.VOID, MIDDLE + COLLECTED, rebill=True
    )

    await shop.bill(MIDDLE + 2 * COLLECTED)
    again = await shop.bill(MIDDLE + 3 * COLLECTED)

    standing = [one for one in await shop.invoices() if one.state is not InvoiceState.VOIDED]
    lines = [x for one in standing for x in one.lines if x.subscription_id == begun.id]
    assert [line.totals.total for line in lines] == [D(-15), D(30)]
    assert {line.corrects for line in lines} == {first.lines[0].id}
    assert again.invoices == {}
    assert await _is_proved(shop)
