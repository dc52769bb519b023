"""Every call that we make is one that Stripe's own spec takes."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from tallyman.api.customer_billing_bodies import (
    CheckoutAnswer,
    CheckoutRequest,
    PortalAnswer,
    PortalRequest,
)
from tallyman.domain.stripe_operation import (
    OperationKind,
    OperationLine,
    Returned,
    StripeOperation,
)
from tallyman.errors import StripeRefused
from tallyman.payments.credit_note import credit_note_params
from tallyman.payments.operation_calls import OperationCalls
from tallyman.payments.refund import refund_params
from tallyman.payments.stripe_calls import StripeCalls, StripeInvoice
from tallyman.payments.stripe_connection import StripeConnection
from tallyman.payments.stripe_lines import (
    changed_customer_params,
    customer_params,
    invoice_params,
    lines_of,
    operation_lines,
)
from tallyman.payments.top_up import top_up_params

from tests.rigs.invoices import ACME, every_kind, invoice
from tests.rigs.stripe_mock import StripeMockUnavailable, stripe_mock

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
INVOICE = invoice(every_kind(), description="November")
ASKED = StripeOperation(
    "01KB0000000000000000000000",
    "default",
    OperationKind.CREDIT_NOTE,
    ACME.id,
    "USD",
    (OperationLine("Tokens that were void", Decimal("1.50")),),
    INVOICE.id,
)
EVERY_OPTION = {
    "billing_address_collection": "auto",
    "cancel_url": "https://example.com/cancel",
    "client_reference_id": "ref",
    "consent_collection": {
        "payment_method_reuse_agreement": {"position": "auto"},
        "promotions": "none",
        "terms_of_service": "none",
    },
    "currency": "USD",
    "custom_text": {
        "after_submit": {"message": "a"},
        "shipping_address": {"message": "b"},
        "submit": {"message": "c"},
        "terms_of_service_acceptance": {"message": "d"},
    },
    "customer_update": {"address": "auto", "name": "auto", "shipping": "auto"},
    "expires_at": 1_800_000_000,
    "locale": "en",
    "metadata": {"a": "b"},
    "payment_method_types": ["card"],
    "redirect_on_completion": "always",
    "return_url": "https://example.com/return",
    "success_url": "https://example.com/success",
    "tax_id_collection": {"enabled": True, "required": "never"},
    "ui_mode": "hosted",
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    try:
        with stripe_mock() as running:
            yield running
    except StripeMockUnavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture
async def connection(address: str) -> AsyncIterator[StripeConnection]:
    made = StripeConnection("sk_test_123", address, 10)
    yield made
    await made.close()


@pytest.fixture
def calls(connection: StripeConnection) -> StripeCalls:
    return StripeCalls(connection)


def _invoice(**rest: Any) -> dict[str, Any]:
    return invoice_params(INVOICE, "cus_1", 0) | rest


def _checkout() -> dict[str, Any]:
    body = CheckoutRequest.model_validate({"stripe_options": EVERY_OPTION})
    return body.stripe_options.params("cus_1", ACME)


def _portal() -> dict[str, Any]:
    options = {"configuration_id": "bpc_1", "locale": "en", "return_url": "https://example.com"}
    return PortalRequest.model_validate({"stripe_options": options}).stripe_options.params("cus_1")


CALLS: dict[str, Callable[[StripeCalls], Awaitable[object]]] = {
    "account_id": lambda calls: calls.account_id(),
    "create_customer": lambda calls: calls.create_customer(customer_params(ACME, 0), "k1"),
    "customer_exists": lambda calls: calls.customer_exists("cus_1"),
    "find_customer": lambda calls: calls.find_customer({"none": "has this"}, BEGIN, BEGIN),
    "search_customer": lambda calls: calls.search_customer("tallyman_customer_id", ACME.id),
    "create_invoice": lambda calls: calls.create_invoice(_invoice(), "k2"),
    "find_invoice": lambda calls: calls.find_invoice("cus_1", {"none": "has this"}, BEGIN),
    "invoice": lambda calls: calls.invoice("in_1"),
    "line_keys": lambda calls: calls.line_keys("in_1"),
    "add_lines": lambda calls: calls.add_lines("in_1", lines_of(INVOICE), "k3"),
    "finalize": lambda calls: calls.finalize("in_1", "k4"),
    "pay": lambda calls: calls.pay("in_1", "k5", "pm_1"),
    "send": lambda calls: calls.send("in_1", "k6"),
    "void": lambda calls: calls.void("in_1", "k7"),
    "delete_draft": lambda calls: calls.delete_draft("in_1"),
    "checkout": lambda calls: calls.checkout(_checkout(), "k8"),
    "portal": lambda calls: calls.portal(_portal(), "k9"),
}


PAID = StripeInvoice("in_1", "paid", 2000)
OPEN = StripeInvoice("in_1", "open", 2000)
MORE_CALLS: dict[str, Callable[[OperationCalls], Awaitable[object]]] = {
    "create_credit_note": lambda calls: calls.create_credit_note(_credit_note(PAID), "m1"),
    "find_credit_note": lambda calls: calls.find_credit_note("in_1", {"none": "has this"}),
    "void_credit_note": lambda calls: calls.void_credit_note("cn_1"),
    "credit_note": lambda calls: calls.credit_note("cn_1"),
    "create_refund": lambda calls: calls.create_refund(refund_params(ASKED, "pi_1", 0), "m2"),
    "find_refund": lambda calls: calls.find_refund("pi_1", {"none": "has this"}),
    "refund": lambda calls: calls.refund("re_1"),
    "payment": lambda calls: calls.payment("pi_1"),
    "last_way_to_pay": lambda calls: calls.last_way_to_pay("cus_1", {"none": "has this"}),
    "update_customer": lambda calls: calls.update_customer("cus_1", changed_customer_params(ACME)),
    "set_way_to_pay": lambda calls: calls.set_way_to_pay("cus_1", "pm_1"),
}


def _credit_note(at_stripe: StripeInvoice, **rest: Any) -> dict[str, Any]:
    return credit_note_params(replace(ASKED, **rest), at_stripe, 0)


@pytest.mark.parametrize(
    ("kind", "tested"), [(StripeCalls, set(CALLS)), (OperationCalls, set(MORE_CALLS))]
)
def test_no_call_is_left_out(kind: type, tested: set[str]) -> None:
    public = {
        name
        for name, member in inspect.getmembers(kind, inspect.iscoroutinefunction)
        if not name.startswith("_")
    }

    assert public == tested


@pytest.mark.parametrize("name", CALLS)
async def test_stripe_s_spec_takes_the_call(calls: StripeCalls, name: str) -> None:
    await CALLS[name](calls)


@pytest.mark.parametrize("name", MORE_CALLS)
async def test_stripe_s_spec_takes_what_is_asked_beside_invoices(
    connection: StripeConnection, name: str
) -> None:
    await MORE_CALLS[name](OperationCalls(connection))


@pytest.mark.parametrize("returned", Returned)
async def test_stripe_s_spec_takes_every_credit_note(
    connection: StripeConnection, returned: Returned
) -> None:
    calls = OperationCalls(connection)

    await calls.create_credit_note(_credit_note(OPEN, returned=returned), "m3")
    await calls.create_credit_note(_credit_note(PAID, returned=returned), "m4")


async def test_stripe_s_spec_takes_a_top_up(calls: StripeCalls) -> None:
    params = top_up_params(ASKED, "cus_1", "pm_1", 0)

    assert (await calls.create_invoice(params, "t1")).status == "draft"
    await calls.add_lines("in_1", operation_lines(ASKED), "t2")


async def test_stripe_s_spec_takes_an_invoice_that_is_sent_or_has_a_way_to_pay(
    calls: StripeCalls,
) -> None:
    sent = replace(INVOICE, description=None)
    params = invoice_params(sent, "cus_1", 1) | {
        "collection_method": "send_invoice",
        "due_date": 1_800_000_000,
        "default_payment_method": "pm_1",
    }

    assert (await calls.create_invoice(params, "k1")).status == "draft"


async def test_stripe_s_answers_are_read(calls: StripeCalls) -> None:
    session = await calls.checkout(_checkout(), "k1")
    page = await calls.portal(_portal(), "k2")

    assert CheckoutAnswer.of(session, ACME.id, "cus_1").session_id == session["id"]
    assert PortalAnswer.of(page, "cus_1").url == page["url"]


async def test_stripe_s_spec_refuses_what_it_does_not_know(calls: StripeCalls) -> None:
    with pytest.raises(StripeRefused):
        await calls.create_invoice(_invoice(colour="red"), "k1")
