"""Invoices of corrections alone, for those who will owe nothing new that they could go with.

What is corrected, and by how much, is `corrections.py`'s.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tallyman.billing.advance import walk
from tallyman.billing.books import Account, Books
from tallyman.billing.corrections import Lacking, corrections, note_failed
from tallyman.billing.draft import Counted, empty, with_lines
from tallyman.billing.gather import Gathered
from tallyman.domain.billable import next_due
from tallyman.domain.invoice import Invoice
from tallyman.domain.subscription import Subscription
from tallyman.store.billing_progress import Progress


@dataclass(frozen=True)
class Lone:
    """The invoices, whose late events they hold, and what could not be corrected, in words."""

    invoices: Sequence[Invoice] = ()
    progress: Sequence[Progress] = ()
    failed: Sequence[str] = ()


async def corrected_alone(
    books: Books, accounts: Sequence[Account], gathered: Sequence[Gathered], now: datetime
) -> Lone:
    """Corrections in the currencies in which a customer will owe nothing new.

    Most are of customers who are served no more; others went on in another currency, or to a plan
    that never costs anything. What must be billed again, though a correction of it stands, is not
    kept waiting either.
    """
    lone = await _lone_currencies(books, accounts, gathered, now)
    over = [one for one in accounts if one.customer.id in lone]
    until = await books.billed.final_until(one.customer.id for one in over)
    over = [one for one in over if one.customer.id in until]
    if not over:
        return Lone()
    watermark = await books.quantities.watermark()
    lacking = await corrections(books, over, watermark, now)
    left = set(note_failed(lacking))
    left |= {id_ for id_, currency in lacking.lines if currency not in lone[id_]}
    ended = [
        one
        for one in over
        if one.customer.id not in left
        and lone[one.customer.id] >= {x.currency for x in one.subscriptions}
    ]
    return Lone(
        await _invoices(books, over, lone, until, lacking, watermark, now),
        await _looked_at(books, ended, watermark),
        [
            issue.message
            for key, some in lacking.failed.items()
            if key[1] in lone[key[0]]
            for issue in some
        ],
    )


async def _lone_currencies(
    books: Books, accounts: Sequence[Account], gathered: Sequence[Gathered], now: datetime
) -> dict[str, set[str]]:
    """By customer, the currencies in which a correction must not wait for another invoice."""
    found: dict[str, set[str]] = defaultdict(set)
    for account in accounts:
        found[account.customer.id] |= _ended_currencies(account, now)
    for customer_id, currency in (await books.billed.headless(found)).values():
        found[customer_id].add(currency)
    for one in gathered:
        found[one.account.customer.id].discard(one.currency)
    return {customer_id: some for customer_id, some in found.items() if some}


async def _invoices(
    books: Books,
    accounts: Sequence[Account],
    lone: Mapping[str, Collection[str]],
    until: Mapping[str, datetime],
    lacking: Lacking,
    watermark: datetime,
    now: datetime,
) -> list[Invoice]:
    by_id = {one.customer.id: one for one in accounts}
    found = {key: lines for key, lines in lacking.lines.items() if key[1] in lone[key[0]]}
    at_of = {key: min(until[key[0]], _left_at(by_id[key[0]], key[1], now)) for key in found}
    versions = await books.invoices.versions({(*key, at) for key, at in at_of.items()})
    counted = Counted(watermark, {}, lacking.metered)
    made = []
    for (id_, currency), lines in found.items():
        account, at = by_id[id_], at_of[id_, currency]
        version = versions.get((id_, currency, at), 0) + 1
        blank = empty(account, currency, at, lines[0].service_period, version, now)
        failed = lacking.failed.get((id_, currency), ())
        lined = with_lines(blank, account, [], counted, lines, failed)
        made.append(walk(replace(lined, quantity_snapshotted_at=now), now))
    return made


async def _looked_at(books: Books, ended: Sequence[Account], watermark: datetime) -> list[Progress]:
    waiting = await books.billed.counted_until(one.customer.id for one in ended)
    return [
        Progress(
            one.id,
            account.customer.id,
            one.active_from,
            min(watermark, waiting.get(account.customer.id, watermark)),
        )
        for account in ended
        for one in account.subscriptions
    ]


def _ended_currencies(account: Account, now: datetime) -> set[str]:
    """Those in which no subscription of the customer will make anything due any more."""
    going = {one.currency for one in account.subscriptions if _makes_due(one, now)}
    return {one.currency for one in account.subscriptions} - going


def _makes_due(subscription: Subscription, now: datetime) -> bool:
    if subscription.active_to is not None and subscription.active_to <= now:
        return False
    last = subscription.phases[-1]
    if subscription.active_to is None and any(x.rate_card.billing_cadence for x in last.items):
        return True
    return next_due(subscription, now) is not None


def _left_at(account: Account, currency: str, now: datetime) -> datetime:
    """The end of the last subscription in a currency in which nothing more will be due."""
    ends = [
        one.active_to
        for one in account.subscriptions
        if one.currency == currency and one.active_to is not None and one.active_to <= now
    ]
    return max(ends, default=now)
