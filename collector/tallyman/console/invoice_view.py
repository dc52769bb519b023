"""An invoice as people read it: every text that the page and the PDF show, in one value.

It knows no markup: see `invoice_page.py` and `invoice_pdf.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from tallyman.console import figures
from tallyman.console.invoice_line_view import LineView, line_view, plan_of
from tallyman.domain.customer import Address, Customer
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_line import Totals
from tallyman.domain.invoice_state import InvoiceState

NO_NUMBERS: Final[Mapping[str, str]] = MappingProxyType({})
MOST_SUBJECTS: Final = 5
_STATUSES: Final = {
    "gathering": "Preview",
    "draft": "Draft",
    "issuing": "Being issued",
    "issued": "Issued",
    "payment_processing": "Awaiting payment",
    "overdue": "Overdue",
    "paid": "Paid",
    "uncollectible": "Uncollectible",
    "voided": "Void",
    "delete": "Being deleted",
    "deleted": "Deleted",
}


@dataclass(frozen=True)
class Party:
    """Who owes, or is owed: a role, a name, and lines below it."""

    role: str
    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class InvoiceView:
    """`facts` and `totals` are pairs of a label and a text; the last of the totals is what is owed.

    `tone` is one of good, bad, open and muted, for the status. `notice` says what a reader must not
    miss, such as that it is a draft.
    """

    title: str
    number: str
    currency: str
    status: str
    tone: str
    notice: str
    parties: tuple[Party, ...]
    facts: tuple[tuple[str, str], ...]
    lines: tuple[LineView, ...]
    totals: tuple[tuple[str, str], ...]
    total: str
    description: str
    issues: tuple[str, ...]
    footnotes: tuple[str, ...]


def view_of(invoice: Invoice, numbers: Mapping[str, str] = NO_NUMBERS) -> InvoiceView:
    """`numbers` are of the invoices that have the lines which are corrected, by line id."""
    preview = invoice.state is InvoiceState.GATHERING
    totals = tuple(_totals(invoice.totals, invoice.currency))
    plan = plan_of(invoice.lines[0]) if invoice.lines else ""
    return InvoiceView(
        title="Preview" if preview else f"Invoice {invoice.number}",
        number="" if preview else invoice.number,
        currency=invoice.currency,
        status=_STATUSES.get(invoice.state.status, invoice.state.status),
        tone=_tone(invoice.state),
        notice=_notice(invoice),
        parties=tuple(_parties(invoice)),
        facts=tuple(_facts(invoice, plan)),
        lines=tuple(line_view(line, numbers, plan) for line in invoice.lines),
        totals=totals,
        total=totals[-1][1],
        description=invoice.description or "",
        issues=tuple(issue.message for issue in invoice.validation_issues),
        footnotes=tuple(_footnotes(invoice)),
    )


def _tone(state: InvoiceState) -> str:
    if state.is_failed:
        return "bad"
    match state.status:
        case "paid":
            return "good"
        case "overdue" | "uncollectible":
            return "bad"
        case "issuing" | "issued" | "payment_processing":
            return "open"
    return "muted"


def _notice(invoice: Invoice) -> str:
    match invoice.state.status:
        case "gathering":
            return "This is a preview of what is not billed yet, and no invoice."
        case "draft":
            return "This is a draft: amounts may still change, and nothing is owed yet."
        case "voided":
            return "This invoice is void: nothing is owed."
        case "delete" | "deleted":
            return "This draft was deleted: nothing is owed."
    return ""


def _parties(invoice: Invoice) -> Iterable[Party]:
    supplier = invoice.supplier
    if supplier.name:
        lines = [*_address(supplier.billing_address)]
        lines += [f"Tax id {supplier.tax_code}"] if supplier.tax_code else []
        yield Party("From", supplier.name, tuple(lines))
    customer = invoice.customer
    email = [customer.primary_email] if customer.primary_email else []
    lines = [*_address(customer.billing_address), *email, *_subjects(customer)]
    yield Party("Billed to", customer.name, tuple(lines))


def _address(address: Address | None) -> Iterable[str]:
    if address is None:
        return
    town = " ".join(part for part in (address.postal_code, address.city) if part)
    country = figures.territory(address.country) if address.country else None
    for line in (address.line1, address.line2, town, address.state, country, address.phone_number):
        if line:
            yield line


def _subjects(customer: Customer) -> Iterable[str]:
    keys = customer.subject_keys
    if keys and keys != (customer.name,):
        more = f" and {len(keys) - MOST_SUBJECTS} more" if len(keys) > MOST_SUBJECTS else ""
        yield f"Usage of {', '.join(keys[:MOST_SUBJECTS])}{more}"


def _facts(invoice: Invoice, plan: str) -> Iterable[tuple[str, str]]:
    yield "Service period", figures.period(invoice.service_period)
    if invoice.state.status == "draft" and invoice.collection_at is not None:
        yield "Collects until", figures.instant(invoice.collection_at)
    for label, moment in (
        ("Issued", invoice.issued_at),
        ("Due", invoice.due_at),
        ("Paid", invoice.paid_at),
        ("Voided", invoice.voided_at),
    ):
        if moment is not None:
            yield label, figures.day(moment)
    if plan:
        yield "Plan", plan
    yield "Currency", invoice.currency


def _totals(totals: Totals, currency: str) -> Iterable[tuple[str, str]]:
    parts = [
        ("Minimum spend", totals.charges),
        ("Discounts", -totals.discounts),
        ("Credits", -totals.credits),
        ("Taxes", totals.taxes_exclusive),
    ]
    shown = [(label, amount) for label, amount in parts if amount]
    if shown:
        yield "Subtotal", figures.money(totals.amount, currency)
    for label, amount in shown:
        yield label, figures.money(amount, currency)
    if totals.taxes_inclusive:
        yield "Taxes, included", figures.money(totals.taxes_inclusive, currency)
    yield "Total", figures.money(totals.total, currency)


def _footnotes(invoice: Invoice) -> Iterable[str]:
    if invoice.watermark is not None:
        yield f"Counted from the events stored until {figures.instant(invoice.watermark)}."
    yield "Times are UTC. Each line is computed exactly and rounded once, half up."
    yield f"Invoice id {invoice.id}"
