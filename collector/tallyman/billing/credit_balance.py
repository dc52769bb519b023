"""What a customer has left of its credit, and that what has expired is booked.

What it does pay is booked with the invoices: `store/credit_booking.py`.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from tallyman.billing.books import Account, Books
from tallyman.billing.credit_shown import as_paid
from tallyman.billing.preview import previews
from tallyman.domain.billable import in_service
from tallyman.domain.burn_down import give_back
from tallyman.domain.credit import CreditGrant, GrantStatus
from tallyman.domain.invoice import Invoice
from tallyman.domain.money import EXACT, total
from tallyman.store.credit_selection import GrantLeft

_MICROSECOND: Final = timedelta(microseconds=1)
ZERO: Final = Decimal(0)


@dataclass(frozen=True)
class CreditBalance:
    """What a customer has in a currency.

    `settled` is what issued invoices have left, `live` what will be left once drafts are issued and
    everything used until now is billed, `pending` what is granted and not yet in effect.
    """

    currency: str
    live: Decimal
    settled: Decimal
    pending: Decimal


async def balances(
    books: Books,
    namespace: str,
    customer_id: str,
    now: datetime,
    at: datetime | None = None,
    feature_key: str | None = None,
) -> list[CreditBalance]:
    """What the customer has of each currency that it was ever granted; now, or as booked at a time.

    With a feature only what pays for that. What is not billed yet is known for now only.
    """
    moment = now if at is None else min(at, now)
    left = await books.credits.left([customer_id], None if at is None else moment)
    unbilled = await _unbilled(books, namespace, [customer_id], now) if at is None and left else []
    used = await _used(books, unbilled, left, moment)
    asked = [one for one in left if feature_key is None or one.grant.is_for(feature_key)]
    return [
        _balance(currency, [x for x in asked if x.grant.currency == currency], used, moment)
        for currency in sorted({one.grant.currency for one in left})
    ]


def _balance(
    currency: str, left: Sequence[GrantLeft], used: Mapping[str, Decimal], at: datetime
) -> CreditBalance:
    active = [one for one in left if one.grant.status_at(at) is GrantStatus.ACTIVE]
    pending = [one for one in left if one.grant.status_at(at) is GrantStatus.PENDING]
    drafted = total(one.left(at) for one in active)
    settled = EXACT.add(drafted, total(one.held for one in active))
    unbilled = total(used.get(one.grant.id, ZERO) for one in active)
    return CreditBalance(
        currency,
        live=EXACT.subtract(drafted, unbilled),
        settled=settled,
        pending=total(one.grant.amount for one in pending),
    )


async def _unbilled(
    books: Books, namespace: str, customer_ids: Sequence[str], now: datetime
) -> list[Invoice]:
    """What the customers owe that credit is not applied to yet: uncounted drafts, and what is on no
    invoice."""
    accounts = await books.accounts(namespace, customer_ids)
    drafts = await books.invoices.uncounted(namespace, customer_ids)
    return [*drafts, *await previews(books, accounts, now)]


async def live_balances(
    books: Books, namespace: str, customer_ids: Sequence[str], now: datetime
) -> dict[tuple[str, str], Decimal]:
    """What each of the customers has left live, by (customer id, currency)."""
    left = await books.credits.left(customer_ids)
    unbilled = await _unbilled(books, namespace, customer_ids, now) if left else []
    used = await _used(books, unbilled, left, now)
    found: dict[tuple[str, str], Decimal] = {}
    for key in {(one.grant.customer_id, one.grant.currency) for one in left}:
        mine = [x for x in left if (x.grant.customer_id, x.grant.currency) == key]
        found[key] = _balance(key[1], mine, used, now).live
    return found


async def _used(
    books: Books, unbilled: Sequence[Invoice], left: Sequence[GrantLeft], now: datetime
) -> dict[str, Decimal]:
    """How much of each grant the invoices would use, less what their corrections give back."""
    used: dict[str, Decimal] = defaultdict(Decimal)
    for invoice in as_paid(unbilled, left, now):
        for line in invoice.lines:
            for applied in line.credits_applied:
                used[applied.grant_id] = EXACT.add(used[applied.grant_id], applied.amount)
    lower = [x for one in unbilled for x in one.lines if x.totals.credits < 0]
    drawn = await books.ledger.drawn({one.billable_id for one in lower})
    grants = [one.grant for one in left]
    for line in lower:
        paid = {one.id: drawn.get((line.billable_id, one.id), ZERO) for one in grants}
        for grant_id, amount in give_back(grants, paid, -line.totals.credits).items():
            used[grant_id] = EXACT.subtract(used[grant_id], amount)
    return used


async def turn(books: Books, accounts: Sequence[Account], now: datetime) -> None:
    """Book what has taken effect, and what is left of what has expired.

    The latter once nothing from before is left to bill.
    """
    by_id = {account.customer.id: account for account in accounts}
    every = [x for x in await books.credits.left(by_id) if x.grant.voided_at is None]
    begun = [x.grant for x in every if not x.is_funded and x.grant.has_begun(now)]
    over = [
        one.grant
        for one in every
        if one.grant.status_at(now) is GrantStatus.EXPIRED
        and (one.booked > 0 or one.grant in begun)
        and await _is_all_billed(books, by_id[one.grant.customer_id], one.grant)
    ]
    for namespace in {one.namespace for one in (*begun, *over)}:
        await books.credits.turn(
            namespace,
            [one for one in begun if one.namespace == namespace],
            [one for one in over if one.namespace == namespace],
            now,
        )


async def turn_others(books: Books, namespace: str, but: Collection[str], now: datetime) -> None:
    """The same of customers who never had a subscription."""
    ids = set((await books.credits.customers()).get(namespace, ())) - set(but)
    if ids:
        await turn(books, await books.accounts(namespace, ids), now)


async def _is_all_billed(books: Books, account: Account, grant: CreditGrant) -> bool:
    """Whether everything that was served before the grant expired is counted on an invoice."""
    if grant.expires_at is None:
        return False
    if await books.invoices.uncounted(grant.namespace, [grant.customer_id]):
        return False
    last = grant.expires_at - _MICROSECOND
    wanted = {
        billable.id
        for subscription in account.subscriptions
        if subscription.currency == grant.currency
        for billable in in_service(subscription, last)
    }
    return wanted <= await books.billed.billed(wanted)
