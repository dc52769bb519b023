"""Corrections of invoice lines: what a billable is now, less what final invoices have of it.

How a line is rated is `invoice_line.py`'s.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from tallyman.domain.billable import Billable, needs_usage
from tallyman.domain.content_id import content_id
from tallyman.domain.invoice_line import ZERO, InvoiceLine, Totals, blank_line, rated
from tallyman.domain.money import EXACT, total
from tallyman.domain.rating.detailed_line import detailed_line
from tallyman.domain.subscription import Subscription
from tallyman.domain.usage import Usage, usage_difference


def correction_for(
    subscription: Subscription,
    billable: Billable,
    invoiced: Sequence[InvoiceLine],
    usage: Usage | None = None,
    let_off: Decimal = ZERO,
    forgiven: Decimal = ZERO,
) -> InvoiceLine | None:
    """What the billable is now, less what final invoices have of it; None if nothing has changed.

    `invoiced` are all its lines so far, earlier corrections included, the first one first; `let_off`
    is the goodwill on them, and `forgiven` what those have that are on void invoices.

    Raises:
        RatingError: it cannot be rated.
    """
    blank = replace(blank_line(subscription, billable), let_off=let_off, forgiven=forgiven)
    return _corrected_next(blank, subscription.customer_id, invoiced, usage)


def taken_back(
    customer_id: str,
    invoiced: Sequence[InvoiceLine],
    let_off: Decimal = ZERO,
    forgiven: Decimal = ZERO,
) -> InvoiceLine | None:
    """What gives back all that final invoices have of a billable that there is no more.

    Such as a period that was billed ahead, and is not served after all. None if that was nothing.
    """
    nothing = replace(invoiced[0], share=Fraction(0), credits_applied=())
    blank = replace(nothing, let_off=let_off, forgiven=forgiven)
    return _corrected_next(blank, customer_id, invoiced, None)


def _corrected_next(
    line: InvoiceLine, customer_id: str, invoiced: Sequence[InvoiceLine], usage: Usage | None
) -> InvoiceLine | None:
    version = max(line.version for line in invoiced) + 1
    begins = line.full_service_period.from_
    blank = replace(
        line,
        id=content_id(begins, customer_id, line.billable_id, str(version)),
        version=version,
        corrects=invoiced[0].corrects or invoiced[0].id,
    )
    made = corrected(blank, invoiced, usage)
    return made if made.totals.before_credits or made.raw_quantity else None


def corrected(
    line: InvoiceLine, invoiced: Sequence[InvoiceLine], usage: Usage | None = None
) -> InvoiceLine:
    """A correcting line with what its whole is by its rate card, share and usage, less the others.

    Credit that paid for more than the whole now is comes back as credit, and not as money.

    Raises:
        RatingError: it cannot be rated.
    """
    if not line.share and needs_usage(line.rate_card):
        usage = Usage(ZERO, unit=next((x.usage.unit for x in invoiced if x.usage), "unit"))
    whole = rated(line, usage)
    # What was forgiven was never paid: none of it comes back.
    owed, back = still_owed(max(whole.totals.total, line.forgiven), invoiced, line.let_off)
    name = f"{line.rate_card.name}: correction"
    return replace(
        whole,
        name=name,
        totals=Totals(amount=owed, total=owed).paid_by_credit(-back if back else ZERO),
        detailed_lines=(detailed_line("correction", name, Decimal(1), owed),) if owed else (),
        raw_quantity=_difference(whole.raw_quantity, (line.raw_quantity for line in invoiced)),
        discounted_quantity=EXACT.subtract(
            whole.discounted_quantity, total(line.discounted_quantity for line in invoiced)
        ),
        invoiced_quantity=_difference(
            whole.invoiced_quantity, (line.invoiced_quantity for line in invoiced)
        ),
        tiers=(),
        usage=whole.usage and usage_difference(whole.usage, [line.usage for line in invoiced]),
    )


def still_owed(
    whole: Decimal, invoiced: Iterable[InvoiceLine], let_off: Decimal
) -> tuple[Decimal, Decimal]:
    """What the whole is more than was billed, by credit and by money, and how much credit comes back.

    Of the money no more comes back than was not let off by credit notes.
    """
    every = [line.totals for line in invoiced]
    paid = total(one.credits for one in every)
    back = max(EXACT.subtract(paid, whole), ZERO)
    money = total(one.total for one in every)
    least = EXACT.subtract(min(EXACT.subtract(let_off, money), ZERO), back)
    return max(EXACT.subtract(whole, EXACT.add(money, paid)), least), back


def _difference(whole: Decimal | None, parts: Iterable[Decimal | None]) -> Decimal | None:
    if whole is None:
        return None
    return EXACT.subtract(whole, total(part for part in parts if part is not None))
