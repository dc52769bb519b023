"""Stripe's webhooks move an invoice to where it stands there, in any order and any number of times."""

import time
from datetime import timedelta

import pytest
from tallyman.domain.billing_profile import CollectionMethod
from tallyman.domain.invoice import Invoice, act
from tallyman.domain.invoice_state import InvoiceState, Trigger
from tallyman.errors import InvalidInput
from tallyman.payments.webhook import read_event

from tests.integration.payments.conftest import Till
from tests.rigs.stripe import SECRET, signed

S = InvoiceState


async def waiting(till: Till) -> Invoice:
    """An invoice that was sent, and is to be paid by the customer."""
    method = CollectionMethod.SEND_INVOICE
    invoice = await till.issuing(await till.customer(), method=method)
    await till.app.work()
    return await till.get(invoice)


async def hear(till: Till, type_: str, invoice: Invoice, number: int | None = None) -> str:
    """A webhook arrives, and the server looks."""
    assert invoice.external_invoicing_id is not None
    body = till.stripe.event(type_, invoice.external_invoicing_id, number)
    event, _ = read_event(body, signed(body), SECRET)
    result = await till.app.webhooks.take(event, till.now)
    await till.app.work()
    return result


@pytest.mark.parametrize(
    ("at_stripe", "intent", "ours"),
    [
        pytest.param("paid", "succeeded", S.PAID, id="paid"),
        pytest.param("open", "requires_payment_method", S.PAYMENT_FAILED, id="failed"),
        pytest.param("open", "requires_action", S.PAYMENT_ACTION_REQUIRED, id="action required"),
        pytest.param("open", "requires_capture", S.PAYMENT_AUTHORIZED, id="authorized"),
        pytest.param("open", "processing", S.PAYMENT_PENDING, id="on its way"),
        pytest.param("uncollectible", "canceled", S.UNCOLLECTIBLE, id="uncollectible"),
        pytest.param("void", "canceled", S.VOIDED, id="voided there"),
    ],
)
async def test_a_webhook_moves_the_invoice(
    till: Till, at_stripe: str, intent: str, ours: InvoiceState
) -> None:
    invoice = await waiting(till)
    assert invoice.external_invoicing_id is not None
    till.stripe.invoices[invoice.external_invoicing_id] |= {
        "status": at_stripe,
        "intent": intent,
        "attempted": True,
    }

    assert await hear(till, "invoice.updated", invoice) == "new"

    assert (await till.get(invoice)).state is ours


async def test_a_webhook_that_it_is_overdue_moves_it_and_it_may_still_be_paid(till: Till) -> None:
    invoice = await waiting(till)
    till.wait(timedelta(days=31))

    await hear(till, "invoice.overdue", invoice)
    overdue = await till.get(invoice)
    till.stripe.take_payment(invoice.external_invoicing_id or "")
    await hear(till, "invoice.paid", invoice)

    assert overdue.state is S.OVERDUE
    assert (await till.get(invoice)).state is S.PAID


async def test_webhooks_in_the_wrong_order_leave_it_paid(till: Till) -> None:
    invoice = await waiting(till)
    assert invoice.external_invoicing_id is not None
    failed = till.stripe.event("invoice.payment_failed", invoice.external_invoicing_id, 1)
    till.stripe.take_payment(invoice.external_invoicing_id)

    await hear(till, "invoice.paid", invoice, 2)
    event, _ = read_event(failed, signed(failed), SECRET)
    await till.app.webhooks.take(event, till.now)
    await till.app.work()

    assert (await till.get(invoice)).state is S.PAID


async def test_a_webhook_that_comes_again_changes_nothing(till: Till) -> None:
    invoice = await waiting(till)
    assert invoice.external_invoicing_id is not None
    till.stripe.take_payment(invoice.external_invoicing_id)
    await hear(till, "invoice.paid", invoice, 7)
    paid, calls = await till.get(invoice), len(till.stripe.calls)

    assert await hear(till, "invoice.paid", invoice, 7) == "known"

    assert await till.get(invoice) == paid
    assert len(till.stripe.calls) == calls


async def test_an_invoice_of_somebody_else_is_ignored(till: Till) -> None:
    invoice = await waiting(till)
    till.stripe.invoices["in_other"] = {"id": "in_other", "object": "invoice", "status": "paid"}
    till.stripe.lines["in_other"] = []
    body = till.stripe.event("invoice.paid", "in_other")
    event, _ = read_event(body, signed(body), SECRET)

    assert await till.app.webhooks.take(event, till.now) == "ignored"
    await till.app.work()
    assert (await till.get(invoice)).state is S.PAYMENT_PENDING


async def test_a_lost_webhook_is_made_up_for(till: Till) -> None:
    invoice = await waiting(till)
    assert invoice.external_invoicing_id is not None
    till.stripe.take_payment(invoice.external_invoicing_id)

    till.wait(timedelta(hours=6))
    await till.app.work()

    assert (await till.get(invoice)).state is S.PAID


@pytest.mark.parametrize(
    ("body", "header"),
    [
        pytest.param(b'{"id": "evt_1"}', None, id="no signature"),
        pytest.param(b'{"id": "evt_1"}', "", id="an empty one"),
        pytest.param(b'{"id": "evt_1"}', "nonsense", id="nonsense"),
        pytest.param(b'{"id": "evt_1"}', "t=1,v1=é", id="not ASCII"),
        pytest.param(b"\xff", "t=1,v1=00", id="a body that is no text"),
        pytest.param(b"{}", signed(b"{}", "whsec_another"), id="another secret"),
        pytest.param(b"{ }", signed(b"{}"), id="another body"),
        pytest.param(b"{}", signed(b"{}", at=int(time.time()) - 3600), id="an hour old"),
        pytest.param(b"{}", signed(b"{}"), id="signed, but no event"),
        pytest.param(b"[]", signed(b"[]"), id="signed, but no object"),
    ],
)
def test_a_forged_webhook_is_refused(body: bytes, header: str | None) -> None:
    with pytest.raises(InvalidInput):
        read_event(body, header, SECRET)


@pytest.mark.parametrize("declines", ["declined", "action", "none"])
async def test_a_declined_payment_is_failed_and_paid_when_it_is_retried(
    till: Till, declines: str
) -> None:
    till.stripe.declines = declines
    invoice = await till.issuing(await till.customer())
    await till.app.work()
    failed = await till.get(invoice)
    expected = S.PAYMENT_ACTION_REQUIRED if declines == "action" else S.PAYMENT_FAILED
    assert failed.state is expected
    assert failed.validation_issues[0].code == "stripe_payment_refused"

    till.stripe.declines = None
    till.wait(timedelta(minutes=1))
    await retry(till, failed)
    till.wait(timedelta(seconds=10))
    await till.app.work()

    paid = await till.get(invoice)
    assert (paid.state, paid.validation_issues) == (S.PAID, ())
    assert till.stripe.paid() == {paid.external_invoicing_id: 1}


async def retry(till: Till, invoice: Invoice) -> None:
    """What the action `retry` does."""
    after = act(invoice, Trigger.RETRY, till.now)
    [_] = await till.invoices.replace(till.namespace, [(invoice, after)])
