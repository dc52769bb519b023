"""Our credit notes and refunds at Stripe: made there once, and followed here to where they end."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D

import pytest
from sqlalchemy import insert
from tallyman.billing.books import Books
from tallyman.billing.credit import Order, creditable, let_off, void_note
from tallyman.billing.give_back import hearers, refund
from tallyman.domain.billing_profile import CollectionMethod
from tallyman.domain.credit_note import Credit, CreditNote
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_line import Totals
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.refund import RefundState
from tallyman.domain.stripe_operation import OperationState
from tallyman.errors import Conflict, InvalidInput
from tallyman.store.audit_pages import AuditPages
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.comparison import Comparison
from tallyman.store.refunds import RefundAsked
from tallyman.store.tables import credit_transactions

from tests.integration.payments.conftest import Till
from tests.integration.payments.killing import work_until_killed
from tests.integration.payments.test_operations import hear, paid, unpaid
from tests.rigs.stripe import Fault

MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """A chDB without events: what is credited here was counted before."""
    opened = ClickHouse.embedded(str(tmp_path_factory.mktemp("chdb")))
    yield opened
    asyncio.run(opened.close())


@pytest.fixture
async def books(till: Till, clickhouse: ClickHouse) -> Books:
    """The books of the till, whose app tells them what becomes of everything."""
    found = Books(till.database, clickhouse)
    await till.app.close()
    till.app = till.restart(hearers(found))
    return found


async def credit(
    books: Books, till: Till, invoice: Invoice, amount: str | None, key: str | None = None
) -> CreditNote:
    """What is taken back of the first line, or all that is left; what was paid comes back."""
    order = Order(invoice.id, "an outage", "key-1", key, refund=True)
    wanted = [] if amount is None else [Credit(invoice.lines[0].id, D(amount))]
    return await let_off(books, till.namespace, order, wanted, till.now)


async def refunds(books: Books, till: Till) -> list[tuple[D, RefundState]]:
    found, _ = await books.refunds.page(till.namespace)
    return [(one.amount, one.state) for one in found]


async def test_a_credit_note_of_a_paid_invoice_gives_the_money_back(
    books: Books, till: Till
) -> None:
    invoice = await paid(till)
    note = await credit(books, till, invoice, "3.00")
    asked = await refunds(books, till)

    await till.app.work()

    [there] = till.stripe.credit_notes.values()
    assert (there["refund_amount"], [line["description"] for line in there["lines"]]) == (
        300, [invoice.lines[0].name],
    )  # fmt: skip
    kept = await books.credit_notes.get(till.namespace, note.id)
    assert kept == replace(note, external_id=there["id"])
    assert (asked, await refunds(books, till)) == (
        [(D("3.00"), RefundState.PENDING)], [(D("3.00"), RefundState.SUCCEEDED)],
    )  # fmt: skip
    assert (await till.get(invoice)).state is InvoiceState.PAID
    with pytest.raises(Conflict, match="is at Stripe"):
        await void_note(books, till.namespace, note.id, till.now)


async def test_of_an_open_invoice_less_is_owed_and_of_all_of_it_nothing(
    books: Books, till: Till
) -> None:
    invoice = await unpaid(till)

    await credit(books, till, invoice, "3.00")
    await till.app.work()
    left = till.stripe.owed(invoice.external_invoicing_id or "")
    await credit(books, till, invoice, None)
    await till.app.work()
    await till.app.work()

    assert (left, till.stripe.payments, await refunds(books, till)) == (1700, [], [])
    assert (await till.get(invoice)).state is InvoiceState.PAID


async def test_asked_again_with_its_key_it_is_made_once_at_stripe_too(
    books: Books, till: Till
) -> None:
    invoice = await paid(till)

    first = await credit(books, till, invoice, "3.00", key="ticket-7")
    await till.app.work()
    again = await credit(books, till, invoice, "3.00", key="ticket-7")
    await till.app.work()

    assert again.id == first.id
    assert len(till.stripe.credit_notes) == len(await refunds(books, till)) == 1


async def test_a_refund_that_stripe_refuses_is_failed_and_may_be_asked_again(
    books: Books, till: Till
) -> None:
    invoice = await paid(till)
    asked = RefundAsked(invoice.id, "an outage", "key-1", D("15.00"))
    await refund(books, till.namespace, asked, till.now)
    await till.app.work()
    with pytest.raises(InvalidInput, match=r"is more than the 5 USD"):
        await refund(books, till.namespace, asked, till.now)
    [there] = till.stripe.refunds.values()
    there["amount"] = "1800"  # somebody gave more back at Stripe
    more = await refund(books, till.namespace, replace(asked, amount=D("5.00")), till.now)

    await till.app.work()

    assert (await books.refunds.get(till.namespace, more.id)).state is RefundState.FAILED
    standing = await books.credit_notes.standing(till.namespace, invoice.id)
    assert standing.balance.refundable == D("5.00")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_any_call_one_credit_note_and_one_refund_are_made(
    books: Books, till: Till, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, killed = 0, True
    while killed:
        number += 1
        invoice = await till.issuing(await till.customer(f"c{number}"))
        await till.app.work()
        note = await credit(books, till, invoice, "3.00")
        asked = RefundAsked(invoice.id, "more", "key-1", D("1.00"))
        alone = await refund(books, till.namespace, asked, till.now)
        killed = await work_until_killed(till, when, number, monkeypatch, hearers(books))
        till.wait(10 * MINUTE)
        await till.app.work()

        found = await books.refunds.get(till.namespace, alone.id)
        assert found.state is RefundState.SUCCEEDED, number
        assert (await books.credit_notes.get(till.namespace, note.id)).external_id, number
        assert len(till.stripe.credit_notes) == number
        assert len(till.stripe.refunds) == 2 * number
    assert number > 2


@pytest.mark.parametrize("is_paid", [True, False])
async def test_an_amount_that_stripe_has_no_unit_for_is_refused_before_anything_stands(
    books: Books, till: Till, is_paid: bool
) -> None:
    method = CollectionMethod.CHARGE_AUTOMATICALLY if is_paid else CollectionMethod.SEND_INVOICE
    invoice = await till.issuing(await till.customer(), method=method, currency="KWD")
    await till.app.work()
    assert (await till.get(invoice)).paid_at is not None or not is_paid

    with pytest.raises(InvalidInput) as refused:
        await credit(books, till, invoice, "1.234")

    assert [one.field for one in refused.value.parameters] == ["lines[0].amount"]
    if is_paid:
        asked = RefundAsked(invoice.id, "an outage", "key-1", D("0.001"))
        with pytest.raises(InvalidInput) as not_given:
            await refund(books, till.namespace, asked, till.now)
        assert [one.field for one in not_given.value.parameters] == ["amount"]
    _, notes = await books.credit_notes.page(till.namespace)
    assert (notes, await refunds(books, till)) == (0, [])
    kept = await credit(books, till, invoice, "1.230")
    await till.app.work()
    [there] = till.stripe.credit_notes.values()
    assert (kept.number, there["lines"][0]["unit_amount"]) == ("CN-000001", "1230")


async def test_a_correction_that_stripe_has_no_unit_for_is_left_for_the_next_invoice(
    books: Books, till: Till
) -> None:
    invoice = await till.issuing(await till.customer(), currency="KWD")
    await till.app.work()
    standing = await books.credit_notes.standing(till.namespace, invoice.id)
    [tokens, calls] = [
        replace(line, version=2, corrects=line.id, totals=Totals(amount=back, total=back))
        for line, back in zip(invoice.lines, (D("-1.234"), D("-1.230")), strict=True)
    ]

    found = creditable(standing, [tokens, calls])

    assert [line.correction for line in found] == [calls]


async def test_a_credit_note_of_an_open_invoice_is_void_here_once_stripe_has_voided_it(
    books: Books, till: Till
) -> None:
    invoice = await unpaid(till)
    note = await credit(books, till, invoice, "3.00")
    await till.app.work()

    asked = await void_note(books, till.namespace, note.id, till.now, "no outage", by="key-1")
    still_owed = till.stripe.owed(invoice.external_invoicing_id or "")
    await till.app.work()
    again = await void_note(books, till.namespace, note.id, till.now)

    assert (asked.voided_at, still_owed) == (None, 1700)
    assert (again.voided_at, till.stripe.owed(invoice.external_invoicing_id or "")) == (
        till.now, 2000,
    )  # fmt: skip
    standing = await books.credit_notes.standing(till.namespace, invoice.id)
    assert (standing.balance.due, standing.lines[invoice.lines[0].id].credited) == (D(20), D(0))
    log = await AuditPages(till.database).page(
        till.namespace, [Comparison("entity_id", "eq", (note.id,))], size=20
    )
    assert [(one.action, one.actor) for one in log if one.entity == "credit_note"] == [
        ("voided", "stripe"), ("void_asked", "key-1"), ("created", "key-1"),
    ]  # fmt: skip


async def test_a_note_that_gave_credit_back_stands_where_somebody_voids_it_at_stripe(
    books: Books, till: Till, caplog: pytest.LogCaptureFixture
) -> None:
    invoice = await unpaid(till)
    note = await credit(books, till, invoice, "3.00")
    await till.app.work()
    async with till.database.writing() as connection:
        given = insert(credit_transactions).values(
            id="01JD0000000000000000000001", namespace=till.namespace, name="given back", amount=0,
            customer_id=invoice.customer.id, currency="USD", sequence=1, type="adjusted", labels={},
            invoice_id=note.id, available=0, booked_at=till.now,
        )  # fmt: skip
        await connection.execute(given)
    [there] = till.stripe.credit_notes.values()
    there["status"] = "void"

    await hear(till, "credit_note.voided", there)

    operation = await till.app.stores.operations.get(till.namespace, note.id)
    assert operation.state is OperationState.CANCELED
    assert (await books.credit_notes.get(till.namespace, note.id)).voided_at is None
    assert "was voided at Stripe and stands here" in caplog.text
    till.wait(MINUTE)
    assert await till.app.stores.operations.due(till.namespace, till.now, 10) == []


async def test_a_credit_note_that_is_not_at_stripe_yet_is_not_made_there(
    books: Books, till: Till
) -> None:
    invoice = await unpaid(till)
    note = await credit(books, till, invoice, "3.00")

    await void_note(books, till.namespace, note.id, till.now)
    await till.app.work()

    assert till.stripe.credit_notes == {}
    assert (await books.credit_notes.get(till.namespace, note.id)).voided_at == till.now


async def test_a_credit_note_stays_where_the_invoice_is_paid_before_it_is_void(
    books: Books, till: Till
) -> None:
    invoice = await unpaid(till)
    note = await credit(books, till, invoice, "3.00")
    await till.app.work()
    await void_note(books, till.namespace, note.id, till.now)
    till.stripe.take_payment(invoice.external_invoicing_id or "")

    await till.app.work()
    await till.app.work()

    kept = await till.app.stores.operations.get(till.namespace, note.id)
    assert (kept.state, kept.said) == (OperationState.SUCCEEDED, "the invoice is paid at Stripe")
    assert (await books.credit_notes.get(till.namespace, note.id)).voided_at is None
    till.wait(MINUTE)
    await till.app.work()
    with pytest.raises(Conflict, match="was settled with"):
        await void_note(books, till.namespace, note.id, till.now)


async def test_a_credit_note_that_stripe_refused_can_be_taken_back_here(
    books: Books, till: Till
) -> None:
    invoice = await paid(till)
    note = await credit(books, till, invoice, "3.00")
    till.stripe.faults = [Fault("POST credit_notes", answer=400, times=1)]
    await till.app.work()

    voided = await void_note(books, till.namespace, note.id, till.now)

    assert (voided.voided_at, till.stripe.credit_notes) == (till.now, {})
    assert [state for _, state in await refunds(books, till)] == [RefundState.FAILED]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_any_call_a_credit_note_is_voided(
    books: Books, till: Till, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, killed = 0, True
    while killed:
        number += 1
        method = CollectionMethod.SEND_INVOICE
        invoice = await till.issuing(await till.customer(f"c{number}"), method=method)
        await till.app.work()
        note = await credit(books, till, invoice, "3.00")
        await till.app.work()
        await void_note(books, till.namespace, note.id, till.now)
        killed = await work_until_killed(till, when, number, monkeypatch, hearers(books))
        till.wait(10 * MINUTE)
        await till.app.work()

        kept = await books.credit_notes.get(till.namespace, note.id)
        assert kept.voided_at is not None, number
        assert till.stripe.credit_notes[kept.external_id or ""]["status"] == "void", number
    assert number > 2
