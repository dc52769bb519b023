"""The part of the route table that is about credit notes, refunds and re-ratings."""

from typing import Final

from tallyman.api import credit_notes, re_ratings
from tallyman.api.credit_note_bodies import (
    CreateCreditNoteRequest,
    CreateRefundRequest,
    CreditNoteAnswer,
    CreditNotePage,
    RefundAnswer,
    RefundPage,
    ReRatedAnswer,
    ReRateRequest,
    VoidCreditNoteRequest,
)
from tallyman.api.invoice_pages import HTML, PDF
from tallyman.api.route import JSON, Answered, Route
from tallyman.domain.access import Scope

NOTE: Final = {JSON: CreditNoteAnswer}
DOCUMENT: Final = {"type": "string", "contentMediaType": PDF, "contentEncoding": "binary"}
PAGE: Final = {"type": "string"}

ROUTES: Final = (
    Route(
        "POST", "/billing/invoices/{invoiceId}/credit-notes", credit_notes.create, Scope.BILLING,
        "create-credit-note", "Take something back of an invoice",
        Answered(201, "The credit note.", NOTE),
        "The invoice stays as it is. No line is credited more than it has.",
        body={JSON: CreateCreditNoteRequest}, problems=(404, 409, 410, 413),
    ),
    Route(
        "GET", "/billing/credit-notes", credit_notes.list_, Scope.READ,
        "list-credit-notes", "List credit notes",
        Answered(200, "A page of credit notes.", {JSON: CreditNotePage}),
        parameters=credit_notes.LIST,
    ),
    Route(
        "GET", "/billing/credit-notes/{creditNoteId}", credit_notes.get, Scope.READ,
        "get-credit-note", "Read a credit note",
        Answered(200, "The credit note.", {JSON: CreditNoteAnswer, PDF: DOCUMENT, HTML: PAGE}),
        "A PDF with `Accept: application/pdf`, a page with `Accept: text/html`.",
        problems=(404,),
    ),
    Route(
        "GET", "/billing/credit-notes/{creditNoteId}/pdf", credit_notes.get_pdf, Scope.READ,
        "get-credit-note-pdf", "Read a credit note as a PDF",
        Answered(200, "The PDF.", {PDF: DOCUMENT}), problems=(404,),
    ),
    Route(
        "POST", "/billing/credit-notes/{creditNoteId}/void", credit_notes.void, Scope.BILLING,
        "void-credit-note", "Take a credit note back",
        Answered(200, "The credit note.", NOTE),
        "It stays to be read. One that was refunded, or that settled its invoice, cannot be taken "
        "back. One that is at Stripe is void once Stripe has voided it.",
        body={JSON: VoidCreditNoteRequest}, body_required=False, problems=(404, 409, 413),
    ),
    Route(
        "POST", "/billing/invoices/{invoiceId}/refunds", credit_notes.refund, Scope.BILLING,
        "create-refund", "Give back what was paid for an invoice",
        Answered(201, "The refund.", {JSON: RefundAnswer}),
        "By Stripe, where Stripe was paid; otherwise it says what was given back elsewhere.",
        body={JSON: CreateRefundRequest}, problems=(404, 409, 410, 413),
    ),
    Route(
        "GET", "/billing/refunds", credit_notes.list_refunds, Scope.READ,
        "list-refunds", "List refunds",
        Answered(200, "A page of refunds.", {JSON: RefundPage}), parameters=credit_notes.REFUNDS,
    ),
    Route(
        "GET", "/billing/refunds/{refundId}", credit_notes.get_refund, Scope.READ,
        "get-refund", "Read a refund",
        Answered(200, "The refund.", {JSON: RefundAnswer}), problems=(404,),
    ),
    Route(
        "POST", "/billing/customers/{customerId}/re-rate", re_ratings.create, Scope.ADMIN,
        "re-rate-customer", "Rate a customer's past periods again",
        Answered(200, "The differences.", {JSON: ReRatedAnswer}),
        "After a wrong price. Final invoices stay as they are: the difference is on the next, or on "
        "credit notes. A second time it changes nothing; with `dry_run` it only shows.",
        body={JSON: ReRateRequest}, problems=(404, 409, 410, 413),
    ),
    Route(
        "GET", "/credit-notes/{creditNoteId}", credit_notes.page, Scope.READ,
        "credit-note-page", "The page of a credit note",
        Answered(200, "The page.", {HTML: PAGE}),
        problems=(404,), openmeter=False, basic=True,
    ),
    Route(
        "GET", "/credit-notes/{creditNoteId}/pdf", credit_notes.get_pdf, Scope.READ,
        "credit-note-page-pdf", "The PDF of a credit note",
        Answered(200, "The PDF.", {PDF: DOCUMENT}),
        problems=(404,), openmeter=False, basic=True,
    ),
)  # fmt: skip
