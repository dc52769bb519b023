"""The part of the route table that is about invoices and billing profiles."""

from typing import Final

from tallyman.api import billing_profiles, invoice_pages, invoices
from tallyman.api.billing_profile_bodies import (
    BillingProfileAnswer,
    BillingProfilePage,
    CreateBillingProfileRequest,
    UpsertBillingProfileRequest,
)
from tallyman.api.invoice_bodies import (
    InvoiceAnswer,
    InvoiceLinkAnswer,
    InvoiceLinkRequest,
    InvoicePage,
    PaymentStatusRequest,
    SimulateInvoiceRequest,
    VoidInvoiceRequest,
)
from tallyman.api.invoice_edit_bodies import UpdateInvoiceRequest
from tallyman.api.invoice_pages import HTML, PDF
from tallyman.api.route import JSON, Answered, Route
from tallyman.domain.access import Scope

PROFILE: Final = {JSON: BillingProfileAnswer}
INVOICE: Final = {JSON: InvoiceAnswer}
DOCUMENT: Final = {"type": "string", "contentMediaType": PDF, "contentEncoding": "binary"}
PAGE: Final = {"type": "string"}
SHOWN: Final = {JSON: InvoiceAnswer, PDF: DOCUMENT, HTML: PAGE}
V1: Final = "/api/v1/billing"

ROUTES: Final = (
    Route(
        "GET", "/billing/invoices", invoices.list_, Scope.READ,
        "list-invoices", "List invoices",
        Answered(200, "A page of invoices.", {JSON: InvoicePage}),
        parameters=invoices.LIST,
    ),
    Route(
        "GET", "/billing/invoices/{invoiceId}", invoices.get, Scope.READ,
        "get-invoice", "Read an invoice",
        Answered(200, "The invoice.", SHOWN),
        "A PDF with `Accept: application/pdf`, a page with `Accept: text/html`.",
        problems=(404, 410),
    ),
    Route(
        "PUT", "/billing/invoices/{invoiceId}", invoices.update, Scope.BILLING,
        "update-invoice", "Edit a draft",
        Answered(200, "The invoice.", INVOICE),
        "What it says, and how it goes on; its lines come from subscriptions and stay as they are.",
        body={JSON: UpdateInvoiceRequest}, problems=(404, 410, 413),
    ),
    Route(
        "DELETE", "/billing/invoices/{invoiceId}", invoices.delete, Scope.BILLING,
        "delete-invoice", "Delete a draft",
        Answered(204, "It is deleted; what was on it is billed again."),
        problems=(404, 410),
    ),
    Route(
        "GET", "/billing/invoices/{invoiceId}/pdf", invoices.get_pdf, Scope.READ,
        "get-invoice-pdf", "Read an invoice as a PDF",
        Answered(200, "The PDF.", {PDF: DOCUMENT}), problems=(404, 410),
    ),
    Route(
        "POST", "/billing/invoices/{invoiceId}/advance", invoices.advance, Scope.BILLING,
        "advance-invoice", "Let an invoice go on",
        Answered(200, "The invoice.", INVOICE),
        "As far as it can by itself.", problems=(404, 410),
    ),
    Route(
        "POST", "/billing/invoices/{invoiceId}/approve", invoices.approve, Scope.BILLING,
        "approve-invoice", "Issue a draft without further review",
        Answered(200, "The invoice.", INVOICE), problems=(404, 410),
    ),
    Route(
        "POST", "/billing/invoices/{invoiceId}/retry", invoices.retry, Scope.BILLING,
        "retry-invoice", "Try again what has failed",
        Answered(200, "The invoice.", INVOICE), problems=(404, 410),
    ),
    Route(
        "POST", "/billing/invoices/{invoiceId}/snapshot-quantities",
        invoices.snapshot_quantities, Scope.BILLING,
        "snapshot-quantities-invoice", "Count a draft now",
        Answered(200, "The invoice.", INVOICE),
        "Without waiting any longer for late events; those go on the next invoice.",
        problems=(404, 410),
    ),
    Route(
        "POST", f"{V1}/invoices/{{invoiceId}}/void", invoices.void, Scope.BILLING,
        "void-invoice", "Make an issued invoice void",
        Answered(200, "The invoice.", INVOICE),
        "Its lines are forgiven, or billed again with `action` `pending`.",
        body={JSON: VoidInvoiceRequest}, body_required=False,
        problems=(404, 410, 413), openmeter=False,
    ),
    Route(
        "POST", f"{V1}/invoices/{{invoiceId}}/payment/status", invoices.report_payment,
        Scope.BILLING, "report-invoice-payment", "Say what became of an invoice's payment",
        Answered(200, "The invoice.", INVOICE),
        "For payments that are collected elsewhere.",
        body={JSON: PaymentStatusRequest}, problems=(404, 410, 413), openmeter=False,
    ),
    Route(
        "POST", f"{V1}/invoices/{{invoiceId}}/link", invoice_pages.make_link, Scope.BILLING,
        "link-invoice", "Make a link to an invoice",
        Answered(201, "The link.", {JSON: InvoiceLinkAnswer}),
        "For whoever has no key: it shows this invoice, as a page and as a PDF, for a week or as "
        "long as is asked.",
        body={JSON: InvoiceLinkRequest}, body_required=False,
        problems=(404, 409, 410, 413), openmeter=False,
    ),
    Route(
        "POST", f"{V1}/customers/{{customerId}}/invoices/simulate", invoices.simulate, Scope.READ,
        "simulate-invoice", "Preview what is not billed yet",
        Answered(200, "The invoice as it would be now.", SHOWN),
        "It is kept nowhere.",
        body={JSON: SimulateInvoiceRequest}, body_required=False,
        problems=(404, 410, 413), openmeter=False,
    ),
    Route(
        "GET", "/invoices/{invoiceId}", invoice_pages.page, Scope.READ,
        "invoice-page", "The page of an invoice",
        Answered(200, "The page.", {HTML: PAGE}),
        problems=(404, 410), openmeter=False, basic=True,
    ),
    Route(
        "GET", "/invoices/{invoiceId}/pdf", invoice_pages.pdf, Scope.READ,
        "invoice-page-pdf", "The PDF of an invoice",
        Answered(200, "The PDF.", {PDF: DOCUMENT}),
        problems=(404, 410), openmeter=False, basic=True,
    ),
    Route(
        "GET", "/i/{link}", invoice_pages.linked_page, None,
        "linked-invoice-page", "The page of an invoice, by a link",
        Answered(200, "The page.", {HTML: PAGE}), problems=(404, 410), openmeter=False,
    ),
    Route(
        "GET", "/i/{link}/pdf", invoice_pages.linked_pdf, None,
        "linked-invoice-pdf", "The PDF of an invoice, by a link",
        Answered(200, "The PDF.", {PDF: DOCUMENT}), problems=(404, 410), openmeter=False,
    ),
    Route(
        "POST", "/profiles", billing_profiles.create, Scope.BILLING,
        "create-billing-profile", "Make a billing profile",
        Answered(201, "The profile.", PROFILE),
        "One is the default, of customers who have no other.",
        body={JSON: CreateBillingProfileRequest}, problems=(413,),
    ),
    Route(
        "GET", "/profiles", billing_profiles.list_, Scope.READ,
        "list-billing-profiles", "List billing profiles",
        Answered(200, "A page of profiles.", {JSON: BillingProfilePage}),
        parameters=billing_profiles.LIST,
    ),
    Route(
        "GET", "/profiles/{profileId}", billing_profiles.get, Scope.READ,
        "get-billing-profile", "Read a billing profile",
        Answered(200, "The profile.", PROFILE), problems=(404, 410),
    ),
    Route(
        "PUT", "/profiles/{profileId}", billing_profiles.update, Scope.BILLING,
        "update-billing-profile", "Put a billing profile anew",
        Answered(200, "The profile.", PROFILE),
        "Invoices that are made already keep what it was.",
        body={JSON: UpsertBillingProfileRequest}, problems=(404, 409, 410, 413),
    ),
    Route(
        "DELETE", "/profiles/{profileId}", billing_profiles.delete, Scope.BILLING,
        "delete-billing-profile", "Delete a billing profile",
        Answered(204, "It is deleted; its customers have the default one."),
        "The default one cannot be deleted.",
        problems=(404, 409, 410),
    ),
)  # fmt: skip
