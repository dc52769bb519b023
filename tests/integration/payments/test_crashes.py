"""A crash between any two calls, and every answer that Stripe may give, leave one invoice and one payment."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_state import InvoiceState
from tallyman.payments.backoff import LONGEST_WAIT
from tallyman.store.tables import stripe_customers, stripe_invoices

from tests.integration.payments.conftest import Till
from tests.integration.payments.killing import work_until_killed
from tests.rigs.stripe import Fault

CALLS = (
    "POST customers",
    "POST invoices",
    "POST invoices/add_lines",
    "POST invoices/finalize",
    "POST invoices/pay",
)
HOURS = timedelta(hours=1)
# What Stripe does is the same to both databases; a crash is tried on both.
ON_ONE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


async def settle(till: Till, invoice: Invoice) -> None:
    """Look again and again, as the server does, until it is paid or a day is over; then a day later."""
    for _ in range(30):
        if (await till.get(invoice)).state is InvoiceState.PAID:
            break
        till.wait(LONGEST_WAIT)
        await till.app.work()
    till.wait(25 * HOURS)
    await till.app.work()


def is_once(till: Till) -> bool:
    """One invoice, paid once, and no draft that was left behind; each customer once."""
    states = [one["status"] for one in till.stripe.invoices.values()]
    names = [one["name"] for one in till.stripe.customers.values()]
    once = len(names) == len(set(names))
    return once and states == ["paid"] and list(till.stripe.paid().values()) == [1]


@pytest.mark.parametrize("restart_after", [10 * timedelta(minutes=1), 25 * HOURS], ids=str)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_before_or_after_any_call_there_is_one_invoice_and_one_payment(
    till: Till, when: str, restart_after: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, number = True, 0
    while killed:
        number += 1
        customer = await till.customer(f"c{number}")
        invoice = await till.issuing(customer)
        till.stripe.payments.clear()
        till.stripe.invoices.clear()
        killed = await work_until_killed(till, when, number, monkeypatch)
        till.wait(restart_after)
        await till.app.work()

        assert is_once(till), number
        assert (await till.get(invoice)).state is InvoiceState.PAID
        assert len([x for x in till.stripe.customers.values() if x["name"] == customer.name]) == 1
    assert number > 6


@ON_ONE
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"answer": 429}, id="429"),
        pytest.param({"answer": 500}, id="500 without effect, for ever under its key"),
        pytest.param({"answer": 500, "has_effect": True}, id="500 with effect"),
        pytest.param({"answer": 500, "kept": False}, id="500 that is not kept"),
        pytest.param({"answer": None}, id="time-out without effect"),
        pytest.param({"answer": None, "has_effect": True}, id="time-out with effect"),
    ],
)
async def test_whatever_stripe_answers_there_is_one_invoice_and_one_payment(
    till: Till, call: str, fault: dict[str, Any]
) -> None:
    invoice = await till.issuing(await till.customer())
    till.stripe.faults = [Fault(call, **fault)]

    await till.app.work()
    assert (await till.get(invoice)).state is not InvoiceState.PAID or fault.get("has_effect")
    await settle(till, invoice)

    assert is_once(till)
    assert (await till.get(invoice)).state is InvoiceState.PAID
    assert call in till.stripe.calls


@ON_ONE
@pytest.mark.parametrize("call", CALLS)
async def test_when_stripe_is_away_for_two_days_there_is_one_invoice_and_one_payment(
    till: Till, call: str
) -> None:
    invoice = await till.issuing(await till.customer())
    # The first one has an effect that nobody hears of; Stripe has forgotten the key in the end.
    till.stripe.faults = [Fault(call, None, has_effect=True), Fault(call, None, times=1)]

    await till.app.work()
    till.wait(48 * HOURS)
    await settle(till, invoice)

    assert is_once(till)
    assert (await till.get(invoice)).state is InvoiceState.PAID


async def test_two_servers_at_once_leave_one_invoice_and_one_payment(till: Till) -> None:
    invoices = [await till.issuing(await till.customer(f"c{at}")) for at in range(5)]
    others = [till.restart() for _ in range(3)]

    await asyncio.gather(*(one.work() for one in (till.app, *others)))

    assert set(till.stripe.paid().values()) == {1}
    assert len(till.stripe.payments) == len(till.stripe.invoices) == len(invoices)
    for other in others:
        await other.close()


@pytest.mark.parametrize("later", [timedelta(minutes=10), 25 * HOURS], ids=str)
async def test_when_an_older_backup_is_restored_there_is_one_invoice_and_one_payment(
    till: Till, later: timedelta
) -> None:
    invoice = await till.issuing(await till.customer())
    await till.app.work()
    assert is_once(till)

    async with till.database.writing() as connection:
        for table in (stripe_invoices, stripe_customers):
            await connection.execute(delete(table))
    sent = await till.get(invoice)
    again = replace(sent, state=invoice.state, external_invoicing_id=None, paid_at=None)
    [_] = await till.invoices.replace(till.namespace, [(sent, again)])
    till.wait(later)
    await till.app.work()

    assert is_once(till)
    assert (await till.get(invoice)).state is InvoiceState.PAID
