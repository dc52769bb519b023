"""An invoice goes to Stripe once and is paid once, whatever happens on the way."""

from dataclasses import replace
from datetime import timedelta

from tallyman.billing.advance import walk
from tallyman.domain.billing_profile import App, CollectionMethod
from tallyman.domain.invoice_state import InvoiceState

from tests.integration.payments.conftest import Till


async def test_an_invoice_is_sent_line_by_line_and_paid(till: Till) -> None:
    invoice = await till.issuing(await till.customer())

    await till.app.work()

    paid = await till.get(invoice)
    [(stripe_id, amount)] = till.stripe.payments
    assert paid.state is InvoiceState.PAID
    assert paid.external_invoicing_id == stripe_id
    assert paid.external_payment_id == f"pi_{stripe_id}"
    assert amount == 2000
    lines = till.stripe.lines[stripe_id]
    assert [line["metadata"]["tallyman_line"] for line in lines] == [x.id for x in paid.lines]
    assert [line["amount"] for line in lines] == ["1000", "1000"]
    assert lines[0]["description"] == (
        "Tokens: 5,000,000 units at $0.000002 per unit; gpt-4o · request 5,000,000 units"
    )


async def test_what_is_not_for_stripe_is_left_alone(till: Till) -> None:
    customer = await till.customer()
    invoice = await till.issuing(customer, app=App.SANDBOX)

    await till.app.work()

    assert till.stripe.calls == []
    assert (await till.get(invoice)).state is InvoiceState.ISSUING_SYNCING


async def test_an_invoice_that_is_to_be_sent_is_sent_and_waits(till: Till) -> None:
    method = CollectionMethod.SEND_INVOICE
    invoice = await till.issuing(await till.customer(), method=method)

    await till.app.work()

    waiting = await till.get(invoice)
    assert waiting.state is InvoiceState.PAYMENT_PENDING
    assert waiting.sent_to_customer_at == till.now
    assert till.stripe.sent == [waiting.external_invoicing_id]
    assert till.stripe.payments == []


async def test_nothing_is_done_twice_when_there_is_nothing_to_do(till: Till) -> None:
    await till.issuing(await till.customer())
    await till.app.work()
    calls = list(till.stripe.calls)

    till.wait(timedelta(days=2))
    await till.app.work()

    assert till.stripe.calls == calls


async def test_an_invoice_of_stripe_s_profile_waits_until_stripe_has_it(till: Till) -> None:
    invoice = await till.issuing(await till.customer(), state=InvoiceState.DRAFT_READY_TO_ISSUE)

    walked = walk(invoice, till.now)

    assert walked.state is InvoiceState.ISSUING_SYNCING
    assert walked.wakes_at is None
    assert walk(replace(invoice, app=App.SANDBOX), till.now).state is InvoiceState.PAYMENT_PENDING
    assert walk(replace(invoice, app=App.EXTERNAL_INVOICING), till.now).state is (
        InvoiceState.PAYMENT_PENDING
    )


async def test_the_way_to_pay_that_is_linked_is_used(
    till: Till,
) -> None:
    customer = await till.customer()
    links = till.app.stores.links
    link = await links.get(till.namespace, customer.id)
    await links.put(replace(link, default_payment_method_id="pm_1"), till.now)

    await till.issuing(customer)
    await till.app.work()

    [made] = till.stripe.invoices.values()
    assert made["default_payment_method"] == "pm_1"
