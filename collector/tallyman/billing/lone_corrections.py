"""Invoices of corrections alone, for those who will owe nothing new that they could go with.

What is corrected, and by how much, is `corrections.py`'s.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from tallyman.billing.advance import walk
from tallyman.billing.books import Account, Books
from tallyman.billing.corrections import corrections
from tallyman.billing.draft import Counted, empty, with_lines
from tallyman.billing.gather import Gathered
from tallyman.domain.invoice import Invoice
from tallyman.store.billing_progress import Progress


async def corrected_alone(
    books: Books, accounts: Sequence[Account], gathered: Sequence[Gathered], now: datetime
) -> tuple[list[Invoice], list[Progress]]:
    """Invoices of corrections alone, in currencies in which a customer will owe nothing new.

    Most are of customers who are served no more; others went on in another currency.
    """
    billed = {(one.account.customer.id, one.currency) for one in gathered}
    ended = {
        one.customer.id: {
            currency
            for currency in _ended_currencies(one, now)
            if (one.customer.id, currency) not in billed
        }
        for one in accounts
    }
    over = [one for one in accounts if ended[one.customer.id]]
    until = await books.billed.final_until(one.customer.id for one in over)
    over = [one for one in over if one.customer.id in until]
    if not over:
        return [], []
    watermark = await books.quantities.watermark()
    lacking = await corrections(books, over, watermark, now)
    by_id = {one.customer.id: one for one in over}
    found = {key: lines for key, lines in lacking.lines.items() if key[1] in ended[key[0]]}
    at_of = {key: min(until[key[0]], _left_at(by_id[key[0]], key[1])) for key in found}
    versions = await books.invoices.versions({(*key, at) for key, at in at_of.items()})
    counted = Counted(watermark, {}, lacking.metered)
    made = []
    for (id_, currency), lines in found.items():
        account, at = by_id[id_], at_of[id_, currency]
        version = versions.get((id_, currency, at), 0) + 1
        blank = empty(account, currency, at, lines[0].service_period, version, now)
        lined = with_lines(blank, account, [], counted, lines)
        made.append(walk(replace(lined, quantity_snapshotted_at=now), now))
    waiting = await books.billed.counted_until(by_id)
    looked_at = [
        Progress(x.id, id_, x.active_from, min(watermark, waiting.get(id_, watermark)))
        for id_, one in by_id.items()
        if ended[id_] == {x.currency for x in one.subscriptions}
        for x in one.subscriptions
    ]
    return made, looked_at


def _ended_currencies(account: Account, now: datetime) -> set[str]:
    """Those in which no subscription of the customer will make anything due any more."""
    going = {
        one.currency
        for one in account.subscriptions
        if one.active_to is None or now < one.active_to
    }
    return {one.currency for one in account.subscriptions} - going


def _left_at(account: Account, currency: str) -> datetime:
    """The end of the last subscription in a currency in which all of the customer's are over."""
    return max(
        one.active_to
        for one in account.subscriptions
        if one.currency == currency and one.active_to is not None
    )
