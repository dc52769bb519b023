"""Credit pays for invoices: once, in order, and it is given back where an invoice is undone."""

import asyncio
from datetime import datetime, timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tallyman.billing.advance import trigger
from tallyman.billing.credit import Order as CreditOrder
from tallyman.billing.credit import credit_corrections, void_note
from tallyman.billing.credit_balance import CreditBalance, balances
from tallyman.billing.credit_watch import CreditWatch
from tallyman.billing.preview import preview
from tallyman.billing.recount import recounted
from tallyman.domain.credit import CreditGrant, GrantStatus
from tallyman.domain.credit_ledger import CreditAccount, CreditEntry, funded
from tallyman.domain.credit_top_up import CreditTopUp
from tallyman.domain.customer import Customer
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_state import InvoiceState, Trigger
from tallyman.domain.price import FlatPrice
from tallyman.domain.stripe_operation import OperationKind
from tallyman.errors import Conflict, LedgerError
from tallyman.store.credit_ledger import book
from tallyman.store.credit_top_ups import CreditTopUpStore
from tallyman.store.stripe_operations import StripeOperationStore
from ulid import ULID

from tests.rigs.shop import COLLECTED, DECEMBER, JANUARY, NOVEMBER, Shop

DAY = timedelta(days=1)
MILLION = 1_000_000  # tokens for 2.00


async def granted(shop: Shop, whose: Customer, amount: str, **rest: Any) -> CreditGrant:
    """A grant from November on."""
    at = rest.pop("at", NOVEMBER)
    given: dict[str, Any] = {"effective_at": at, "name": f"{amount} free", **rest}
    made = CreditGrant(
        id=str(ULID()),
        namespace=shop.namespace,
        customer_id=whose.id,
        currency=given.pop("currency", "USD"),
        amount=D(amount),
        created_at=at,
        updated_at=at,
        **given,
    )
    return await shop.books.credits.create(made, at)


async def sold(shop: Shop) -> Customer:
    """A customer on tokens for 2.00 per million."""
    await shop.plan(await shop.card())
    customer = await shop.customer()
    await shop.subscribe()
    return customer


async def booked(shop: Shop, whose: Customer) -> list[tuple[str, str, str]]:
    """The type, amount and what it left of each transaction, the first one first."""
    rows = await shop.books.ledger.page(whose.id, limit=100)
    return [(str(x.type), str(x.amount), str(x.available)) for x in reversed(rows)]


async def left(shop: Shop, whose: Customer, now: datetime, **rest: Any) -> list[CreditBalance]:
    return await balances(shop.books, shop.namespace, whose.id, now, **rest)


def money(invoice: Invoice) -> tuple[str, str, str]:
    """The amount, what credit pays of it, and what is owed."""
    totals = invoice.totals
    return str(totals.amount), str(totals.credits), str(totals.total)


async def test_credit_pays_before_money_and_the_rest_is_owed(shop: Shop) -> None:
    customer = await sold(shop)
    await granted(shop, customer, "3.00", priority=20)
    await granted(shop, customer, "1.50")
    await shop.use(3 * MILLION, NOVEMBER + DAY)
    await shop.bill(DECEMBER + COLLECTED)
    [invoice] = await shop.invoices()

    assert money(invoice) == ("6.00", "4.50", "1.50")
    [line] = invoice.lines
    assert [(x.description, str(x.amount)) for x in line.credits_applied] == [
        ("1.50 free", "1.50"),
        ("3.00 free", "3.00"),
    ]
    assert await booked(shop, customer) == [
        ("funded", "3.00", "3.00"),
        ("funded", "1.50", "4.50"),
        ("consumed", "-4.50", "0.00"),
    ]
    assert invoice.state is InvoiceState.PAYMENT_PENDING
    assert await recounted(shop.books, invoice) == invoice.lines


async def test_an_invoice_that_credit_pays_wholly_is_paid(shop: Shop) -> None:
    customer = await sold(shop)
    await granted(shop, customer, "100.00")
    await shop.use(MILLION, NOVEMBER + DAY)
    await shop.bill(DECEMBER + COLLECTED)
    [invoice] = await shop.invoices()

    assert money(invoice) == ("2.00", "2.00", "0.00")
    assert (invoice.state, invoice.number) == (InvoiceState.PAID, "INV-000001")


async def test_credit_of_a_feature_or_a_currency_pays_for_nothing_else(shop: Shop) -> None:
    await shop.plan(
        await shop.card("fee", FlatPrice(D(30))),
        await shop.card("input", only={"type": "request"}),
        await shop.card("output", only={"type": "response"}),
    )
    customer = await shop.customer()
    await shop.subscribe()
    await granted(shop, customer, "50.00", features=("output",))
    await granted(shop, customer, "50.00", currency="EUR")
    await shop.use(MILLION, NOVEMBER + DAY)
    await shop.use(2 * MILLION, NOVEMBER + DAY, type="response")
    await shop.bill(DECEMBER + COLLECTED)
    invoices = await shop.invoices()

    assert [money(one) for one in invoices] == [
        ("30.00", "0", "30.00"),
        ("36.00", "4.00", "32.00"),
    ]


async def test_any_number_of_runs_at_once_use_a_credit_once(shop: Shop) -> None:
    customer = await sold(shop)
    await granted(shop, customer, "1.00")
    await shop.use(MILLION, NOVEMBER + DAY)
    await asyncio.gather(*(shop.bill(DECEMBER + COLLECTED) for _ in range(4)))
    await shop.bill(DECEMBER + 2 * COLLECTED)

    assert [money(one) for one in await shop.invoices()] == [("2.00", "1.00", "1.00")]
    assert await booked(shop, customer) == [
        ("funded", "1.00", "1.00"),
        ("consumed", "-1.00", "0.00"),
    ]


async def test_a_voided_invoice_gives_its_credit_back_as_a_new_record(shop: Shop) -> None:
    customer = await sold(shop)
    await granted(shop, customer, "1.00")
    await shop.use(MILLION, NOVEMBER + DAY)
    await shop.bill(DECEMBER + COLLECTED)
    [invoice] = await shop.invoices()
    books, again = shop.books, DECEMBER + 2 * COLLECTED
    await trigger(books, shop.namespace, invoice.id, Trigger.VOID, again, rebill=True)
    await shop.bill(again)

    assert await booked(shop, customer) == [
        ("funded", "1.00", "1.00"),
        ("consumed", "-1.00", "0.00"),
        ("consumed", "1.00", "1.00"),
        ("consumed", "-1.00", "0.00"),
    ]
    assert [money(one) for one in await shop.invoices()] == [("2.00", "1.00", "1.00")] * 2


async def test_a_draft_that_is_counted_again_or_deleted_gives_its_credit_back(shop: Shop) -> None:
    customer = await sold(shop)
    await shop.change_workflow(auto_advance=False)
    await granted(shop, customer, "5.00")
    await shop.use(MILLION, NOVEMBER + DAY)
    at = DECEMBER + COLLECTED
    await shop.bill(at)
    [draft] = await shop.invoices()
    held = await left(shop, customer, at)
    await trigger(shop.books, shop.namespace, draft.id, Trigger.DELETE, at)
    deleted = await left(shop, customer, at)
    await shop.bill(at)
    [again] = await shop.invoices()

    assert money(draft) == money(again) == ("2.00", "2.00", "0.00")
    assert held == [CreditBalance("USD", D("3.00"), D("5.00"), D(0))]
    assert deleted == [CreditBalance("USD", D("3.00"), D("5.00"), D(0))]
    assert [amount for _, amount, _ in await booked(shop, customer)] == [
        "5.00", "-2.00", "2.00", "-2.00",
    ]  # fmt: skip


async def test_what_arrives_late_is_paid_by_credit_too(shop: Shop) -> None:
    customer = await sold(shop)
    await granted(shop, customer, "5.00")
    await shop.use(MILLION, NOVEMBER + DAY)
    await shop.bill(DECEMBER + COLLECTED)
    await shop.use(MILLION, NOVEMBER + DAY)
    await shop.bill(JANUARY + COLLECTED)
    first, second = await shop.invoices()

    assert money(first) == money(second) == ("2.00", "2.00", "0.00")
    for invoice in (first, second):
        assert await recounted(shop.books, invoice) == invoice.lines


async def test_a_correction_gives_back_as_credit_what_credit_paid(shop: Shop) -> None:
    await shop.plan(await shop.card("fee", FlatPrice(D(30))))
    customer = await shop.customer()
    begun = await shop.subscribe()
    await granted(shop, customer, "25.00")
    await shop.bill(NOVEMBER + COLLECTED)
    end = NOVEMBER + 10 * DAY
    await shop.books.subscriptions.cancel(shop.namespace, begun.id, end, end)
    [foreseen] = await left(shop, customer, end + COLLECTED)
    await shop.bill(end + COLLECTED)
    first, second = await shop.invoices()

    assert money(first) == ("30.00", "25.00", "5.00")
    # 10.00 of credit would have paid for the ten days: 15.00 comes back as credit, 5.00 as money.
    assert money(second) == ("-20.00", "-15.00", "-5.00")
    assert (foreseen.settled, foreseen.live) == (D(0), D("15.00"))
    assert [x.live for x in await left(shop, customer, end + COLLECTED)] == [D("15.00")]
    assert [amount for _, amount, _ in await booked(shop, customer)] == [
        "25.00", "-25.00", "15.00",
    ]  # fmt: skip
    assert (await recounted(shop.books, second))[0].totals == second.lines[0].totals


async def test_the_balance_knows_what_is_not_billed_yet(shop: Shop) -> None:
    customer = await sold(shop)
    await granted(shop, customer, "5.00")
    await granted(shop, customer, "7.00", effective_at=DECEMBER)
    at = NOVEMBER + 2 * DAY
    await shop.use(MILLION, NOVEMBER + DAY)

    [shown] = await preview(shop.books, shop.namespace, customer.id, at)
    assert money(shown) == ("2.00", "2.00", "0.00")
    assert await left(shop, customer, at) == [
        CreditBalance("USD", live=D("3.00"), settled=D("5.00"), pending=D("7.00"))
    ]
    await shop.bill(DECEMBER)
    assert await left(shop, customer, DECEMBER) == [
        CreditBalance("USD", live=D("10.00"), settled=D("12.00"), pending=D(0))
    ]
    await shop.bill(DECEMBER + COLLECTED)
    assert await left(shop, customer, DECEMBER + COLLECTED) == [
        CreditBalance("USD", live=D("10.00"), settled=D("10.00"), pending=D(0))
    ]
    assert await left(shop, customer, DECEMBER + COLLECTED, at=at) == [
        CreditBalance("USD", live=D("5.00"), settled=D("5.00"), pending=D("7.00"))
    ]


async def test_what_was_billed_ahead_is_left_no_more(shop: Shop) -> None:
    customer = await sold(shop)
    await granted(shop, customer, "5.00")
    at = NOVEMBER + 2 * DAY
    await shop.use(MILLION, NOVEMBER + DAY)
    await shop.bill(DECEMBER + COLLECTED)

    assert await left(shop, customer, at) == [
        CreditBalance("USD", live=D("3.00"), settled=D("3.00"), pending=D(0))
    ]


async def test_what_expired_within_a_period_pays_for_it_and_the_rest_is_booked_as_expired(
    shop: Shop,
) -> None:
    customer = await sold(shop)
    await granted(shop, customer, "5.00", expires_at=NOVEMBER + 5 * DAY)
    await shop.use(MILLION, NOVEMBER + DAY)
    await shop.bill(NOVEMBER + 6 * DAY)
    before = await booked(shop, customer)
    await shop.bill(DECEMBER + COLLECTED)
    [invoice] = await shop.invoices()

    assert before == [("funded", "5.00", "5.00")]
    assert money(invoice) == ("2.00", "2.00", "0.00")
    assert (await booked(shop, customer))[1:] == [
        ("consumed", "-2.00", "3.00"),
        ("expired", "-3.00", "0.00"),
    ]


async def test_a_voided_grant_keeps_what_was_used_and_gets_nothing_back(shop: Shop) -> None:
    customer = await sold(shop)
    grant = await granted(shop, customer, "5.00")
    await shop.use(MILLION, NOVEMBER + DAY)
    await shop.bill(DECEMBER + COLLECTED)
    at = DECEMBER + DAY
    voided = await shop.books.credits.void(shop.namespace, customer.id, grant.id, at)
    [invoice] = await shop.invoices()
    await trigger(shop.books, shop.namespace, invoice.id, Trigger.VOID, at)

    assert voided.status_at(at) is GrantStatus.VOIDED
    assert await booked(shop, customer) == [
        ("funded", "5.00", "5.00"),
        ("consumed", "-2.00", "3.00"),
        ("voided", "-3.00", "0.00"),
        ("consumed", "2.00", "2.00"),
        ("voided", "-2.00", "0.00"),
    ]
    with pytest.raises(Conflict):
        await shop.books.credits.void(shop.namespace, customer.id, grant.id, at)
    sums = await shop.books.ledger.sums(shop.namespace)
    assert (sum(sums.values()), sums["funding"], sums["voided"]) == (0, -500, 500)


async def test_the_database_itself_refuses_a_ledger_that_was_changed_or_does_not_add_up(
    shop: Shop,
) -> None:
    customer = await sold(shop)
    grant = await granted(shop, customer, "5.00")
    too_much = funded(grant, NOVEMBER)
    too_much = type(too_much)(
        **{
            **vars(too_much),
            "id": "x".ljust(26),
            "entries": (
                CreditEntry(grant.id, CreditAccount.AVAILABLE, CreditAccount.CONSUMED, D("5.01")),
            ),
        }
    )
    with pytest.raises(LedgerError):
        async with shop.database.writing() as connection:
            await book(connection, [too_much])
    for statement in (
        "UPDATE credit_entries SET amount = 1",
        "DELETE FROM credit_entries",
        "UPDATE credit_transactions SET amount = 1",
        "DELETE FROM credit_transactions",
        "INSERT INTO credit_entries SELECT transaction_id, 9, grant_id, 'funding', 'funding', 1, "
        "NULL, NULL FROM credit_entries",
        "INSERT INTO credit_entries SELECT transaction_id, 9, grant_id, 'funding', 'available', "
        "-1, NULL, NULL FROM credit_entries",
    ):
        with pytest.raises(DBAPIError):
            async with shop.database.writing() as connection:
                await connection.execute(text(statement))

    assert await booked(shop, customer) == [("funded", "5.00", "5.00")]


async def test_a_look_at_credit_tops_it_up_once_usage_has_brought_it_below_the_threshold(
    shop: Shop,
) -> None:
    customer = await sold(shop)
    at = NOVEMBER + 2 * DAY
    amounts = {"threshold": D("4.00"), "amount": D("10.00"), "most_per_month": D("10.00")}
    wanted = CreditTopUp(
        shop.namespace, customer.id, "USD", **amounts, created_at=NOVEMBER, updated_at=NOVEMBER
    )
    await CreditTopUpStore(shop.database).put(wanted)
    await granted(shop, customer, "5.00")
    watch = CreditWatch(shop.books, lambda: at, lambda _: True)
    await watch.refresh()
    before = (await shop.books.credits.page(customer.id, now=at))[1]
    await shop.use(MILLION, NOVEMBER + DAY)
    await watch.refresh()
    await watch.refresh()
    grants, _ = await shop.books.credits.page(customer.id, now=at)

    assert (before, watch.live(customer.id, "USD")) == (1, D("3.00"))
    assert [(x.name, x.status_at(at)) for x in grants] == [
        ("5.00 free", GrantStatus.ACTIVE),
        ("Top-up 1", GrantStatus.PENDING),
    ]
    asked = await StripeOperationStore(shop.database).get(shop.namespace, grants[1].id)
    assert (asked.kind, asked.amount) == (OperationKind.TOP_UP, D("10.00"))


async def test_a_credit_note_gives_back_as_credit_what_credit_paid(shop: Shop) -> None:
    await shop.plan(await shop.card("fee", FlatPrice(D(30))))
    customer = await shop.customer()
    begun = await shop.subscribe()
    await granted(shop, customer, "25.00")
    await shop.bill(NOVEMBER + COLLECTED)
    end = NOVEMBER + 10 * DAY
    await shop.books.subscriptions.cancel(shop.namespace, begun.id, end, end)
    [invoice] = await shop.invoices()
    at = end + COLLECTED
    await trigger(shop.books, shop.namespace, invoice.id, Trigger.PAY, at)
    order = CreditOrder(invoice.id, "left early")
    note = await credit_corrections(shop.books, shop.namespace, order, at)
    await shop.bill(at)

    assert note.total == D("5.00")
    assert [amount for _, amount, _ in await booked(shop, customer)] == [
        "25.00", "-25.00", "15.00",
    ]  # fmt: skip
    assert len(await shop.invoices()) == 1  # nothing is given back a second time
    with pytest.raises(Conflict, match="credit was given back"):
        await void_note(shop.books, shop.namespace, note.id, at)


async def test_what_begins_and_expires_is_booked_for_who_has_no_subscription_too(
    shop: Shop,
) -> None:
    customer = await shop.customer()
    await granted(
        shop, customer, "5.00", effective_at=NOVEMBER + DAY, expires_at=NOVEMBER + 3 * DAY
    )
    await shop.bill(NOVEMBER + DAY)
    begun = await booked(shop, customer)
    for _ in range(2):
        await shop.bill(NOVEMBER + 3 * DAY)

    assert begun == [("funded", "5.00", "5.00")]
    assert await booked(shop, customer) == [
        ("funded", "5.00", "5.00"),
        ("expired", "-5.00", "0.00"),
    ]
