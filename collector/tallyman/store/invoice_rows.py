"""Invoices as rows, and back. Pure.

It runs no statement: see `invoices.py`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec import convert
from sqlalchemy import Row

from tallyman.domain.billing_profile import App, Supplier, Workflow
from tallyman.domain.counting import Counting
from tallyman.domain.customer import Customer
from tallyman.domain.invoice import Invoice, ValidationIssue
from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.period import Period
from tallyman.store.invoice_documents import write_lines

# What a row has by the name that the invoice has it by.
_SAME: Final = (
    "id",
    "namespace",
    "revision",
    "number",
    "currency",
    "version",
    "watermark",
    "quantity_snapshotted_at",
    "wakes_at",
    "collection_at",
    "draft_until",
    "issued_at",
    "due_at",
    "sent_to_customer_at",
    "paid_at",
    "voided_at",
    "billing_profile_id",
    "external_invoicing_id",
    "external_payment_id",
    "description",
    "labels",
    "created_at",
    "updated_at",
    "deleted_at",
)


def values_of(invoices: Iterable[Invoice]) -> list[dict[str, Any]]:
    """The rows of invoices, without their lines."""
    written: dict[int, msgspec.Raw] = {}  # what many were counted by is written once
    return [_values(one, written) for one in invoices]


def _values(invoice: Invoice, written: dict[int, msgspec.Raw]) -> dict[str, Any]:
    return {
        **{name: getattr(invoice, name) for name in _SAME},
        "customer_id": invoice.customer.id,
        "state": str(invoice.state),
        "app": str(invoice.app),
        "status": invoice.state.status,
        "invoice_at": invoice.invoice_at or invoice.service_period.to,
        "service_from": invoice.service_period.from_,
        "service_to": invoice.service_period.to,
        "totals": invoice.totals,
        "customer": invoice.customer,
        "supplier": invoice.supplier,
        "workflow": invoice.workflow,
        "validation_issues": invoice.validation_issues,
        "counting": _counting(invoice.counting, written),
    }


def _counting(counting: Counting | None, written: dict[int, msgspec.Raw]) -> dict[str, Any] | None:
    if counting is None:
        return None
    for one in counting.metered.values():
        if id(one) not in written:
            written[id(one)] = msgspec.Raw(msgspec.json.encode(one))
    metered = {feature: written[id(one)] for feature, one in counting.metered.items()}
    return {"spans": counting.spans, "metered": metered}


def line_values_of(invoices: Iterable[Invoice]) -> list[dict[str, Any]]:
    """The rows of the invoices' lines."""
    pairs = [(invoice, at, line) for invoice in invoices for at, line in enumerate(invoice.lines)]
    bodies = write_lines(line for _, _, line in pairs)
    return [
        {
            "invoice_id": invoice.id,
            "id": line.id,
            "position": at,
            "customer_id": invoice.customer.id,
            "subscription_id": line.subscription_id,
            "billable_id": line.billable_id,
            "version": line.version,
            "freed": False,
            "service_from": line.service_period.from_,
            "service_to": line.service_period.to,
            "body": body,
        }
        for (invoice, at, line), body in zip(pairs, bodies, strict=True)
    ]


def invoice_of(row: Row[Any], lines: Sequence[InvoiceLine]) -> Invoice:
    """The invoice of a row, with these lines."""
    same = {name: getattr(row, name) for name in _SAME if name != "wakes_at"}
    return Invoice(
        **same,
        customer=convert(row.customer, Customer),
        supplier=convert(row.supplier, Supplier),
        workflow=convert(row.workflow, Workflow),
        state=InvoiceState(row.state),
        app=App(row.app),
        service_period=Period(row.service_from, row.service_to),
        lines=tuple(lines),
        validation_issues=convert(row.validation_issues, tuple[ValidationIssue, ...]),
        counting=None if row.counting is None else convert(row.counting, Counting),
        invoice_at=row.invoice_at,
    )
