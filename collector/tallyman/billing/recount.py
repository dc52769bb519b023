"""An invoice computed again from the events as they were at its watermark, to prove it.

It changes nothing. What it was counted by is kept with it (`domain/counting.py`), so that no later
change of a meter, a feature or a customer's subjects is seen.
"""

from collections.abc import Sequence
from dataclasses import replace

from tallyman.billing.advance import reopened
from tallyman.billing.books import Account, Books
from tallyman.billing.draft import Counted, question_of, rated_line
from tallyman.billing.gather import Owed, owed_by
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_line import InvoiceLine, correction_for
from tallyman.errors import NotFound


async def recounted(books: Books, invoice: Invoice) -> tuple[InvoiceLine, ...]:
    """The lines as they come out of the events now; equal to the invoice's, if it is true.

    Raises:
        NotFound: it was never counted, or its subscription is no more.
    """
    if invoice.counting is None or invoice.watermark is None:
        raise NotFound(f"invoice {invoice.id} was not counted yet")
    [opened] = await reopened(books, [invoice])
    owed = _owed_of(invoice, opened.account)
    asked = []
    for one in owed.values():
        question = question_of(invoice.counting.spans, one.billable, invoice.counting.metered)
        if question is not None and one.billable.needs_usage:
            asked.append((one.billable.id, question))
    usages = await books.quantities.count([question for _, question in asked], invoice.watermark)
    usage = {id_: found for (id_, _), found in zip(asked, usages, strict=True)}
    counted = Counted(invoice.watermark, usage, invoice.counting.metered)
    earlier = await _earlier(books, invoice)
    return tuple(_line(line, owed, counted, earlier) for line in invoice.lines)


def _owed_of(invoice: Invoice, account: Account) -> dict[str, Owed]:
    """What each line is for, by billable, as it was when the line was made."""
    found: dict[str, Owed] = {}
    lines = {line.billable_id: line for line in invoice.lines}
    for subscription in account.subscriptions:
        mine = [line for line in lines.values() if line.subscription_id == subscription.id]
        if not mine:
            continue
        begin = min(line.service_period.from_ for line in mine)
        cadence = subscription.billing_cadence
        until = cadence.after(cadence.after(max(line.service_period.to for line in mine)))
        for owed in owed_by(account, subscription, until, None):
            line = lines.get(owed.billable.id)
            if line is not None and owed.billable.service_period.from_ >= begin:
                period = line.service_period
                billable = replace(owed.billable, service_period=period, rate_card=line.rate_card)
                found[line.billable_id] = Owed(subscription, billable)
    missing = lines.keys() - found.keys()
    if missing:
        raise NotFound(f"what the lines of {', '.join(sorted(missing))} are for is no more")
    return found


async def _earlier(books: Books, invoice: Invoice) -> dict[str, list[InvoiceLine]]:
    """By billable, the lines before those of this invoice that it corrects."""
    corrected = {line.billable_id: line.version for line in invoice.lines if line.corrects}
    touched = await books.billed.touched({}, (), corrected)
    return {
        billable_id: [one.line for one in lines if one.line.version < corrected[billable_id]]
        for billable_id, lines in touched.items()
    }


def _line(
    line: InvoiceLine,
    owed: dict[str, Owed],
    counted: Counted,
    earlier: dict[str, list[InvoiceLine]],
) -> InvoiceLine:
    one = owed[line.billable_id]
    if line.corrects is None:
        return rated_line(one, counted)[0]
    before: Sequence[InvoiceLine] = earlier[line.billable_id]
    usage = counted.usage.get(line.billable_id)
    corrected = correction_for(one.subscription, one.billable, before, usage)
    return corrected if corrected is not None else replace(line, usage=None)
