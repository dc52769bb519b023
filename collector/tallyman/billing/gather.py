"""What is due and on no invoice yet: billables, put together to invoices by customer and time.

It does not count and does not rate: see `draft.py`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tallyman.billing.books import Account, Books
from tallyman.domain.billable import Billable, due, next_due
from tallyman.domain.duration import Cadence
from tallyman.domain.event import LATEST
from tallyman.domain.subscription import Subscription
from tallyman.store.billing_progress import Progress

# What became due shortly before a run, while it read, or by another server's clock, is looked for
# again by the next; it is not billed twice, since what is billed is known.
OVERLAP: Final = timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class Owed:
    """A billable with the subscription that it is of."""

    subscription: Subscription
    billable: Billable


@dataclass(frozen=True)
class Gathered:
    """What one invoice will hold: all that a customer owes in one currency at one time."""

    account: Account
    currency: str
    invoice_at: datetime
    owed: tuple[Owed, ...]


async def gather(
    books: Books, accounts: Sequence[Account], now: datetime
) -> tuple[list[Gathered], list[Progress]]:
    """What is due up to now and not billed, and how far that brings the subscriptions."""
    known = await books.billed.progress(account.customer.id for account in accounts)
    found: list[tuple[Account, Owed, datetime]] = []
    progress = []
    for account in accounts:
        for subscription in account.subscriptions:
            before = known.get(subscription.id)
            since = None if before is None else before.billed_until - OVERLAP
            until = now
            for owed in owed_by(account, subscription, now, since):
                at = aligned(account.profile.workflow.anchored, owed.billable.invoice_at)
                if at <= now:
                    found.append((account, owed, at))
                else:  # it waits for the profile's date
                    until = min(until, owed.billable.invoice_at - _MICROSECOND)
            if before is None or not _is_known(before, subscription, now, until):
                following = now if until < now else next_due(subscription, now) or LATEST
                progress.append(
                    Progress(
                        subscription.id,
                        account.customer.id,
                        until,
                        next_due_at=following,
                        as_of=subscription.updated_at,
                        seen=None if before is None else before.billed_until,
                    )
                )
    billed = await books.billed.billed(owed.billable.id for _, owed, _ in found)
    new = [one for one in found if one[1].billable.id not in billed]
    return list(_together(new)), progress


def _is_known(before: Progress, subscription: Subscription, now: datetime, until: datetime) -> bool:
    """Whether what would be kept of the subscription says hardly more than what is there."""
    return (
        until - before.billed_until <= OVERLAP / 4
        and before.as_of == subscription.updated_at
        and before.next_due_at is not None
        and (before.next_due_at > now or until < now)
    )


def owed_by(
    account: Account, subscription: Subscription, until: datetime, since: datetime | None
) -> Iterator[Owed]:
    """What the subscription owes after `since` and up to `until`, billed or not."""
    proration = account.profile.workflow.end_proration
    for billable in due(subscription, until, since, proration):
        yield Owed(subscription, account.priced(billable))


def aligned(anchored: Cadence | None, invoice_at: datetime) -> datetime:
    """When it is invoiced: at once, or at the next of the profile's own dates."""
    if anchored is None:
        return invoice_at
    period = anchored.period_at(invoice_at)
    return invoice_at if period.from_ == invoice_at else period.to


def _together(found: Iterable[tuple[Account, Owed, datetime]]) -> Iterator[Gathered]:
    groups: dict[tuple[str, str, datetime], list[tuple[Account, Owed]]] = defaultdict(list)
    for account, owed, at in found:
        groups[account.customer.id, owed.subscription.currency, at].append((account, owed))
    for (_, currency, at), members in groups.items():
        yield Gathered(members[0][0], currency, at, tuple(owed for _, owed in members))
