"""Invoices that are kept nowhere, as credit would pay them: previews and dry runs.

It books nothing: see `store/credit_booking.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from tallyman.billing.books import Books
from tallyman.domain.burn_down import burn_down
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_credit import credited, demands_of
from tallyman.domain.money import EXACT
from tallyman.store.credit_selection import GrantLeft


async def paid_as_of_now(books: Books, invoices: Sequence[Invoice], now: datetime) -> list[Invoice]:
    """The invoices as the credit that is left now would pay them."""
    left = await books.credits.left({one.customer.id for one in invoices})
    return as_paid(invoices, left, now) if left else list(invoices)


def as_paid(invoices: Sequence[Invoice], left: Sequence[GrantLeft], now: datetime) -> list[Invoice]:
    """Invoices that are kept nowhere, as credit would pay them, one after the other."""
    rest = {one.grant.id: one.left(now) for one in left}
    grants = {one.grant.id: one.grant for one in left}
    shown = []
    for invoice in invoices:
        whose = invoice.customer.id, invoice.currency
        mine = [x for x in grants.values() if (x.customer_id, x.currency) == whose]
        draws = burn_down(mine, rest, demands_of(invoice.lines), now)
        for draw in draws:
            rest[draw.grant_id] = EXACT.subtract(rest[draw.grant_id], draw.amount)
        lines = credited(invoice.lines, draws, grants) if draws else invoice.lines
        shown.append(replace(invoice, lines=lines))
    return shown
