"""Credit on an invoice: what it may pay for, and the lines with what it has paid.

Which grant pays for what is `burn_down.py`'s.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from tallyman.domain.billing_profile import App
from tallyman.domain.burn_down import Demand, Draw
from tallyman.domain.credit import CreditGrant
from tallyman.domain.invoice import Invoice, act, issues_of
from tallyman.domain.invoice_line import CreditApplied, InvoiceLine
from tallyman.domain.invoice_state import InvoiceState, Trigger
from tallyman.domain.money import total

_PAYABLE = (InvoiceState.PAYMENT_PENDING, InvoiceState.OVERDUE)


def demands_of(lines: Iterable[InvoiceLine]) -> list[Demand]:
    """What credit may pay for: the lines that something is owed for."""
    return [
        Demand(
            line.id,
            line.totals.before_credits,
            line.service_period,
            None if line.rate_card.feature is None else line.rate_card.feature.key,
        )
        for line in lines
        if line.totals.before_credits > 0
    ]


def credited(
    lines: Iterable[InvoiceLine], draws: Sequence[Draw], grants: Mapping[str, CreditGrant]
) -> tuple[InvoiceLine, ...]:
    """The lines with what credit pays for them, in place of what it paid before."""
    by_line: dict[str, list[Draw]] = {}
    for draw in draws:
        by_line.setdefault(draw.demand_id, []).append(draw)
    return tuple(
        _credited(line, by_line.get(line.id, ()), grants)
        if line.totals.before_credits > 0
        else line
        for line in lines
    )


def _credited(
    line: InvoiceLine, draws: Sequence[Draw], grants: Mapping[str, CreditGrant]
) -> InvoiceLine:
    applied = tuple(
        CreditApplied(draw.grant_id, draw.amount, grants[draw.grant_id].name) for draw in draws
    )
    paid = total(draw.amount for draw in draws)
    return replace(line, totals=line.totals.paid_by_credit(paid), credits_applied=applied)


def with_credit(invoice: Invoice, lines: tuple[InvoiceLine, ...], now: datetime) -> Invoice:
    """The invoice with these lines: what is issued and wholly paid by credit is paid."""
    changed = replace(invoice, lines=lines)
    kept = tuple(one for one in invoice.validation_issues if one not in issues_of(invoice))
    return paid_by_credit(replace(changed, validation_issues=(*kept, *issues_of(changed))), now)


def paid_by_credit(invoice: Invoice, now: datetime) -> Invoice:
    """An issued invoice of which credit leaves nothing to pay is paid; Stripe says so of its own."""
    totals = invoice.totals
    if invoice.app is App.STRIPE:
        return invoice
    if invoice.state in _PAYABLE and totals.credits > 0 and totals.total == Decimal(0):
        return act(invoice, Trigger.PAY, now)
    return invoice
