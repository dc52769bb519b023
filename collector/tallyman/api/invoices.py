"""`/billing/invoices`: listed, read, moved on, voided and deleted; and the preview of the next one.

How an invoice looks to people is `invoice_pages.py`'s; what an action does is billing's.
"""

from datetime import datetime
from typing import Final

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.customers import find as find_customer
from tallyman.api.customers import path_text
from tallyman.api.invoice_bodies import (
    InvoiceAnswer,
    InvoicePage,
    PaymentStatusRequest,
    SimulateInvoiceRequest,
    SynchronizedRequest,
    VoidInvoiceRequest,
)
from tallyman.api.invoice_edit_bodies import UpdateInvoiceRequest
from tallyman.api.invoice_pages import HTML, PDF, as_page, as_pdf, kept
from tallyman.api.media_type import preferred
from tallyman.api.numbered_page import PaginatedMeta
from tallyman.api.parameters import ListParameters
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER, NOW
from tallyman.api.wire import Answer
from tallyman.billing.advance import trigger
from tallyman.billing.draft import empty
from tallyman.billing.edit import edit_draft
from tallyman.billing.external_sync import Synchronized, synchronized
from tallyman.billing.preview import preview
from tallyman.domain.billing_profile import App
from tallyman.domain.customer import Customer
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_state import Trigger
from tallyman.domain.period import Period
from tallyman.errors import InvalidInput, InvalidParameter, InvoiceActionNotAvailable
from tallyman.store.comparison import Comparison
from tallyman.store.invoice_selection import TimeComparison

PAYMENTS: Final = {
    "paid": Trigger.PAY,
    "payment_failed": Trigger.FAIL,
    "payment_uncollectible": Trigger.UNCOLLECTIBLE,
    "payment_overdue": Trigger.OVERDUE,
    "action_required": Trigger.REQUIRE_ACTION,
}
PAYABLE: Final = ("payment_processing", "overdue", "uncollectible")
DEFAULT_CURRENCY: Final = "USD"  # of a preview of nothing, for a customer who has none
_COLUMNS: Final = {"service_period_start": "service_from"}
LIST: Final = ListParameters(
    texts=(),
    exact=("status", "customer_id"),
    times=("issued_at", "service_period_start", "created_at"),
    sortable=(
        "created_at",
        "updated_at",
        "issued_at",
        "due_at",
        "service_period_start",
        "status",
        "number",
    ),
    descending=False,
    pages="numbered",
)


async def list_(request: web.Request) -> web.Response:
    """One page of the invoices."""
    asked = LIST.read(request)
    texts, times = [], []
    for condition in asked.conditions:
        column = _COLUMNS.get(condition.field, condition.field)
        [first, *_] = condition.values
        if isinstance(first, datetime):
            times.append(TimeComparison(column, condition.operator, first))
        else:
            texts.append(Comparison(column, condition.operator, tuple(map(str, condition.values))))
    invoices, total = await request.app[BOOKS].invoices.page(
        request[CALLER].namespace,
        texts,
        times,
        order_by=_COLUMNS.get(asked.sort_by, asked.sort_by),
        descending=asked.descending,
        offset=asked.offset,
        limit=asked.size,
    )
    now = request[NOW]
    meta = PaginatedMeta.of(asked, total)
    return _answer(InvoicePage(data=[InvoiceAnswer.of(one, now) for one in invoices], meta=meta))


async def get(request: web.Request) -> web.Response:
    """One invoice, as JSON, as a page or as a PDF: what the client prefers."""
    parameters.refuse_any(request)
    found = await find(request)
    return await _as_preferred(request, found, f"{request.path}/pdf")


async def get_pdf(request: web.Request) -> web.Response:
    """One invoice as a PDF."""
    parameters.refuse_any(request)
    return await as_pdf(request, await find(request))


async def update(request: web.Request) -> web.Response:
    """Change what a draft says; its lines and their amounts stay."""
    parameters.refuse_any(request)
    body = await read_body(request, UpdateInvoiceRequest)
    found = await find(request)
    now = request[NOW]
    kept = await edit_draft(
        request.app[BOOKS], found, body.edit(found), now, by=request[CALLER].actor
    )
    return _answer(InvoiceAnswer.of(kept, now))


async def advance(request: web.Request) -> web.Response:
    """Let the invoice go on as far as it can."""
    return await _act(request, Trigger.ADVANCE)


async def approve(request: web.Request) -> web.Response:
    """Issue a draft without waiting any longer for its review."""
    return await _act(request, Trigger.APPROVE)


async def retry(request: web.Request) -> web.Response:
    """Do again what has failed."""
    return await _act(request, Trigger.RETRY)


async def snapshot_quantities(request: web.Request) -> web.Response:
    """Count the draft now, without waiting any longer for late events."""
    return await _act(request, Trigger.SNAPSHOT_QUANTITIES)


async def void(request: web.Request) -> web.Response:
    """Make an issued invoice void; its lines are forgiven, or billed again."""
    parameters.refuse_any(request)
    body = VoidInvoiceRequest()
    if request.can_read_body:
        body = await read_body(request, VoidInvoiceRequest)
    return await _act(request, Trigger.VOID, rebill=body.action == "pending")


async def report_payment(request: web.Request) -> web.Response:
    """Take down what became of the invoice's payment; nothing is collected here."""
    body = await read_body(request, PaymentStatusRequest)
    found = await find(request)
    if found.state.status not in PAYABLE:
        raise InvoiceActionNotAvailable("only an issued invoice waits for a payment")
    if found.app is App.STRIPE:
        raise InvoiceActionNotAvailable("Stripe collects this invoice, and says what became of it")
    return await _act(request, PAYMENTS[body.trigger])


async def synchronize(request: web.Request) -> web.Response:
    """Let an invoice go on that waited until it is where it is invoiced outside."""
    parameters.refuse_any(request)
    body = SynchronizedRequest()
    if request.can_read_body:
        body = await read_body(request, SynchronizedRequest)
    said = Synchronized(body.invoicing_id, body.payment_id, body.sent_to_customer_at)
    found, now = await find(request), request[NOW]
    moved = await synchronized(request.app[BOOKS], found, said, now, by=request[CALLER].actor)
    return _answer(InvoiceAnswer.of(moved, now))


async def delete(request: web.Request) -> web.Response:
    """Delete a draft; what was on it is billed again."""
    parameters.refuse_any(request)
    await _trigger(request, Trigger.DELETE)
    return web.Response(status=204)


async def simulate(request: web.Request) -> web.Response:
    """What the customer owes and is not billed yet, as an invoice that is kept nowhere."""
    parameters.refuse_any(request)
    body = SimulateInvoiceRequest()
    if request.can_read_body:
        body = await read_body(request, SimulateInvoiceRequest)
    customer = await find_customer(request)
    now = request[NOW]
    books = request.app[BOOKS]
    found = await preview(books, customer.namespace, customer.id, now)
    invoice = _only(found, body.currency)
    if invoice is None:
        currency = body.currency or customer.currency or DEFAULT_CURRENCY
        invoice = await _nothing(request, customer, currency, now)
    return await _as_preferred(request, invoice, "")


async def find(request: web.Request) -> Invoice:
    """The invoice that the path names, in the caller's namespace.

    Raises:
        Gone: it was deleted.
    """
    return await kept(request, request[CALLER].namespace, path_text(request, "invoiceId"))


async def _as_preferred(request: web.Request, invoice: Invoice, pdf_path: str) -> web.Response:
    match preferred(request.headers.get("Accept", ""), (JSON, PDF, HTML)):
        case "application/pdf":
            return await as_pdf(request, invoice)
        case "text/html":
            return await as_page(request, invoice, pdf_path)
    return _answer(InvoiceAnswer.of(invoice, request[NOW]))


async def _act(request: web.Request, action: Trigger, *, rebill: bool = False) -> web.Response:
    parameters.refuse_any(request)
    moved = await _trigger(request, action, rebill=rebill)
    return _answer(InvoiceAnswer.of(moved, request[NOW]))


async def _trigger(request: web.Request, action: Trigger, *, rebill: bool = False) -> Invoice:
    found = await find(request)
    caller = request[CALLER]
    return await trigger(
        request.app[BOOKS],
        caller.namespace,
        found.id,
        action,
        request[NOW],
        by=caller.actor,
        rebill=rebill,
    )


def _only(found: list[Invoice], currency: str | None) -> Invoice | None:
    """The one that is asked for.

    Raises:
        InvalidInput: there are several, and none was named.
    """
    if currency is not None:
        return next((one for one in found if one.currency == currency), None)
    if len(found) > 1:
        choices = sorted(one.currency for one in found)
        reason = f"is required: the customer owes in {' and '.join(choices)}"
        parameter = InvalidParameter("currency", "required", reason)
        raise InvalidInput(f"currency {reason}", [parameter])
    return found[0] if found else None


async def _nothing(
    request: web.Request, customer: Customer, currency: str, now: datetime
) -> Invoice:
    """The preview of nothing."""
    [account] = await request.app[BOOKS].accounts(customer.namespace, [customer.id])
    return empty(account, currency, now, Period(now, now), 1, now)


def _answer(body: Answer, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body.to_json(), content_type=JSON)
