"""What is not billed yet: an invoice as it would be, if everything were due now.

It keeps nothing, and takes usage as it is at the moment, stored a millisecond ago or under way.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from tallyman.billing.books import Account, Books
from tallyman.billing.corrections import corrections
from tallyman.billing.credit_shown import paid_as_of_now
from tallyman.billing.draft import count, drafted, empty, with_lines
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
    return await paid_as_of_now(books, await previews(books, accounts, now), now)


async def previews(
    books: Books, accounts: Sequence[Account], now: datetime, invoiced: Sequence[Account] = ()
) -> list[Invoice]:
    """The same of many accounts as they are given, with subscriptions that may be none that are kept.

    `invoiced` are then the accounts by which their invoices were made, which corrections are held to.
    """
    owed = await _not_billed(books, accounts, now)
    counted = await count(books, owed, LATEST)
    lacking = await corrections(books, invoiced or accounts, LATEST, now)
    by_invoice: dict[tuple[str, str], list[Owed]] = defaultdict(list)
    for account, one in owed:
        by_invoice[account.customer.id, one.subscription.currency].append(one)
    by_id = {account.customer.id: account for account in accounts}
    made = []
    for (customer_id, currency), some in by_invoice.items():
        account = by_id[customer_id]
        draft = drafted(Gathered(account, currency, now, tuple(some)), 1, now)
        key = customer_id, currency
        corrected, failed = lacking.lines.get(key, ()), lacking.failed.get(key, ())
        lined = with_lines(draft, account, some, counted, corrected, failed)
        made.append(replace(lined, state=InvoiceState.GATHERING, watermark=None))
        await asyncio.sleep(0)  # a server goes on answering meanwhile
    for (customer_id, currency), lines in lacking.lines.items():
        if (customer_id, currency) not in by_invoice:  # nothing else is owed in it any more
            account = by_id[customer_id]
            alone = empty(account, currency, now, lines[0].service_period, 1, now)
            made.append(replace(with_lines(alone, account, [], counted, lines), watermark=None))
    return made


async def _not_billed(
    books: Books, accounts: Sequence[Account], now: datetime
) -> list[tuple[Account, Owed]]:
    """What is due and on no invoice, and what is being served."""
    known = await books.billed.progress(account.customer.id for account in accounts)
    found: dict[str, tuple[Account, Owed]] = {}
    for account in accounts:
        for subscription in account.subscriptions:
            before = known.get(subscription.id)
            since = None if before is None else before.billed_until - OVERLAP
            for owed in owed_by(account, subscription, now, since):
                found[owed.billable.id] = account, owed
            for billable in in_service(subscription, now):
                owed = Owed(subscription, account.priced(billable))
                found.setdefault(billable.id, (account, owed))
    billed = await books.billed.billed(found)
    return [one for id_, one in found.items() if id_ not in billed]
