"""What is deleted or voided here is not paid there, and its lines are billed again only then."""

from dataclasses import replace
from datetime import timedelta

import pytest
from tallyman.domain.billing_profile import CollectionMethod
from tallyman.domain.invoice import Invoice, act
from tallyman.domain.invoice_state import InvoiceState, Trigger

from tests.integration.payments.conftest import Till
from tests.rigs.stripe import Fault

S = InvoiceState


async def change(till: Till, invoice: Invoice, *triggers: Trigger) -> Invoice:
    """Someone acts on it over the API."""
    after = invoice
    for trigger in triggers:
        after = act(after, trigger, till.now)
    [kept] = await till.invoices.replace(till.namespace, [(invoice, after)])
    return kept


async def test_an_invoice_that_never_came_to_stripe_is_deleted_at_once(till: Till) -> None:
    invoice = await till.issuing(await till.customer())
    await change(till, invoice, Trigger.DELETE, Trigger.ADVANCE)

    await till.app.work()

    assert (await till.get(invoice)).state is S.DELETED
    assert till.stripe.calls == []


@pytest.mark.parametrize("has_effect", [True, False], ids=["finalized", "not finalized"])
async def test_an_invoice_that_may_be_final_at_stripe_is_voided_there_before_it_is_deleted(
    till: Till, has_effect: bool
) -> None:
    invoice = await till.issuing(await till.customer())
    till.stripe.faults = [Fault("POST invoices/finalize", None, has_effect=has_effect)]
    await till.app.work()
    await change(till, await till.get(invoice), Trigger.DELETE, Trigger.ADVANCE)

    till.wait(timedelta(minutes=10))
    await till.app.work()

    left = [one["status"] for one in till.stripe.invoices.values()]
    assert (await till.get(invoice)).state is S.DELETED
    assert left == (["void"] if has_effect else [])
    assert till.stripe.payments == []


async def test_an_invoice_that_is_paid_at_stripe_is_not_deleted(till: Till) -> None:
    invoice = await till.issuing(await till.customer())
    till.stripe.faults = [Fault("POST invoices/finalize", None, has_effect=True)]
    await till.app.work()
    [stripe_id] = till.stripe.invoices
    till.stripe.take_payment(stripe_id)
    await change(till, await till.get(invoice), Trigger.DELETE, Trigger.ADVANCE)

    till.wait(timedelta(minutes=10))
    await till.app.work()

    kept = await till.get(invoice)
    assert kept.state is S.DELETE_FAILED
    assert "is paid at Stripe" in kept.validation_issues[0].message


async def test_an_invoice_that_is_voided_here_is_voided_there(till: Till) -> None:
    method = CollectionMethod.SEND_INVOICE
    invoice = await till.issuing(await till.customer(), method=method)
    await till.app.work()
    await change(till, await till.get(invoice), Trigger.VOID)

    await till.app.work()

    assert [one["status"] for one in till.stripe.invoices.values()] == ["void"]


async def test_an_invoice_that_was_paid_before_it_was_void_says_so(till: Till) -> None:
    method = CollectionMethod.SEND_INVOICE
    invoice = await till.issuing(await till.customer(), method=method)
    await till.app.work()
    [stripe_id] = till.stripe.invoices
    till.stripe.take_payment(stripe_id)
    await change(till, await till.get(invoice), Trigger.VOID)

    await till.app.work()

    void = await till.get(invoice)
    assert void.state is S.VOIDED
    assert [one.code for one in void.validation_issues] == ["stripe_paid_though_void"]


async def test_a_total_that_is_not_ours_is_never_finalized(till: Till) -> None:
    invoice = await till.issuing(await till.customer())
    till.stripe.surcharge = 7

    await till.app.work()

    failed = await till.get(invoice)
    assert failed.state is S.ISSUING_SYNC_FAILED
    assert failed.validation_issues[0].message == "Stripe comes to 2007, and the invoice to 2000"
    assert till.stripe.invoices == {}

    till.stripe.surcharge = 0
    await change(till, failed, Trigger.RETRY)
    await till.app.work()

    assert (await till.get(invoice)).state is S.PAID


async def test_what_stripe_refuses_waits_for_someone(till: Till) -> None:
    invoice = await till.issuing(await till.customer())
    await till.app.stores.links.put(
        replace(
            await till.app.stores.links.get(till.namespace, invoice.customer.id),
            stripe_id="cus_gone",
        ),
        till.now,
    )
    till.stripe.refuses = "No such customer: 'cus_gone'"

    await till.app.work()
    await till.app.work()

    failed = await till.get(invoice)
    assert failed.state is S.ISSUING_SYNC_FAILED
    assert "No such customer: 'cus_gone'" in failed.validation_issues[0].message
    assert till.stripe.calls.count("POST invoices") == 1
