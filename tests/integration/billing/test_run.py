"""The billing run, on both relational stores: what is due becomes invoices, once, and they are true."""

import asyncio
from datetime import datetime, timedelta
from decimal import Decimal as D

import pytest
from tallyman.billing.advance import trigger
from tallyman.billing.gather import gather
from tallyman.billing.preview import preview
from tallyman.domain.customer import Customer
from tallyman.domain.duration import Cadence, Duration
from tallyman.domain.invoice import IssueSeverity
from tallyman.domain.invoice_state import InvoiceState, Trigger
from tallyman.domain.period import Period
from tallyman.domain.price import FlatPrice, GraduatedPrice, PriceTier, UnitPrice
from tallyman.domain.service_period import EndProration
from tallyman.domain.subscription_change import EditTiming
from tallyman.store.customers import CustomerChange
from tallyman.store.new_subscription import NewSubscription, PlanReference

from tests.rigs.shop import COLLECTED, DECEMBER, JANUARY, NOVEMBER, Shop

PENDING = InvoiceState.PAYMENT_PENDING


async def test_the_walkthroughs_month_costs_three_cents(shop: Shop) -> None:
    await shop.plan(await shop.card())
    await shop.customer()
    await shop.subscribe()
    await shop.use(10_000, NOVEMBER + timedelta(days=2))
    await shop.use(5_000, DECEMBER - timedelta(milliseconds=1), type="response")
    await shop.use(99, DECEMBER)

    outcome = await shop.bill(DECEMBER + COLLECTED)

    [invoice] = await shop.invoices()
    [line] = invoice.lines
    assert (invoice.state, invoice.number) == (PENDING, "INV-000001")
    assert (invoice.totals.total, line.raw_quantity) == (D("0.03"), D(15_000))
    assert line.usage is not None
    assert [(w.dimensions, w.quantity) for w in line.usage.windows] == [
        ((("model", "gpt-4o"), ("type", "request")), D(10_000)),
        ((("model", "gpt-4o"), ("type", "response")), D(5_000)),
    ]
    assert outcome.totals() == {"USD": D("0.03")}


async def test_nothing_is_billed_before_it_is_due_and_once_only_after(shop: Shop) -> None:
    await shop.plan(await shop.card())
    await shop.customer()
    await shop.subscribe()
    await shop.use(1_000_000, NOVEMBER)

    assert (await shop.bill(DECEMBER - timedelta(seconds=1))).invoices == {}
    first = await shop.bill(DECEMBER + COLLECTED)
    second = await shop.bill(DECEMBER + COLLECTED)

    assert len(first.invoices) == 1
    assert second.invoices == {}
    assert len(await shop.invoices()) == 1


async def test_a_draft_waits_for_late_events_and_counts_them(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    await shop.subscribe()
    await shop.use(3, NOVEMBER)

    await shop.bill(DECEMBER)
    [draft] = await shop.invoices()
    await shop.use(4, NOVEMBER)
    await shop.bill(DECEMBER + COLLECTED)

    [invoice] = await shop.invoices()
    assert (draft.state, draft.totals.total) == (InvoiceState.DRAFT_WAITING_FOR_COLLECTION, D(3))
    assert (invoice.id, invoice.state, invoice.totals.total) == (draft.id, PENDING, D(7))


async def test_what_comes_after_an_invoice_is_final_is_a_correction_on_the_next(
    shop: Shop,
) -> None:
    tiers = GraduatedPrice((PriceTier(D(10), D(1)), PriceTier(None, D(2))))
    await shop.plan(await shop.card(price=tiers))
    await shop.customer()
    await shop.subscribe()
    await shop.use(8, NOVEMBER)
    await shop.bill(DECEMBER + COLLECTED)
    await shop.use(5, NOVEMBER + timedelta(days=1))
    await shop.use(2, DECEMBER)

    await shop.bill(JANUARY + COLLECTED)

    november, december = await shop.invoices()
    usual, correction = december.lines
    assert november.totals.total == D(8)
    assert (usual.raw_quantity, usual.totals.total) == (D(2), D(2))
    assert correction.name == "Tokens: correction"
    assert correction.corrects == november.lines[0].id
    assert correction.service_period == Period(NOVEMBER, DECEMBER)
    assert (correction.raw_quantity, correction.totals.total) == (D(5), D(2 + 3 * 2))
    assert (await shop.bill(JANUARY + COLLECTED)).invoices == {}


async def test_a_customer_who_has_left_gets_an_invoice_of_corrections_alone(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    begun = await shop.subscribe()
    await shop.books.subscriptions.cancel(
        shop.namespace, begun.id, EditTiming.NEXT_BILLING_CYCLE, NOVEMBER
    )
    await shop.use(8, NOVEMBER)
    await shop.bill(DECEMBER + COLLECTED)
    await shop.use(5, NOVEMBER)

    await shop.bill(DECEMBER + timedelta(days=2))
    again = await shop.bill(DECEMBER + timedelta(days=3))

    first, second = await shop.invoices()
    assert (first.totals.total, second.totals.total) == (D(8), D(5))
    assert [line.corrects for line in second.lines] == [first.lines[0].id]
    assert second.state is PENDING
    assert again.invoices == {}


async def test_many_runs_at_once_bill_once(shop: Shop) -> None:
    await shop.plan(await shop.card(), await shop.card("fee", FlatPrice(D(10))))
    for number in range(20):
        await shop.customer(f"c{number}")
        await shop.subscribe(f"c{number}")
        await shop.use(1_000_000, NOVEMBER, f"c{number}")

    outcomes = await asyncio.gather(*(shop.bill(DECEMBER + COLLECTED) for _ in range(4)))

    invoices = await shop.invoices()
    assert len(invoices) == 40  # the fee of November, and with its usage that of December
    assert sum(len(outcome.invoices) for outcome in outcomes) == 40
    assert sum(one.totals.total for one in invoices) == 20 * D("22.00")
    numbers = sorted(one.number for one in invoices)
    assert numbers == [f"INV-{number:06d}" for number in range(1, 41)]


async def test_who_has_no_subject_is_billed_beside_those_who_have_one(shop: Shop) -> None:
    await shop.plan(await shop.card("fee", FlatPrice(D(10))))
    await shop.customer()
    await shop.books.customers.create(
        Customer("", shop.namespace, "walk_in", "Walk-in", NOVEMBER, NOVEMBER)
    )
    for key in ("acme", "walk_in"):
        await shop.subscribe(key)

    outcome = await shop.bill(NOVEMBER + COLLECTED)

    assert sorted(one.customer_key for one in outcome.invoices.values()) == ["acme", "walk_in"]


async def test_a_dry_run_says_what_it_would_do_and_does_nothing(shop: Shop) -> None:
    await shop.plan(await shop.card())
    await shop.customer()
    await shop.subscribe()
    await shop.use(15_000, NOVEMBER)

    outcome = await shop.bill(DECEMBER + COLLECTED, dry_run=True)

    assert outcome.totals() == {"USD": D("0.03")}
    assert await shop.invoices() == []


async def test_one_customer_can_be_billed_by_itself(shop: Shop) -> None:
    await shop.plan(await shop.card())
    acme, other = await shop.customer("acme"), await shop.customer("other")
    await shop.subscribe("acme")
    await shop.subscribe("other")

    await shop.bill(DECEMBER + COLLECTED, [acme.id])

    assert [one.customer.id for one in await shop.invoices()] == [acme.id]
    assert await shop.invoices(other) == []


async def test_months_that_were_missed_are_each_an_invoice(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    await shop.subscribe()
    await shop.use(1, NOVEMBER)
    await shop.use(2, DECEMBER)

    await shop.bill(JANUARY + COLLECTED)

    assert [one.totals.total for one in await shop.invoices()] == [D(1), D(2)]


async def test_a_change_of_plan_in_mid_period_bills_each_for_its_time(shop: Shop) -> None:
    await shop.plan(
        await shop.card(price=UnitPrice(D(1))), await shop.card("fee", FlatPrice(D(30)))
    )
    await shop.plan(await shop.card("calls", UnitPrice(D(2))), key="pro")
    await shop.customer()
    begun = await shop.subscribe()
    await shop.bill(NOVEMBER)
    middle = NOVEMBER + timedelta(days=10)
    await shop.use(3, NOVEMBER)
    await shop.use(5, middle)
    await shop.books.subscriptions.change(
        shop.namespace,
        begun.id,
        NewSubscription("acme", PlanReference(key="pro")),
        EditTiming.IMMEDIATE,
        middle,
    )

    await shop.bill(DECEMBER + COLLECTED)

    fee, old, new = await shop.invoices()
    assert fee.totals.total == D(30)
    assert {line.name: line.totals.total for line in old.lines} == {
        "Tokens": D(3),
        "Fee: correction": D(-20),
    }
    assert [(line.name, line.totals.total) for line in new.lines] == [("Calls", D(10))]
    assert new.lines[0].service_period == Period(middle, DECEMBER)


@pytest.mark.parametrize(
    ("currency", "total"),
    [
        pytest.param("JPY", D("1235"), id="no decimals"),
        pytest.param("USD", D("1234.50"), id="two decimals"),
        pytest.param("KWD", D("1234.500"), id="three decimals"),
    ],
)
async def test_a_line_is_rounded_once_to_its_currency(shop: Shop, currency: str, total: D) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D("0.0012345"))), currency=currency)
    await shop.customer(currency=currency)
    await shop.subscribe()
    for _ in range(4):
        await shop.use(250_000, NOVEMBER)

    await shop.bill(DECEMBER + COLLECTED)

    [invoice] = await shop.invoices()
    assert (invoice.currency, invoice.totals.total) == (currency, total)


async def test_usage_before_the_start_is_not_billed_to_the_millisecond(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    start = NOVEMBER + timedelta(days=3, milliseconds=7)
    await shop.subscribe(at=start, billing_anchor=NOVEMBER)
    await shop.use(100, start - timedelta(milliseconds=1))
    await shop.use(1, start)

    await shop.bill(DECEMBER + COLLECTED)

    [invoice] = await shop.invoices()
    assert invoice.totals.total == D(1)


async def test_a_subject_that_is_mapped_late_is_billed_for_what_it_used_before(
    shop: Shop,
) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    await shop.subscribe()
    await shop.use(1, NOVEMBER)
    await shop.use(10, NOVEMBER, "stranger")
    await shop.bill(DECEMBER + COLLECTED)
    change = CustomerChange("acme", ("acme", "stranger"))
    await shop.books.customers.replace(shop.namespace, "acme", change, DECEMBER)

    await shop.bill(JANUARY + COLLECTED)

    assert [one.totals.total for one in await shop.invoices()] == [D(1), D(10)]


async def test_what_cannot_be_rated_stays_a_draft_until_it_is_mended(shop: Shop) -> None:
    card = await shop.card()
    await shop.plan(card)
    await shop.customer()
    await shop.subscribe()
    await shop.use(15_000, NOVEMBER)
    meter_id = await shop.set_meter(card, None)

    outcome = await shop.bill(DECEMBER + COLLECTED)
    [invalid] = await shop.invoices()
    await shop.set_meter(card, meter_id)
    mended = await trigger(
        shop.books, shop.namespace, invalid.id, Trigger.RETRY, DECEMBER + COLLECTED
    )

    assert [one.id for one in outcome.failed] == [invalid.id]
    assert invalid.state is InvoiceState.DRAFT_INVALID
    assert [issue.field for issue in invalid.validation_issues] == ["lines[0].rate_card"]
    assert (mended.state, mended.totals.total) == (PENDING, D("0.03"))


async def test_an_invoice_that_must_be_approved_waits_for_it(shop: Shop) -> None:
    await shop.change_workflow(auto_advance=False)
    await shop.plan(await shop.card())
    await shop.customer()
    await shop.subscribe()

    await shop.bill(DECEMBER + COLLECTED)
    await shop.bill(JANUARY)
    waits = (await shop.invoices())[0]
    approved = await trigger(shop.books, shop.namespace, waits.id, Trigger.APPROVE, JANUARY)

    assert waits.state is InvoiceState.DRAFT_MANUAL_APPROVAL_NEEDED
    assert (approved.state, approved.number) == (PENDING, "INV-000001")


async def test_an_unpaid_invoice_is_overdue_when_its_time_is_over(shop: Shop) -> None:
    await shop.plan(await shop.card())
    await shop.customer()
    await shop.subscribe()
    await shop.use(1_000_000, NOVEMBER)
    issued_at = DECEMBER + COLLECTED
    await shop.bill(issued_at)

    await shop.bill(issued_at + timedelta(days=30, seconds=-1))
    before = (await shop.invoices())[0].state
    await shop.bill(issued_at + timedelta(days=30))

    assert before is PENDING
    assert (await shop.invoices())[0].state is InvoiceState.OVERDUE


async def test_a_deleted_draft_is_billed_anew(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    await shop.subscribe()
    await shop.use(1, NOVEMBER)
    await shop.bill(DECEMBER)
    [draft] = await shop.invoices()

    await trigger(shop.books, shop.namespace, draft.id, Trigger.DELETE, DECEMBER)
    assert await shop.invoices() == []
    await shop.bill(DECEMBER + COLLECTED)

    [anew] = await shop.invoices()
    assert (anew.version, anew.totals.total) == (2, D(1))


@pytest.mark.parametrize(("rebill", "count"), [(False, 1), (True, 2)])
async def test_what_a_voided_invoice_had_is_forgiven_or_billed_again(
    shop: Shop, rebill: bool, count: int
) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    await shop.subscribe()
    await shop.use(1, NOVEMBER)
    await shop.bill(DECEMBER + COLLECTED)
    [invoice] = await shop.invoices()

    await trigger(
        shop.books, shop.namespace, invoice.id, Trigger.VOID, DECEMBER + COLLECTED, rebill=rebill
    )
    await shop.bill(DECEMBER + COLLECTED)

    assert len(await shop.invoices()) == count


async def test_invoices_are_collected_at_the_profiles_own_dates(shop: Shop) -> None:
    await shop.change_workflow(anchored=Cadence(NOVEMBER.replace(day=15), Duration(1)))
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    await shop.subscribe()
    await shop.use(1, NOVEMBER)

    early = await shop.bill(DECEMBER.replace(day=14))
    await shop.bill(DECEMBER.replace(day=15) + COLLECTED)

    [invoice] = await shop.invoices()
    assert early.invoices == {}
    assert (invoice.invoice_at, invoice.totals.total) == (DECEMBER.replace(day=15), D(1))


async def test_a_preview_is_what_is_not_yet_billed_corrections_too(shop: Shop) -> None:
    await shop.plan(
        await shop.card(price=UnitPrice(D(1))), await shop.card("fee", FlatPrice(D(30)))
    )
    acme = await shop.customer()
    await shop.subscribe()
    await shop.use(1, NOVEMBER)
    await shop.bill(DECEMBER + COLLECTED)
    await shop.use(10, NOVEMBER)
    await shop.use(100, DECEMBER)

    [seen] = await preview(shop.books, shop.namespace, acme.id, DECEMBER + timedelta(days=3))

    assert seen.state is InvoiceState.GATHERING
    assert [(line.name, line.totals.total) for line in seen.lines] == [
        ("Tokens", D(100)),
        ("Tokens: correction", D(10)),
    ]


MID_NOVEMBER = NOVEMBER + timedelta(days=10)


@pytest.mark.parametrize(
    ("proration", "owed"),
    [
        # 10 of November's 30 days were served: 30.00 x 10/30 is kept, and 20.00 comes back.
        pytest.param(EndProration.BILL_ACTUAL_PERIOD, [D(30), D(-20) + D(8)], id="actual period"),
        pytest.param(EndProration.BILL_FULL_PERIOD, [D(30), D(8)], id="full period"),
    ],
)
async def test_who_leaves_in_mid_period_gets_back_what_the_profile_says(
    shop: Shop, proration: EndProration, owed: list[D]
) -> None:
    await shop.change_workflow(end_proration=proration)
    fee = await shop.card("fee", FlatPrice(D(30)))
    await shop.plan(fee, await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    begun = await shop.subscribe()
    await shop.use(8, NOVEMBER)
    await shop.bill(NOVEMBER)
    await shop.books.subscriptions.cancel(shop.namespace, begun.id, MID_NOVEMBER, NOVEMBER)

    before = await shop.bill(MID_NOVEMBER - timedelta(days=1))
    await shop.bill(MID_NOVEMBER + COLLECTED)
    await shop.bill(DECEMBER + COLLECTED)
    await shop.bill(JANUARY + COLLECTED)

    assert before.invoices == {}
    assert [one.totals.total for one in await shop.invoices()] == owed


async def test_a_cancellation_that_is_taken_back_gives_nothing_back(shop: Shop) -> None:
    fee = await shop.card("fee", FlatPrice(D(30)))
    await shop.plan(fee)
    await shop.plan(await shop.card(price=UnitPrice(D(1))), key="usage")
    await shop.customer()
    begun = await shop.subscribe()
    await shop.bill(NOVEMBER)
    books, namespace = shop.books.subscriptions, shop.namespace
    await books.cancel(namespace, begun.id, DECEMBER - timedelta(days=1), MID_NOVEMBER)
    await shop.use(5, NOVEMBER)  # an event that came late makes the month be looked at again
    await shop.bill(MID_NOVEMBER)
    await books.unschedule_cancelation(namespace, begun.id, MID_NOVEMBER)

    await shop.bill(DECEMBER + COLLECTED)

    assert [one.totals.total for one in await shop.invoices()] == [D(30), D(30)]


async def test_an_invoice_that_owes_the_customer_says_so_and_is_never_overdue(shop: Shop) -> None:
    await shop.plan(await shop.card("fee", FlatPrice(D(30))))
    await shop.customer()
    begun = await shop.subscribe()
    await shop.bill(NOVEMBER)
    await shop.books.subscriptions.cancel(
        shop.namespace, begun.id, EditTiming.IMMEDIATE, MID_NOVEMBER
    )

    await shop.bill(MID_NOVEMBER)
    at_once = [one.totals.total for one in await shop.invoices()]
    await shop.bill(JANUARY)

    assert at_once == [D(30), D(-20)]
    fee, back = await shop.invoices()
    [issue] = back.validation_issues
    assert (fee.state, fee.validation_issues) == (InvoiceState.OVERDUE, ())
    assert (back.state, back.totals.total) == (PENDING, D(-20))
    assert (issue.code, issue.severity) == ("invoice_total_negative", IssueSeverity.WARNING)
    assert back.number == "INV-000002"
    assert back.wakes_at is None


async def test_a_dry_run_shows_the_drafts_that_would_go_on(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    await shop.subscribe()
    await shop.use(8, NOVEMBER)
    await shop.bill(DECEMBER)
    [waiting] = await shop.invoices()

    shown = await shop.bill(JANUARY + COLLECTED, dry_run=True)

    assert [(one.state, one.total) for one in shown.invoices.values()] == [
        (PENDING, D(8)),
        (PENDING, D(0)),
    ]
    assert await shop.invoices() == [waiting]
    assert (await shop.bill(JANUARY + COLLECTED)).totals() == shown.totals()


async def test_a_run_of_what_is_due_looks_at_nobody_else(shop: Shop) -> None:
    asked: list[int] = []
    await shop.plan(await shop.card("fee", FlatPrice(D(30))))
    await shop.customer()
    begun = await shop.subscribe()

    async def bill(at: datetime) -> list[D]:
        made = await shop.bill(at, only_due=True, report=lambda _, every: asked.append(every))
        return [one.total for one in made.invoices.values() if one.state is PENDING]

    assert await bill(NOVEMBER) == [D(30)]
    assert (await bill(DECEMBER - timedelta(hours=1)), len(asked)) == ([], 1)
    assert await bill(DECEMBER) == [D(30)]
    end = DECEMBER + timedelta(days=1)
    await shop.books.subscriptions.cancel(shop.namespace, begun.id, end, end)
    assert await bill(end) == [D("-29.03")]  # 30.00 x 30/31
    assert (await bill(JANUARY), len(asked)) == ([], 3)
    await shop.subscribe(at=JANUARY)
    assert await bill(JANUARY) == [D(30)]
    [first, *_] = await shop.invoices()
    await trigger(shop.books, shop.namespace, first.id, Trigger.VOID, JANUARY, rebill=True)
    assert await bill(JANUARY) == [D(30)]


async def test_what_appears_up_to_an_hour_behind_a_watermark_is_found(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer("globex")
    await shop.subscribe("globex")
    await shop.use(8, NOVEMBER, "nobody")

    async def appear(minutes: int) -> None:
        """The event once more, of globex, as if it had been stored so long ago."""
        await shop.clickhouse.command(
            "INSERT INTO events SELECT * REPLACE ('globex' AS subject, {id:String} AS id, "
            "stored_at - toIntervalMinute({minutes:Int64}) AS stored_at) FROM events "
            "WHERE namespace = {namespace:String} AND events.subject = 'nobody'",
            {"namespace": shop.namespace, "id": f"late-{minutes}", "minutes": minutes},
        )

    await appear(120)
    await shop.bill(DECEMBER + COLLECTED)
    await appear(65)
    await shop.bill(JANUARY + COLLECTED)
    await appear(55)
    await shop.bill(JANUARY + timedelta(days=31) + COLLECTED)

    totals = [one.totals.total for one in await shop.invoices()]
    assert totals == [D(8), D(0), D(16)]


async def test_what_is_freed_while_a_run_is_under_way_is_billed_by_the_next(shop: Shop) -> None:
    await shop.plan(await shop.card("fee", FlatPrice(D(30))))
    customer = await shop.customer()
    await shop.subscribe()
    await shop.bill(NOVEMBER)
    [fee] = await shop.invoices()
    later = NOVEMBER + timedelta(days=20)
    accounts = await shop.books.accounts(shop.namespace, [customer.id])
    nothing, progress = await gather(shop.books, accounts, later)
    await trigger(shop.books, shop.namespace, fee.id, Trigger.VOID, later, rebill=True)
    await shop.books.invoices.add(shop.namespace, [], progress)

    await shop.bill(later, only_due=True)

    assert (nothing, len(progress)) == ([], 1)
    assert [one.state for one in await shop.invoices()] == [InvoiceState.VOIDED, PENDING]
