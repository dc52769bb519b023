"""Credit notes and refunds: made of an invoice, listed, read and voided.

What may be taken or given back is billing's.
"""

from datetime import datetime
from decimal import Decimal
from typing import Final

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.credit_note_bodies import (
    CreateCreditNoteRequest,
    CreateRefundRequest,
    CreditNoteAnswer,
    CreditNotePage,
    RefundAnswer,
    RefundPage,
    VoidCreditNoteRequest,
)
from tallyman.api.customers import path_text
from tallyman.api.invoice_pages import HTML, PDF, note_as_page, note_as_pdf
from tallyman.api.invoices import find as find_invoice
from tallyman.api.media_type import preferred
from tallyman.api.numbered_page import PaginatedMeta, comparisons_of
from tallyman.api.parameters import ListParameters
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER, NOW
from tallyman.api.wire import Answer
from tallyman.billing.books import Books
from tallyman.billing.credit import Order, credit_corrections, let_off, void_note
from tallyman.billing.give_back import refund as give_back
from tallyman.domain.credit_note import Credit, CreditNote
from tallyman.errors import InvalidInput, InvalidParameter
from tallyman.store.refunds import RefundAsked

LIST: Final = ListParameters(
    texts=(),
    exact=("invoice_id", "customer_id", "kind"),
    sortable=("created_at", "number"),
    descending=False,
    pages="numbered",
)
REFUNDS: Final = ListParameters(
    texts=(),
    exact=("invoice_id", "customer_id", "credit_note_id"),
    sortable=("created_at",),
    descending=False,
    pages="numbered",
)


async def create(request: web.Request) -> web.Response:
    """Take something back of an invoice."""
    parameters.refuse_any(request)
    asked = await read_body(request, CreateCreditNoteRequest)
    invoice, caller = await find_invoice(request), request[CALLER]
    order = Order(invoice.id, asked.reason, caller.actor, asked.key, asked.refund)
    note = await make_note(request.app[BOOKS], caller.namespace, order, asked, request[NOW])
    return _answer(CreditNoteAnswer.of(note), 201)


async def make_note(
    books: Books,
    namespace: str,
    order: Order,
    asked: CreateCreditNoteRequest,
    now: datetime,
) -> CreditNote:
    """Take back what is asked for; also for the command itself.

    Raises:
        InvalidInput: a correction names lines, or as `billing/credit.py` says.
    """
    if asked.kind == "correction":
        if asked.lines is not None:
            reason = "are found by counting: leave them out of a correction"
            raise InvalidInput(f"lines {reason}", [InvalidParameter("lines", "invalid", reason)])
        return await credit_corrections(books, namespace, order, now)
    credits = [
        Credit(one.line_id, None if one.amount is None else Decimal(one.amount))
        for one in asked.lines or ()
    ]
    return await let_off(books, namespace, order, credits, now)


async def list_(request: web.Request) -> web.Response:
    """One page of the credit notes."""
    asked = LIST.read(request)
    found, total = await request.app[BOOKS].credit_notes.page(
        request[CALLER].namespace,
        comparisons_of(asked),
        order_by=asked.sort_by,
        descending=asked.descending,
        offset=asked.offset,
        limit=asked.size,
    )
    data = [CreditNoteAnswer.of(one) for one in found]
    return _answer(CreditNotePage(data=data, meta=PaginatedMeta.of(asked, total)))


async def get(request: web.Request) -> web.Response:
    """One credit note, as JSON, as a page or as a PDF: what the client prefers."""
    parameters.refuse_any(request)
    note = await find(request)
    match preferred(request.headers.get("Accept", ""), (JSON, PDF, HTML)):
        case "application/pdf":
            return await note_as_pdf(request, note)
        case "text/html":
            return await note_as_page(request, note, f"{request.path}/pdf")
    return _answer(CreditNoteAnswer.of(note))


async def get_pdf(request: web.Request) -> web.Response:
    """One credit note as a PDF."""
    parameters.refuse_any(request)
    return await note_as_pdf(request, await find(request))


async def page(request: web.Request) -> web.Response:
    """The page of a credit note."""
    parameters.refuse_any(request)
    return await note_as_page(request, await find(request), f"{request.path}/pdf")


async def void(request: web.Request) -> web.Response:
    """Take a credit note back; a body may say why."""
    parameters.refuse_any(request)
    body = await read_body(request, VoidCreditNoteRequest, required=False)
    caller = request[CALLER]
    note = await void_note(
        request.app[BOOKS],
        caller.namespace,
        path_text(request, "creditNoteId"),
        request[NOW],
        body.reason,
        by=caller.actor,
    )
    return _answer(CreditNoteAnswer.of(note))


async def refund(request: web.Request) -> web.Response:
    """Give back some of what was paid for an invoice."""
    parameters.refuse_any(request)
    body = await read_body(request, CreateRefundRequest)
    invoice, caller = await find_invoice(request), request[CALLER]
    asked = RefundAsked(
        invoice.id,
        body.reason,
        caller.actor,
        None if body.amount is None else Decimal(body.amount),
        body.credit_note_id,
        body.key,
    )
    made = await give_back(request.app[BOOKS], caller.namespace, asked, request[NOW])
    return _answer(RefundAnswer.of(made), 201)


async def list_refunds(request: web.Request) -> web.Response:
    """One page of the refunds."""
    asked = REFUNDS.read(request)
    found, total = await request.app[BOOKS].refunds.page(
        request[CALLER].namespace,
        comparisons_of(asked),
        descending=asked.descending,
        offset=asked.offset,
        limit=asked.size,
    )
    data = [RefundAnswer.of(one) for one in found]
    return _answer(RefundPage(data=data, meta=PaginatedMeta.of(asked, total)))


async def get_refund(request: web.Request) -> web.Response:
    """One refund."""
    parameters.refuse_any(request)
    found = await request.app[BOOKS].refunds.get(
        request[CALLER].namespace, path_text(request, "refundId")
    )
    return _answer(RefundAnswer.of(found))


async def find(request: web.Request) -> CreditNote:
    """The credit note that the path names, by id or number, in the caller's namespace."""
    return await request.app[BOOKS].credit_notes.get(
        request[CALLER].namespace, path_text(request, "creditNoteId")
    )


def _answer(body: Answer, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body.to_json(), content_type=JSON)
