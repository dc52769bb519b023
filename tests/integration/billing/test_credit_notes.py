"""Credit notes, refunds and re-ratings on real stores: what comes back, once, and what stays."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal as D
from io import StringIO

import pytest
from rich.console import Console
from tallyman.api.explanation_answers import lines_answer
from tallyman.billing.advance import trigger
from tallyman.billing.credit import Order, credit_corrections, let_off, void_note
from tallyman.billing.explain import explain_all
from tallyman.billing.give_back import refund
from tallyman.billing.margin import Asked, margin
from tallyman.billing.re_rate import ReRatingOrder, ReRatingTiming, re_rate
from tallyman.billing.recount import recounted
from tallyman.commands.explain import print_lines
from tallyman.domain.credit_note import Credit, CreditNote, as_invoice
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_state import InvoiceState, Trigger
from tallyman.domain.margin import MarginBy
from tallyman.domain.money import total
from tallyman.domain.period import Period
from tallyman.domain.price import FlatPrice, GraduatedPrice, PriceTier, UnitPrice
from tallyman.domain.rate_card import RateCard
from tallyman.domain.refund import RefundState
from tallyman.errors import Conflict, InvalidInput, InvoiceActionNotAvailable
from tallyman.store.audit import AuditLog
from tallyman.store.event_changes import EventChangeStore, Why
from tallyman.store.refunds import RefundAsked

from tests.rigs.shop import COLLECTED, DECEMBER, JANUARY, NOVEMBER, Shop

LATER = DECEMBER + timedelta(days=2)
FEBRUARY = datetime(2027, 2, 1, tzinfo=JANUARY.tzinfo)


async def billed(shop: Shop, tokens: int = 100, at: datetime = NOVEMBER) -> Invoice:
    """An issued invoice of so many tokens at 1 USD each."""
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    await shop.subscribe()
    await shop.use(tokens, at)
    await shop.bill(DECEMBER + COLLECTED)
    [invoice] = await shop.invoices()
    return invoice


async def pay(shop: Shop, invoice: Invoice) -> Invoice:
    return await trigger(shop.books, shop.namespace, invoice.id, Trigger.PAY, LATER)


async def credit(
    shop: Shop, invoice: Invoice, amount: D | None, key: str | None = None, refunded: bool = False
) -> CreditNote:
    order = Order(invoice.id, "an outage", "key-1", key, refunded)
    wanted = [] if amount is None else [Credit(invoice.lines[0].id, amount)]
    return await let_off(shop.books, shop.namespace, order, wanted, LATER)


async def correct(shop: Shop, invoice: Invoice) -> CreditNote:
    order = Order(invoice.id, "counted twice", "key-1")
    return await credit_corrections(shop.books, shop.namespace, order, LATER)


async def void_event(shop: Shop, id_: str) -> None:
    changes = EventChangeStore(shop.database, shop.events)
    await changes.void(shop.namespace, "kong", id_, Why("a test run"))


async def last(shop: Shop, at: datetime) -> Invoice:
    await shop.bill(at + COLLECTED)
    return (await shop.invoices())[-1]


async def test_a_credit_note_is_a_record_of_its_own_and_the_invoice_stays(shop: Shop) -> None:
    invoice = await billed(shop)

    note = await credit(shop, invoice, D(30))

    kept = await shop.books.credit_notes.get(shop.namespace, note.number)
    assert (note.number, note.total, kept) == ("CN-000001", D(30), note)
    assert await shop.books.invoices.get(shop.namespace, invoice.id) == invoice
    standing = await shop.books.credit_notes.standing(shop.namespace, invoice.id)
    assert (standing.balance.due, standing.lines[invoice.lines[0].id].left) == (D(70), D(70))
    [entry] = await AuditLog(shop.database).entries(shop.namespace, "credit_note", note.id)
    assert (entry.action, entry.actor) == ("created", "key-1")


async def test_of_many_at_once_no_more_is_credited_than_the_line_has(shop: Shop) -> None:
    invoice = await billed(shop)

    made = await asyncio.gather(
        *(credit(shop, invoice, D(30)) for _ in range(6)), return_exceptions=True
    )

    notes = [one for one in made if isinstance(one, CreditNote)]
    refused = [one for one in made if isinstance(one, InvalidInput)]
    assert (len(notes), len(refused)) == (3, 3)
    assert sorted(note.number for note in notes) == ["CN-000001", "CN-000002", "CN-000003"]


async def test_asked_again_with_its_key_it_is_made_once(shop: Shop) -> None:
    invoice = await billed(shop)

    first = await credit(shop, invoice, D(80), key="ticket-7")
    again = await credit(shop, invoice, D(80), key="ticket-7")
    order = Order(invoice.id, "another reason", key="ticket-7")
    with pytest.raises(Conflict):
        await let_off(shop.books, shop.namespace, order, [], LATER)

    assert again == first
    _, many = await shop.books.credit_notes.page(shop.namespace)
    assert many == 1


async def test_an_invoice_that_is_credited_whole_is_paid(shop: Shop) -> None:
    invoice = await billed(shop)

    note = await credit(shop, invoice, None)

    paid = await shop.books.invoices.get(shop.namespace, invoice.id)
    assert (note.total, paid.state) == (D(100), InvoiceState.PAID)
    with pytest.raises(Conflict, match="was settled with"):
        await void_note(shop.books, shop.namespace, note.id, LATER)


async def test_goodwill_is_not_taken_back_by_a_correction_nor_given_twice(shop: Shop) -> None:
    invoice = await billed(shop)
    await credit(shop, invoice, D(60))
    await shop.use(5, NOVEMBER)

    more = await last(shop, JANUARY)
    await void_event(shop, "1")
    less = await last(shop, FEBRUARY)

    assert [line.totals.total for line in more.lines if line.corrects] == [D(5)]
    # Of 105 that were billed 60 were let off: though only 5 are owed, no more than 45 comes back.
    assert [line.totals.total for line in less.lines if line.corrects] == [D(-45)]
    for one in (more, less):
        assert await recounted(shop.books, one) == one.lines
        _, lines = await explain_all(shop.books, shop.namespace, one.id)
        assert [line.problems for line in lines] == [()] * len(lines)


async def test_a_voided_event_comes_back_by_a_credit_note_and_not_again(shop: Shop) -> None:
    invoice = await billed(shop)
    await shop.use(7, NOVEMBER)
    await void_event(shop, "1")

    note = await correct(shop, invoice)
    january = await last(shop, JANUARY)

    assert (note.total, [line.correction is not None for line in note.lines]) == (D(93), [True])
    assert [line for line in january.lines if line.corrects] == []
    shown = as_invoice(note, invoice)
    assert await recounted(shop.books, shown) == shown.lines
    explained = await explain_all(shop.books, shop.namespace, note.number)
    assert [line.problems for line in explained[1]] == [()]
    printed = StringIO()
    print_lines(Console(file=printed, width=200), lines_answer(explained))
    assert printed.getvalue().startswith("Credit note CN-000001 to acme")
    with pytest.raises(InvalidInput, match="no line of the invoice is too high"):
        await correct(shop, invoice)


async def test_a_correction_that_is_voided_is_on_the_next_invoice(shop: Shop) -> None:
    invoice = await billed(shop)
    await shop.use(7, NOVEMBER)
    await void_event(shop, "1")
    note = await correct(shop, invoice)

    await void_note(shop.books, shop.namespace, note.id, LATER)
    january = await last(shop, JANUARY)

    assert [line.totals.total for line in january.lines if line.corrects] == [D(-93)]
    assert (await shop.books.credit_notes.get(shop.namespace, note.id)).lines == note.lines


async def test_an_invoice_with_credit_notes_is_not_voided_with_them(shop: Shop) -> None:
    invoice = await billed(shop)
    note = await credit(shop, invoice, D(30))

    with pytest.raises(InvoiceActionNotAvailable, match="has credit notes"):
        await trigger(shop.books, shop.namespace, invoice.id, Trigger.VOID, LATER)
    await void_note(shop.books, shop.namespace, note.id, LATER)
    voided = await trigger(shop.books, shop.namespace, invoice.id, Trigger.VOID, LATER)

    assert voided.state is InvoiceState.VOIDED
    with pytest.raises(InvoiceActionNotAvailable, match="nothing to take back"):
        await credit(shop, invoice, D(30))


async def test_what_was_taken_back_is_no_revenue(shop: Shop) -> None:
    invoice = await billed(shop)
    asked = Asked(shop.namespace, [Period(NOVEMBER, DECEMBER)], MarginBy.CUSTOMER, LATER)
    before = await margin(shop.books, asked)
    note = await credit(shop, invoice, D(30))
    less = await margin(shop.books, asked)
    await void_note(shop.books, shop.namespace, note.id, LATER)

    again = await margin(shop.books, asked)

    assert [one[0].revenue for one in (before, less, again)] == [D(100), D(70), D(100)]


async def test_no_more_is_given_back_than_was_paid(shop: Shop) -> None:
    invoice = await billed(shop)
    await credit(shop, invoice, D(10))
    asked = RefundAsked(invoice.id, "an outage", "key-1")
    with pytest.raises(InvalidInput):
        await refund(shop.books, shop.namespace, asked, LATER)
    await pay(shop, invoice)

    note = await credit(shop, invoice, D(40), refunded=True)
    some = await refund(shop.books, shop.namespace, replace(asked, amount=D(20)), LATER)
    with pytest.raises(InvalidInput, match="is more than the 30 USD"):
        await refund(shop.books, shop.namespace, replace(asked, amount=D(31)), LATER)
    of_note = replace(asked, credit_note_id=note.id)
    with pytest.raises(InvalidInput, match="is more than the 0 USD"):
        await refund(shop.books, shop.namespace, of_note, LATER)
    rest = await refund(shop.books, shop.namespace, replace(asked, key="rest"), LATER)
    again = await refund(shop.books, shop.namespace, replace(asked, key="rest"), LATER)

    found, _ = await shop.books.refunds.page(shop.namespace)
    assert [one.amount for one in found] == [D(40), D(20), D(30)]
    assert (again, some.credit_note_id, found[0].credit_note_id) == (rest, None, note.id)
    with pytest.raises(Conflict, match="was given back"):
        await void_note(shop.books, shop.namespace, note.id, LATER)


@pytest.mark.parametrize(
    ("noted", "state", "owed"),
    [
        pytest.param(None, RefundState.SUCCEEDED, D(-40), id="without a credit note"),
        pytest.param(D(25), RefundState.SUCCEEDED, D(-40), id="some of it is what a note says"),
        pytest.param(D(80), RefundState.SUCCEEDED, D(-20), id="less than what a note says"),
        pytest.param(None, RefundState.FAILED, D(-100), id="a refund that failed"),
    ],
)
async def test_what_was_refunded_is_not_given_back_again_by_a_correction(
    shop: Shop, noted: D | None, state: RefundState, owed: D
) -> None:
    invoice = await pay(shop, await billed(shop))
    if noted is not None:
        await credit(shop, invoice, noted)
    asked = RefundAsked(invoice.id, "an outage", "key-1", D(60))
    given = await refund(shop.books, shop.namespace, asked, LATER)
    await shop.books.refunds.move(given, state, LATER)

    await void_event(shop, "1")
    january = await last(shop, JANUARY)

    assert [line.totals.total for line in january.lines if line.corrects] == [owed]
    assert await recounted(shop.books, january) == january.lines
    _, lines = await explain_all(shop.books, shop.namespace, january.id)
    assert [line.problems for line in lines] == [()] * len(lines)


async def test_a_refund_of_an_invoice_lowers_what_comes_back_of_each_line_by_its_share(
    shop: Shop,
) -> None:
    await shop.plan(
        await shop.card("requests", UnitPrice(D(1)), only={"type": "request"}),
        await shop.card("responses", UnitPrice(D(1)), only={"type": "response"}),
    )
    await shop.customer()
    await shop.subscribe()
    await shop.use(30, NOVEMBER)
    await shop.use(60, NOVEMBER, type="response")
    await shop.bill(DECEMBER + COLLECTED)
    [invoice] = await shop.invoices()
    await pay(shop, invoice)
    asked = RefundAsked(invoice.id, "an outage", "key-1", D("0.10"))
    await refund(shop.books, shop.namespace, asked, LATER)

    await void_event(shop, "1")
    await void_event(shop, "2")
    january = await last(shop, JANUARY)

    assert sorted(line.totals.total for line in january.lines if line.corrects) == [
        D("-59.93"), D("-29.97"),
    ]  # fmt: skip


async def re_rated(
    shop: Shop, price: str, timing: ReRatingTiming = ReRatingTiming.NEXT_INVOICE, **rest: object
) -> D:
    """The difference by a price per token, of November."""
    account = (await shop.invoices())[0].customer
    order = ReRatingOrder(
        account.id,
        Period(NOVEMBER, DECEMBER),
        "the price was wrong",
        prices={"tokens": RateCard("tokens", "Tokens", UnitPrice(D(price)))},
        timing=timing,
        **rest,  # type: ignore[arg-type]  # what the order has
    )
    found = await re_rate(shop.books, shop.namespace, order, LATER)
    return found.totals().get("USD", D(0))


@pytest.mark.parametrize("price", ["0.1", "1.75"])
async def test_a_wrong_price_is_put_right_on_the_next_invoice_once(shop: Shop, price: str) -> None:
    invoice = await billed(shop)

    shown = await re_rated(shop, price, dry_run=True)
    asked = await re_rated(shop, price)
    again = await re_rated(shop, price)
    january = await last(shop, JANUARY)
    after = await re_rated(shop, price)
    february = await last(shop, FEBRUARY)

    owed = D(100) * D(price) - D(100)
    assert (shown, asked, again, after) == (owed, owed, owed, D(0))
    corrections = [line for line in january.lines if line.corrects]
    assert [line.totals.total for line in corrections] == [owed]
    assert [line for line in february.lines if line.corrects] == []
    assert (await shop.books.invoices.get(shop.namespace, invoice.id)).lines == invoice.lines
    for one in (january, february):
        assert await recounted(shop.books, one) == one.lines
        _, lines = await explain_all(shop.books, shop.namespace, one.id)
        assert [line.problems for line in lines] == [()] * len(lines)


async def test_what_comes_late_is_rated_by_the_price_that_holds_now(shop: Shop) -> None:
    await billed(shop)
    await re_rated(shop, "0.5")
    await last(shop, JANUARY)
    await shop.use(10, NOVEMBER)

    february = await last(shop, FEBRUARY)

    assert [line.totals.total for line in february.lines if line.corrects] == [D(5)]


async def test_a_wrong_price_comes_back_by_a_credit_note_to_who_has_paid(shop: Shop) -> None:
    invoice = await billed(shop)
    await pay(shop, invoice)

    asked = await re_rated(shop, "0.25", ReRatingTiming.CREDIT_NOTE, refund=True)
    again = await re_rated(shop, "0.25", ReRatingTiming.CREDIT_NOTE, refund=True)
    january = await last(shop, JANUARY)

    [note], _ = await shop.books.credit_notes.page(shop.namespace)
    [given], _ = await shop.books.refunds.page(shop.namespace)
    assert (asked, again, note.total, given.amount) == (D(-75), D(0), D(75), D(75))
    assert [line for line in january.lines if line.corrects] == []


async def test_what_is_more_than_its_line_waits_for_the_next_invoice(shop: Shop) -> None:
    await billed(shop)
    await shop.use(50, NOVEMBER)
    january = await last(shop, JANUARY)

    asked = await re_rated(shop, "0.2", ReRatingTiming.CREDIT_NOTE)
    february = await last(shop, FEBRUARY)

    _, notes = await shop.books.credit_notes.page(shop.namespace)
    assert (asked, notes) == (D(-120), 0)
    assert [line.totals.total for line in january.lines if line.corrects] == [D(50)]
    assert [line.totals.total for line in february.lines if line.corrects] == [D(-120)]


async def test_what_was_billed_too_little_is_never_on_a_credit_note(shop: Shop) -> None:
    await billed(shop)

    asked = await re_rated(shop, "2", ReRatingTiming.CREDIT_NOTE)
    january = await last(shop, JANUARY)

    _, notes = await shop.books.credit_notes.page(shop.namespace)
    assert (asked, notes) == (D(100), 0)
    assert [line.totals.total for line in january.lines if line.corrects] == [D(100)]


async def test_a_period_is_rated_again_by_another_version_of_the_plan(shop: Shop) -> None:
    tiers = GraduatedPrice((PriceTier(D(10), D(1)), PriceTier(None, D("0.1"))))
    wrong = await shop.card(price=UnitPrice(D(1)))
    fee = await shop.card("fee", FlatPrice(D(30)))
    await shop.plan(wrong, fee)
    await shop.customer()
    await shop.subscribe()
    await shop.use(100, NOVEMBER)
    await shop.bill(NOVEMBER)
    await shop.bill(DECEMBER + COLLECTED)
    right = await shop.plan(
        replace(wrong, price=tiers), replace(fee, price=FlatPrice(D(20))), key="right"
    )
    customer = (await shop.invoices())[0].customer
    order = ReRatingOrder(customer.id, Period(NOVEMBER, DECEMBER), "wrong", plan=right)

    found = await re_rate(shop.books, shop.namespace, order, LATER)
    january = await last(shop, JANUARY)

    assert [(one.name, one.billed, one.now) for one in found.differences] == [
        ("Fee", D(30), D(20)), ("Tokens", D(100), D(19)),
    ]  # fmt: skip
    assert sorted(line.totals.total for line in january.lines if line.corrects) == [D(-81), D(-10)]
    assert total(line.totals.total for line in january.lines if line.corrects) == D(-91)


async def test_a_draft_follows_the_new_price(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    await shop.subscribe()
    await shop.use(100, NOVEMBER)
    await shop.bill(DECEMBER)

    await re_rated(shop, "0.5")
    await shop.bill(DECEMBER + COLLECTED)

    [invoice] = await shop.invoices()
    assert invoice.totals.total == D(50)


async def test_a_price_that_the_card_cannot_have_is_refused(shop: Shop) -> None:
    invoice = await billed(shop)
    order = ReRatingOrder(invoice.customer.id, Period(NOVEMBER, DECEMBER), "wrong")
    flat = replace(invoice.lines[0].rate_card, price=FlatPrice(D(5)))

    by = replace(order, prices={"tokens": flat})
    with pytest.raises(InvalidInput, match="is by usage"):
        await re_rate(shop.books, shop.namespace, by, LATER)


async def test_a_price_of_a_card_that_the_customer_does_not_have_is_refused_by_its_name(
    shop: Shop,
) -> None:
    invoice = await billed(shop)
    card = replace(invoice.lines[0].rate_card, price=UnitPrice(D("0.2")))
    order = ReRatingOrder(invoice.customer.id, Period(NOVEMBER, DECEMBER), "wrong")

    by = replace(order, prices={"tokens": card, "tokns": card})
    with pytest.raises(InvalidInput, match=r"prices\.tokns is no rate card") as refused:
        await re_rate(shop.books, shop.namespace, by, LATER)

    assert [one.field for one in refused.value.parameters] == ["prices.tokns"]
