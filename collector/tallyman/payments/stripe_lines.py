"""Our invoices as Stripe takes them: lines and what each says. Pure.

It asks Stripe for nothing: see `stripe_calls.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tallyman.console.invoice_line_view import line_view, plan_of, used_by
from tallyman.domain.customer import Customer
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.money import EXACT, split, total
from tallyman.domain.period import Period
from tallyman.domain.stripe_amount import stripe_amount
from tallyman.domain.stripe_operation import StripeOperation

MOST_CHARACTERS: Final = 500  # of a line's description
LINES_AT_ONCE: Final = 100
INVOICE_KEY: Final = "tallyman_invoice_id"
LINE_KEY: Final = "tallyman_line"
CUSTOMER_KEY: Final = "tallyman_customer_id"
GENERATION_KEY: Final = "tallyman_generation"
OPERATION_KEY: Final = "tallyman_operation_id"
CREDITS: Final = "credits"  # the key of the line that takes off what was prepaid


@dataclass(frozen=True)
class StripeLine:
    """A line at Stripe. `key` says which of ours it is, or which part of one."""

    key: str
    amount: int
    description: str
    starts_at: int | None = None
    ends_at: int | None = None

    def params(self) -> dict[str, Any]:
        """What Stripe is sent."""
        params: dict[str, Any] = {
            "amount": self.amount,
            "description": self.description,
            "discountable": False,
            "metadata": {LINE_KEY: self.key},
        }
        if self.starts_at is not None:
            params["period"] = {"start": self.starts_at, "end": self.ends_at}
        return params


def lines_of(invoice: Invoice) -> list[StripeLine]:
    """One line for each of the invoice's; more where what one says is longer than Stripe takes.

    A line is what it costs before prepaid credit, and one more line takes all of that off.

    Raises:
        StripeRefused: Stripe cannot take one of the amounts.
    """
    made = [one for line in invoice.lines for one in _lines(line)]
    credits = invoice.totals.credits
    if credits:
        amount = stripe_amount(-credits, invoice.currency)
        starts, ends = _moments(invoice.service_period)
        text = "Paid by credit" if credits > 0 else "Credit that is given back"
        made.append(StripeLine(CREDITS, amount, text, starts, ends))
    return made


def operation_lines(asked: StripeOperation) -> list[StripeLine]:
    """One line for each of a top-up's.

    Raises:
        StripeRefused: Stripe cannot take one of the amounts.
    """
    return [
        StripeLine(
            f"{asked.id}:{number}",
            stripe_amount(line.amount, asked.currency),
            _cut(line.description),
        )
        for number, line in enumerate(asked.lines, 1)
    ]


def total_of(invoice: Invoice) -> int:
    """What Stripe must come to, too."""
    return stripe_amount(invoice.totals.total, invoice.currency)


def invoice_params(invoice: Invoice, stripe_customer: str, generation: int) -> dict[str, Any]:
    """What an empty draft of the invoice is made with: nothing that is Stripe's default gets in."""
    params = bare_invoice_params(stripe_customer, invoice.currency) | {
        "collection_method": str(invoice.workflow.collection_method),
        "custom_fields": [{"name": "Invoice", "value": invoice.number}],
        "metadata": {
            INVOICE_KEY: invoice.id,
            GENERATION_KEY: str(generation),
            "tallyman_number": invoice.number,
            CUSTOMER_KEY: invoice.customer.id,
        },
    }
    if invoice.description:
        params["description"] = invoice.description
    return params


def bare_invoice_params(stripe_customer: str, currency: str) -> dict[str, Any]:
    """What keeps whatever is Stripe's default out of a draft."""
    return {
        "customer": stripe_customer,
        "currency": currency.lower(),
        "auto_advance": False,  # a draft that is left behind must never be charged
        "automatic_tax": {"enabled": False},
        "discounts": "",
        "pending_invoice_items_behavior": "exclude",
    }


def customer_params(customer: Customer, generation: int) -> dict[str, Any]:
    """What Stripe's customer is made with."""
    params = changed_customer_params(customer)
    if "address" in params:
        params["address"] = {name: value for name, value in params["address"].items() if value}
    return params | {
        "metadata": {
            CUSTOMER_KEY: customer.id,
            GENERATION_KEY: str(generation),
            "tallyman_customer_key": customer.key,
        }
    }


def changed_customer_params(customer: Customer) -> dict[str, Any]:
    """What Stripe's customer is to be called: an address as a whole, and nothing that is not said here."""
    params: dict[str, Any] = {"name": customer.name}
    if customer.primary_email:
        params["email"] = customer.primary_email
    address = customer.billing_address
    if address is not None:
        named = {
            "country": address.country,
            "postal_code": address.postal_code,
            "state": address.state,
            "city": address.city,
            "line1": address.line1,
            "line2": address.line2,
        }
        params["address"] = {name: value or "" for name, value in named.items()}
        if address.phone_number:
            params["phone"] = address.phone_number
    return params


def _lines(line: InvoiceLine) -> Iterable[StripeLine]:
    starts, ends = _moments(line.service_period)
    owed = EXACT.add(line.totals.total, line.totals.credits)
    head, rows = _head(line), used_by(line)
    said = [f"{label} {quantity}" for label, quantity, _ in rows]
    whole = _joined(head, said)
    signs = {weight > 0 for _, _, weight in rows if weight}
    if len(whole) <= MOST_CHARACTERS or len(rows) < 2 or len(signs) != 1:
        amount = stripe_amount(owed, line.currency)
        return [StripeLine(line.id, amount, _cut(whole), starts, ends)]
    shares = split(owed, [abs(weight) for _, _, weight in rows], line.currency)
    parts = _packed(head, said)
    made, at = [], 0
    for number, part in enumerate(parts, 1):
        share = total(shares[at : at + len(part)])
        at += len(part)
        text = _joined(f"{head} ({number} of {len(parts)})", part)
        key = f"{line.id}:{number}"
        made.append(StripeLine(key, stripe_amount(share, line.currency), _cut(text), starts, ends))
    return made


def _moments(period: Period) -> tuple[int, int]:
    return int(period.from_.timestamp()), int(period.to.timestamp())


def _head(line: InvoiceLine) -> str:
    """The name, the quantity and the rate."""
    view = line_view(line, {}, plan_of(line))
    rated = " at ".join(part for part in (view.quantity, " = ".join(view.rates)) if part)
    return f"{line.name}: {rated}" if rated else line.name


def _joined(head: str, said: Sequence[str]) -> str:
    return "; ".join((head, *said))


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def _packed(head: str, said: Sequence[str]) -> list[list[str]]:
    """In as few parts as keep each within what Stripe takes."""
    room = MOST_CHARACTERS - min(len(head), MOST_CHARACTERS // 2) - len(" (99 of 99)")
    parts: list[list[str]] = [[]]
    used = 0
    for text in said:
        if parts[-1] and used + len(text) + 2 > room:
            parts.append([])
            used = 0
        parts[-1].append(text)
        used += len(text) + 2
    return parts
