"""Credit notes, refunds and top-ups are done once, whatever happens on the way, and are heard of."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from tallyman.domain.billing_profile import App, CollectionMethod
from tallyman.domain.content_id import content_id
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.period import EPOCH
from tallyman.domain.stripe_operation import (
    OperationKind,
    OperationLine,
    OperationState,
    Returned,
    StripeOperation,
)
from tallyman.errors import Conflict
from tallyman.payments.backoff import LONGEST_WAIT
from tallyman.payments.webhook import read_event
from tallyman.store.audit import AuditLog

from tests.integration.payments.conftest import Till
from tests.integration.payments.killing import work_until_killed
from tests.rigs.stripe import SECRET, Fault, signed

S, K = OperationState, OperationKind
HOURS = timedelta(hours=1)
# What Stripe does is the same to both databases; test_crashes.py tries crashes on both.
ON_ONE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def asked(
    till: Till, kind: OperationKind, about: Invoice, amount: str = "5.00", **rest: Any
) -> StripeOperation:
    """What somebody asks for; the same kind about the same invoice has the same id."""
    given = {"invoice_id": None if kind is K.TOP_UP else about.id, **rest}
    return StripeOperation(
        id=content_id(EPOCH, kind, about.id, rest.get("name", "")),
        namespace=till.namespace,
        kind=kind,
        customer_id=about.customer.id,
        currency="USD",
        lines=(OperationLine("Tokens", D(amount) - 1), OperationLine("Calls", D(1))),
        **{name: value for name, value in given.items() if name != "name"},
    )


async def ask(till: Till, *args: Any, **rest: Any) -> StripeOperation:
    return await till.app.stores.operations.ask(asked(till, *args, **rest), till.now)


async def kept(till: Till, operation: StripeOperation) -> StripeOperation:
    return await till.app.stores.operations.get(till.namespace, operation.id)


async def paid(till: Till) -> Invoice:
    """An invoice of $20.00 that Stripe was paid for."""
    invoice = await till.issuing(await till.customer())
    await till.app.work()
    return await till.get(invoice)


async def unpaid(till: Till) -> Invoice:
    """An invoice of $20.00 that the customer has not paid yet."""
    method = CollectionMethod.SEND_INVOICE
    invoice = await till.issuing(await till.customer(), method=method)
    await till.app.work()
    return await till.get(invoice)


@pytest.mark.parametrize(
    ("returned", "field"),
    [
        pytest.param(Returned.REFUND, "refund_amount", id="as money"),
        pytest.param(Returned.BALANCE, "credit_amount", id="as Stripe's balance"),
        pytest.param(Returned.ELSEWHERE, "out_of_band_amount", id="not by Stripe"),
    ],
)
async def test_a_credit_note_of_a_paid_invoice_gives_it_back(
    till: Till, returned: Returned, field: str
) -> None:
    operation = await ask(till, K.CREDIT_NOTE, await paid(till), returned=returned)

    await till.app.work()

    done = await kept(till, operation)
    [note] = till.stripe.credit_notes.values()
    assert (done.state, done.stripe_id, note[field]) == (S.SUCCEEDED, note["id"], 500)
    assert [line["description"] for line in note["lines"]] == ["Tokens", "Calls"]
    assert len(till.stripe.refunds) == (returned is Returned.REFUND)


async def test_a_credit_note_of_an_open_invoice_leaves_less_to_pay_and_of_all_of_it_nothing(
    till: Till,
) -> None:
    invoice = await unpaid(till)
    assert invoice.external_invoicing_id is not None

    await ask(till, K.CREDIT_NOTE, invoice)
    await till.app.work()
    assert till.stripe.owed(invoice.external_invoicing_id) == 1500
    await ask(till, K.CREDIT_NOTE, invoice, "15.00", name="the rest")
    await till.app.work()
    await till.app.work()

    assert till.stripe.payments == []
    assert (await till.get(invoice)).state is InvoiceState.PAID


async def test_a_credit_note_waits_until_its_invoice_is_at_stripe(till: Till) -> None:
    till.stripe.faults = [Fault("POST invoices", 500, kept=False)]
    invoice = await till.issuing(await till.customer())
    operation = await ask(till, K.CREDIT_NOTE, invoice)

    await till.app.work()
    assert (await kept(till, operation)).state is S.ASKED
    till.wait(HOURS)
    await till.app.work()

    assert (await kept(till, operation)).state is S.SUCCEEDED


async def test_a_refund_gives_back_what_was_paid_and_no_more(till: Till) -> None:
    invoice = await paid(till)
    first = await ask(till, K.REFUND, invoice, "15.00")
    await till.app.work()
    too_much = await ask(till, K.REFUND, invoice, "5.01", name="more")

    await till.app.work()

    refused = await kept(till, too_much)
    assert (await kept(till, first)).state is S.SUCCEEDED
    assert refused.state is S.REFUSED
    assert "greater than unrefunded amount" in (refused.said or "")
    assert [x["amount"] for x in till.stripe.refunds.values()] == ["1500"]


async def test_a_refund_that_is_on_its_way_is_followed_to_its_end(till: Till) -> None:
    till.stripe.refund_ends = "pending"
    operation = await ask(till, K.REFUND, await paid(till))
    await till.app.work()
    assert (await kept(till, operation)).state is S.PENDING

    [refund] = till.stripe.refunds.values()
    refund |= {"status": "failed", "failure_reason": "expired_or_canceled_card"}
    await hear(till, "refund.failed", refund)

    failed = await kept(till, operation)
    assert (failed.state, failed.said) == (S.FAILED, "expired_or_canceled_card")


async def test_what_was_not_paid_or_is_not_at_stripe_is_not_given_back(till: Till) -> None:
    sandbox = await till.issuing(await till.customer("other"), app=App.SANDBOX)
    not_there = await ask(till, K.REFUND, sandbox)
    open_ = await ask(till, K.REFUND, await unpaid(till))

    await till.app.work()

    assert (await kept(till, not_there)).state is S.REFUSED
    assert (await kept(till, open_)).state is S.REFUSED


async def test_a_top_up_is_an_invoice_of_its_own_that_is_paid(till: Till) -> None:
    invoice = await paid(till)
    operation = await ask(till, K.TOP_UP, invoice, "50.00")

    await till.app.work()

    done = await kept(till, operation)
    assert done.state is S.SUCCEEDED
    assert till.stripe.payments[-1] == (done.stripe_id, 5000)
    made = till.stripe.invoices[done.stripe_id or ""]
    assert made["metadata"]["tallyman_operation_id"] == operation.id
    assert done.payment_id == f"pi_{done.stripe_id}"


@pytest.mark.parametrize(
    ("declines", "state"),
    [("declined", S.FAILED), ("action", S.ACTION_REQUIRED), ("none", S.FAILED)],
)
async def test_a_top_up_that_is_declined_succeeds_when_it_is_paid_later(
    till: Till, declines: str, state: OperationState
) -> None:
    invoice = await paid(till)
    till.stripe.declines = declines
    operation = await ask(till, K.TOP_UP, invoice)
    await till.app.work()
    failed = await kept(till, operation)
    assert failed.state is state
    assert failed.said

    stripe_id = failed.stripe_id or ""
    till.stripe.take_payment(stripe_id)
    await hear(till, "invoice.paid", till.stripe.invoices[stripe_id])

    assert (await kept(till, operation)).state is S.SUCCEEDED


async def test_a_top_up_that_is_canceled_is_paid_no_more(till: Till) -> None:
    till.stripe.declines = "declined"
    invoice = await paid(till)
    operation = await ask(till, K.TOP_UP, invoice)
    await till.app.work()

    await till.app.stores.operations.cancel(till.namespace, operation.id, till.now)
    await till.app.work()

    done = await kept(till, operation)
    assert done.state is S.CANCELED
    assert till.stripe.invoices[done.stripe_id or ""]["status"] == "void"


async def test_a_top_up_that_was_paid_first_is_not_canceled(till: Till) -> None:
    till.stripe.declines = "declined"
    operation = await ask(till, K.TOP_UP, await paid_anyway(till))
    await till.app.work()
    till.stripe.take_payment((await kept(till, operation)).stripe_id or "")

    await till.app.stores.operations.cancel(till.namespace, operation.id, till.now)
    await till.app.work()

    assert (await kept(till, operation)).state is S.SUCCEEDED


async def paid_anyway(till: Till) -> Invoice:
    return await till.issuing(await till.customer(), app=App.SANDBOX)


async def test_a_top_up_is_refunded_by_its_own_payment(till: Till) -> None:
    invoice = await paid(till)
    top_up = await ask(till, K.TOP_UP, invoice)
    await till.app.work()

    refund = await ask(till, K.REFUND, invoice, invoice_id=None, top_up_id=top_up.id)
    await till.app.work()

    payment = (await kept(till, top_up)).payment_id
    assert (await kept(till, refund)).state is S.SUCCEEDED
    assert [x["payment_intent"] for x in till.stripe.refunds.values()] == [payment]


async def test_asking_again_is_the_same_and_another_thing_under_the_id_is_refused(
    till: Till,
) -> None:
    invoice = await paid(till)
    first = await ask(till, K.REFUND, invoice)
    await till.app.work()
    again = await ask(till, K.REFUND, invoice)
    await till.app.work()

    assert again.id == first.id
    assert again.state is S.SUCCEEDED
    assert len(till.stripe.refunds) == 1
    with pytest.raises(Conflict):
        await ask(till, K.REFUND, invoice, "6.00")
    actions = [
        (one.action, one.actor)
        for one in await AuditLog(till.database).entries(
            till.namespace, "stripe_operation", first.id
        )
    ]
    assert actions == [("asked", "local"), ("succeeded", "stripe")]


async def test_whoever_asked_hears_each_new_state_in_its_transaction(till: Till) -> None:
    heard: list[OperationState] = []

    async def listen(operation: StripeOperation) -> None:
        heard.append(operation.state)
        if len(heard) == 1:
            raise RuntimeError("the transaction fails")

    process = till.restart({K.TOP_UP: listen})
    invoice = await paid_anyway(till)
    operation = await ask(till, K.TOP_UP, invoice)
    await process.work()
    assert (await kept(till, operation)).state is S.ASKED

    till.wait(HOURS)
    await process.work()
    await process.work()

    assert heard == [S.SUCCEEDED, S.SUCCEEDED]
    assert (await kept(till, operation)).state is S.SUCCEEDED
    assert len(till.stripe.payments) == 1
    await process.close()


def is_once(till: Till) -> bool:
    """One credit note, one refund of it, one refund by itself, and one top-up that is paid once."""
    top_ups = [
        one
        for one in till.stripe.invoices.values()
        if "tallyman_operation_id" in one.get("metadata", {})
    ]
    return (
        len(till.stripe.credit_notes) == 1
        and sorted(int(x["amount"]) for x in till.stripe.refunds.values()) == [300, 500]
        and [one["status"] for one in top_ups] == ["paid"]
        and len(till.stripe.payments) == 2
    )


async def everything(till: Till, invoice: Invoice) -> list[StripeOperation]:
    """One of each kind."""
    return [
        await ask(till, K.CREDIT_NOTE, invoice),
        await ask(till, K.REFUND, invoice, "3.00"),
        await ask(till, K.TOP_UP, invoice, "50.00"),
    ]


@ON_ONE
@pytest.mark.parametrize("restart_after", [10 * timedelta(minutes=1), 25 * HOURS], ids=str)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_before_or_after_any_call_each_is_done_once(
    till: Till, when: str, restart_after: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, number = True, 0
    while killed:
        number += 1
        for left in (till.stripe.payments, till.stripe.invoices, till.stripe.credit_notes):
            left.clear()
        till.stripe.refunds.clear()
        invoice = await till.issuing(await till.customer(f"c{number}"))
        await till.app.work()
        operations = await everything(till, invoice)
        killed = await work_until_killed(till, when, number, monkeypatch)
        till.wait(restart_after)
        await till.app.work()

        assert is_once(till), number
        states = {(await kept(till, one)).state for one in operations}
        assert states == {S.SUCCEEDED}, number
    assert number > 8


@ON_ONE
@pytest.mark.parametrize("call", ["POST credit_notes", "POST refunds", "POST invoices"])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"answer": 429}, id="429"),
        pytest.param({"answer": 500}, id="500 without effect, for ever under its key"),
        pytest.param({"answer": 500, "has_effect": True}, id="500 with effect"),
        pytest.param({"answer": None}, id="time-out without effect"),
        pytest.param({"answer": None, "has_effect": True}, id="time-out with effect"),
    ],
)
async def test_whatever_stripe_answers_each_is_done_once(
    till: Till, call: str, fault: dict[str, Any]
) -> None:
    invoice = await paid(till)
    operations = await everything(till, invoice)
    till.stripe.faults = [Fault(call, **fault)]

    await till.app.work()
    for _ in range(30):
        if {(await kept(till, one)).state for one in operations} == {S.SUCCEEDED}:
            break
        till.wait(LONGEST_WAIT)
        await till.app.work()

    assert is_once(till)
    assert {(await kept(till, one)).state for one in operations} == {S.SUCCEEDED}


async def hear(till: Till, type_: str, about: dict[str, Any]) -> str:
    """A webhook arrives, and the server looks."""
    body = till.stripe.event_of(type_, about)
    event, _ = read_event(body, signed(body), SECRET)
    result = await till.app.webhooks.take(event, till.now)
    await till.app.work()
    return result


@pytest.mark.parametrize(
    ("type_", "about", "code", "said"),
    [
        pytest.param(
            "charge.refunded", {"object": "charge"}, "stripe_payment_refunded", "$2.50", id="refund"
        ),
        pytest.param(
            "charge.dispute.created",
            {"object": "dispute"},
            "stripe_payment_disputed",
            "needs_response",
            id="dispute",
        ),
    ],
)
async def test_what_comes_back_at_stripe_unasked_is_told_on_the_invoice(
    till: Till, type_: str, about: dict[str, Any], code: str, said: str
) -> None:
    invoice = await paid(till)
    payment = invoice.external_payment_id or ""
    await ask(till, K.REFUND, invoice)  # ours is no surprise
    await till.app.work()
    if about["object"] == "dispute":
        till.stripe.disputes[payment] = "needs_response"
    else:
        till.stripe.refunds["re_x"] = {
            "payment_intent": payment,
            "amount": 250,
            "status": "pending",
        }

    result = await hear(till, type_, about | {"id": "ch_1", "payment_intent": payment})

    told = await till.get(invoice)
    [issue] = told.validation_issues
    assert (result, told.state, issue.code) == ("new", InvoiceState.PAID, code)
    assert said in issue.message
    await hear(till, type_, about | {"id": "ch_1", "payment_intent": payment})
    assert await till.get(invoice) == told


@pytest.mark.parametrize("names_another", [False, True])
async def test_the_way_to_pay_that_a_customer_leaves_last_pays_from_then_on(
    till: Till, names_another: bool
) -> None:
    invoice = await paid(till)
    customer = invoice.customer
    links = till.app.stores.links
    link = await links.get(till.namespace, customer.id)
    if names_another:
        await links.put(replace(link, default_payment_method_id="pm_old"), till.now)
    ours = {"metadata": {"tallyman_customer_id": customer.id}, "customer": link.stripe_id}
    till.stripe.setups = [
        {"id": "seti_1", "status": "succeeded", "payment_method": "pm_1", **ours},
        {"id": "seti_2", "status": "succeeded", "payment_method": "pm_2", **ours},
        {"id": "seti_3", "status": "canceled", "payment_method": "pm_3", **ours},
        {"id": "seti_4", "status": "succeeded", "payment_method": "pm_4", **ours, "metadata": {}},
    ]

    for setup in reversed(till.stripe.setups[:2]):  # the older one is heard of last
        await hear(till, "setup_intent.succeeded", {"object": "setup_intent", **setup})

    at_stripe = till.stripe.customers[link.stripe_id or ""]
    assert at_stripe["invoice_settings"]["default_payment_method"] == "pm_2"
    named = (await links.get(till.namespace, customer.id)).default_payment_method_id
    assert named == ("pm_2" if names_another else None)


@pytest.mark.parametrize("names_another", [False, True])
async def test_what_could_not_be_paid_is_asked_for_again_when_a_way_to_pay_is_left(
    till: Till, names_another: bool
) -> None:
    till.stripe.declines = "none"
    customer, links = await till.customer(), till.app.stores.links
    if names_another:
        link = await links.get(till.namespace, customer.id)
        await links.put(replace(link, default_payment_method_id="pm_old"), till.now)
    invoice = await till.issuing(customer)
    await till.app.work()
    assert (await till.get(invoice)).state is InvoiceState.PAYMENT_FAILED
    till.stripe.declines = None
    link = await links.get(till.namespace, customer.id)
    ours = {"metadata": {"tallyman_customer_id": invoice.customer.id}, "customer": link.stripe_id}
    setup = {"id": "seti_1", "status": "succeeded", "payment_method": "pm_1", **ours}
    till.stripe.setups = [setup]

    till.wait(timedelta(minutes=1))
    await hear(till, "setup_intent.succeeded", {"object": "setup_intent", **setup})

    paid = await till.get(invoice)
    assert paid.state is InvoiceState.PAID
    assert list(till.stripe.paid().values()) == [1]
    used = till.stripe.invoices[paid.external_invoicing_id or ""]["paid_with"]
    assert used == ("pm_1" if names_another else None)
