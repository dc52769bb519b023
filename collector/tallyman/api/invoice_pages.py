"""Invoices as people see them: a page or a PDF, for a key or for a link that shows one invoice.

What they say is the console's.
"""

import asyncio
import re
from typing import Final

from aiohttp import web

from tallyman.api import parameters
from tallyman.api.customers import path_text
from tallyman.api.invoice_bodies import InvoiceLinkAnswer, InvoiceLinkRequest
from tallyman.api.invoice_link import InvoiceLink, read_link, write_link
from tallyman.api.request_body import read_body
from tallyman.api.route import JSON
from tallyman.api.state import BOOKS, CALLER, CLOCK, SETTINGS
from tallyman.console.credit_note_view import note_view
from tallyman.console.invoice_page import CONTENT_SECURITY_POLICY, invoice_page
from tallyman.console.invoice_pdf import invoice_pdf
from tallyman.console.invoice_view import InvoiceView, view_of
from tallyman.domain.credit_note import CreditNote
from tallyman.domain.duration import Duration, parse_duration
from tallyman.domain.invoice import Invoice
from tallyman.errors import Conflict, Gone, InvalidInput, InvalidParameter, NotFound

HTML: Final = "text/html"
PDF: Final = "application/pdf"
WEEK: Final = parse_duration("P7D")
LONGEST: Final = parse_duration("P1Y")
_HEADERS: Final = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}


async def page(request: web.Request) -> web.Response:
    """The page of an invoice, for a key."""
    parameters.refuse_any(request)
    return await as_page(request, await _named(request), f"{request.path}/pdf")


async def pdf(request: web.Request) -> web.Response:
    """The PDF of an invoice, for a key."""
    parameters.refuse_any(request)
    return await as_pdf(request, await _named(request))


async def linked_page(request: web.Request) -> web.Response:
    """The page of an invoice, for a link."""
    parameters.refuse_any(request)
    return await as_page(request, await _linked(request), f"{request.path}/pdf")


async def linked_pdf(request: web.Request) -> web.Response:
    """The PDF of an invoice, for a link."""
    parameters.refuse_any(request)
    return await as_pdf(request, await _linked(request))


async def make_link(request: web.Request) -> web.Response:
    """Make a link to an invoice, good for a week or as long as is asked."""
    parameters.refuse_any(request)
    body = InvoiceLinkRequest()
    if request.can_read_body:
        body = await read_body(request, InvoiceLinkRequest)
    lasts = WEEK if body.expires_after is None else parse_duration(body.expires_after)
    _check_length(lasts)
    invoice = await _named(request)
    expires_at = lasts.after(request.app[CLOCK]()).replace(microsecond=0)
    secret = _secret(request)
    if secret is None:
        raise Conflict("links are switched off: set invoice_link_secret")
    link = write_link(InvoiceLink(invoice.namespace, invoice.id, expires_at), secret)
    answer = InvoiceLinkAnswer(path=f"/i/{link}", expires_at=expires_at)
    return web.Response(status=201, body=answer.to_json(), content_type=JSON)


async def kept(request: web.Request, namespace: str, invoice_id: str) -> Invoice:
    """An invoice that is not deleted.

    Raises:
        NotFound: there is none.
        Gone: it was deleted.
    """
    found = await request.app[BOOKS].invoices.get(namespace, invoice_id)
    if found.deleted_at is not None:
        raise Gone(f"the invoice {invoice_id} was deleted")
    return found


async def as_page(request: web.Request, invoice: Invoice, pdf_path: str) -> web.Response:
    """The invoice as a page that links to its PDF."""
    return _page(await _view(request, invoice), pdf_path)


async def as_pdf(request: web.Request, invoice: Invoice) -> web.Response:
    """The invoice as a PDF, made beside the loop: it takes up to a second."""
    return await _pdf(await _view(request, invoice), invoice.number)


async def note_as_page(request: web.Request, note: CreditNote, pdf_path: str) -> web.Response:
    """A credit note as a page that links to its PDF."""
    return _page(await _note_view(request, note), pdf_path)


async def note_as_pdf(request: web.Request, note: CreditNote) -> web.Response:
    """A credit note as a PDF."""
    return await _pdf(await _note_view(request, note), note.number)


async def _note_view(request: web.Request, note: CreditNote) -> InvoiceView:
    return note_view(note, await request.app[BOOKS].invoices.get(note.namespace, note.invoice_id))


def _page(view: InvoiceView, pdf_path: str) -> web.Response:
    return web.Response(text=invoice_page(view, pdf_path), content_type=HTML, headers=_HEADERS)


async def _pdf(view: InvoiceView, number: str) -> web.Response:
    body = await asyncio.to_thread(invoice_pdf, view)
    name = re.sub(r"[^A-Za-z0-9-]+", "-", number)
    headers = {**_HEADERS, "Content-Disposition": f'inline; filename="{name}.pdf"'}
    return web.Response(body=body, content_type=PDF, headers=headers)


async def _view(request: web.Request, invoice: Invoice) -> InvoiceView:
    numbers = await request.app[BOOKS].billed.numbers(invoice.lines)
    return view_of(invoice, numbers)


async def _named(request: web.Request) -> Invoice:
    return await kept(request, request[CALLER].namespace, path_text(request, "invoiceId"))


async def _linked(request: web.Request) -> Invoice:
    secret = _secret(request)
    if secret is None:
        raise NotFound("there is nothing at this path")
    text = path_text(request, "link")
    return await kept(request, *read_link(text, secret, request.app[CLOCK]()))


def _secret(request: web.Request) -> str | None:
    secret = request.app[SETTINGS].invoice_link_secret
    return None if secret is None else secret.get_secret_value()


def _check_length(lasts: Duration) -> None:
    if lasts.is_zero or lasts.mean > LONGEST.mean:
        reason = "must be longer than nothing, and a year at most"
        raise InvalidInput(
            f"expires_after {reason}", [InvalidParameter("expires_after", "invalid", reason)]
        )
