"""An invoice computed again from the events as they were at its watermark, to prove it.

It changes nothing. What the invoice was counted by is kept with it (`domain/counting.py`), and with
each line what it was rated by: no later change of a meter, a customer or a subscription is seen. What
credit pays is worked out from the ledger as it was then.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from tallyman.billing.books import Books
from tallyman.billing.draft import question_of, unrated
from tallyman.domain.billable import needs_usage
from tallyman.domain.burn_down import burn_down
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_credit import credited, demands_of
from tallyman.domain.invoice_line import InvoiceLine, rated
from tallyman.domain.line_correction import corrected
from tallyman.domain.usage import Usage
from tallyman.errors import NotFound, RatingError


async def recounted(books: Books, invoice: Invoice) -> tuple[InvoiceLine, ...]:
    """The lines as they come out of the events now; equal to the invoice's, if it is true.

    Raises:
        NotFound: it was never counted.
    """
    counting, watermark = invoice.counting, invoice.watermark
    if counting is None or watermark is None:
        raise NotFound(f"invoice {invoice.id} was not counted yet")
    asked = {}
    for line in invoice.lines:
        card, period = line.rate_card, line.service_period
        question = question_of(counting.spans, card, period, counting.metered)
        if question is not None and needs_usage(card):
            asked[line.id] = question
    usages = await books.quantities.count(list(asked.values()), watermark)
    usage = dict(zip(asked, usages, strict=True))
    corrections = [line for line in invoice.lines if line.corrects]
    before = await books.billed.before(invoice.customer.id, corrections, counted_at(invoice))
    earlier = {id_: [one.line for one in each] for id_, each in before.items()}
    lines = tuple(_line(one, usage.get(one.id), earlier.get(one.id, ())) for one in invoice.lines)
    return await _paid(books, invoice, lines)


async def _paid(
    books: Books, invoice: Invoice, lines: tuple[InvoiceLine, ...]
) -> tuple[InvoiceLine, ...]:
    """The lines as credit pays for them, from what the ledger had before it did."""
    returned = tuple(
        replace(line, credits_applied=was.credits_applied) if was.totals.credits < 0 else line
        for line, was in zip(lines, invoice.lines, strict=True)
    )
    before = await books.ledger.before(invoice.id)
    if before is None:
        return returned
    draws = burn_down(before.grants, before.available, demands_of(lines), before.at)
    return credited(returned, draws, {one.id: one for one in before.grants})


def counted_at(invoice: Invoice) -> datetime:
    """When its corrections were made: what counted as billed then is what they are taken from."""
    return invoice.quantity_snapshotted_at or invoice.updated_at


def _line(line: InvoiceLine, usage: Usage | None, earlier: Sequence[InvoiceLine]) -> InvoiceLine:
    if line.corrects is not None:
        return corrected(line, earlier, usage)
    try:
        return rated(line, usage)
    except RatingError:
        return unrated(line, usage)
