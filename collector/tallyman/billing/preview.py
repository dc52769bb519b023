"""What is not billed yet: an invoice as it would be, if everything were due now.

It keeps nothing, and takes usage as it is at the moment, stored a millisecond ago or under way.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from tallyman.billing.books import Account, Books
from tallyman.billing.corrections import corrections
from tallyman.billing.draft import count, drafted, with_lines
from tallyman.billing.gather import OVERLAP, Gathered, Owed, owed_by
from tallyman.domain.billable import in_service
from tallyman.domain.event import LATEST
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_state import InvoiceState
from tallyman.errors import NotFound


async def preview(books: Books, namespace: str, customer_id: str, now: datetime) -> list[Invoice]:
    """One invoice for each currency; none where there is nothing to bill.

    Raises:
        NotFound: there is no such customer.
    """
    accounts = await books.accounts(namespace, [customer_id])
    if not accounts:
        raise NotFound(f"no customer has the id {customer_id}")
    return await preview_of(books, accounts[0], now)


async def preview_of(
    books: Books, account: Account, now: datetime, invoiced: Account | None = None
) -> list[Invoice]:
    """The same of an account as it is given, with subscriptions that may be none that are kept.

    `invoiced` is then the account by which its invoices were made, which corrections are held to.
    """
    owed = await _not_billed(books, account, now)
    counted = await count(books, [(account, one) for one in owed], LATEST)
    lacking = await corrections(books, [invoiced or account], LATEST, now)
    by_currency: dict[str, list[Owed]] = defaultdict(list)
    for one in owed:
        by_currency[one.subscription.currency].append(one)
    made = []
    for currency, some in by_currency.items():
        draft = drafted(Gathered(account, currency, now, tuple(some)), 1, now)
        lined = with_lines(
            draft, account, some, counted, lacking.lines.get((account.customer.id, currency), ())
        )
        made.append(replace(lined, state=InvoiceState.GATHERING, watermark=None))
    return made


async def _not_billed(books: Books, account: Account, now: datetime) -> Sequence[Owed]:
    """What is due and on no invoice, and what is being served."""
    known = await books.billed.progress([account.customer.id])
    found: dict[str, Owed] = {}
    for subscription in account.subscriptions:
        before = known.get(subscription.id)
        since = None if before is None else before.billed_until - OVERLAP
        for owed in owed_by(account, subscription, now, since):
            found[owed.billable.id] = owed
        for billable in in_service(subscription, now):
            found.setdefault(billable.id, Owed(subscription, billable))
    billed = await books.billed.billed(found)
    return [owed for id_, owed in found.items() if id_ not in billed]
