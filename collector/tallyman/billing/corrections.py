"""What arrived, or was changed, after an invoice was final: the lines that put it right on the next.

A final invoice is never touched. See `domain/line_correction.py` for what such a line says.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from tallyman.billing.books import Account, Books
from tallyman.billing.draft import Counted, count, nothing_counts
from tallyman.billing.gather import Owed, owed_by
from tallyman.domain.billable import needs_usage
from tallyman.domain.counting import Metered
from tallyman.domain.invoice import Invoice, IssueSeverity, ValidationIssue
from tallyman.domain.invoice_line import ZERO, InvoiceLine
from tallyman.domain.line_correction import correction_for, taken_back
from tallyman.domain.money import total
from tallyman.domain.period import EPOCH, Period
from tallyman.errors import RatingError
from tallyman.metrics import NOT_CORRECTED
from tallyman.store.billed_lines import BilledLine
from tallyman.store.slot_sql import Parts

_log = logging.getLogger(__name__)
_MICROSECOND = timedelta(microseconds=1)
_YEAR = timedelta(days=366)
_BEGINNING = EPOCH + timedelta(days=1)
# Longer than a run takes from reading whose usage is whose to its watermark, and than clocks differ.
_CLAIM_REACH = timedelta(days=1)


@dataclass(frozen=True)
class Lacking:
    """The correcting lines by customer and currency, and what they were counted by.

    `failed` are those that could not be rated: nobody knows what is lacking.
    """

    lines: Mapping[tuple[str, str], list[InvoiceLine]]
    metered: Mapping[str, Metered]
    failed: Mapping[tuple[str, str], list[ValidationIssue]]


async def corrections(
    books: Books,
    accounts: Sequence[Account],
    watermark: datetime,
    now: datetime,
    replaced: Sequence[Invoice] = (),
) -> Lacking:
    """What final invoices of the accounts lack or have too much, by customer and currency.

    As it is known at the watermark. The lines of the drafts that are replaced do not count: what they
    corrected is corrected anew. A billable that is on another draft is left to that, and what is
    still being served, which was billed in advance, to when it is over. What was billed ahead, and
    then the subscription ended before it, is given back.
    """
    late = await _late(books, accounts, watermark)
    over = [
        (one.customer_id, one.id, one.active_to)
        for account in accounts
        for one in account.subscriptions
        if one.active_to is not None and one.active_to <= now
    ]
    again = {line.billable_id for one in replaced for line in one.lines if line.corrects}
    again |= (await books.billed.headless(account.customer.id for account in accounts)).keys()
    touched = await books.billed.touched(late, over, again)
    touched |= await _cut_once(books, accounts)
    touched |= await _re_rated(books, accounts)
    gone = {invoice.id for invoice in replaced}
    left = {
        billable_id: [one for one in lines if one.invoice_id not in gone]
        for billable_id, lines in touched.items()
    }
    return await put_right(books, accounts, left, watermark, now)


async def put_right(
    books: Books,
    accounts: Sequence[Account],
    billed: Mapping[str, Sequence[BilledLine]],
    watermark: datetime,
    now: datetime,
) -> Lacking:
    """What the lines of these billables lack or have too much, where all of them are final."""
    final = {
        billable_id: [one.line for one in lines]
        for billable_id, lines in billed.items()
        if lines and all(one.is_final for one in lines)
    }
    asked = [
        (account, owed)
        for account, owed in _still_owed(accounts, final)
        if owed.billable.service_period.to <= now
    ]
    counted = await count(books, asked, watermark)
    let_off = await books.credit_notes.let_off(final)
    forgiven = {
        id_: total(one.line.totals.before_credits for one in billed[id_] if one.is_void)
        for id_ in final
    }
    found: dict[tuple[str, str], list[InvoiceLine]] = defaultdict(list)
    failed: dict[tuple[str, str], list[ValidationIssue]] = defaultdict(list)
    for account, owed in asked:
        key = account.customer.id, owed.subscription.currency
        id_ = owed.billable.id
        try:
            line = _correction(owed, final[id_], counted, let_off.get(id_, ZERO), forgiven[id_])
        except RatingError as err:
            failed[key].append(_not_corrected(owed, err))
            continue
        if line is not None:
            found[key].append(line)
    for account, lines in _never_served(accounts, _ended(accounts, now), final):
        id_ = lines[0].billable_id
        off = let_off.get(id_, ZERO)
        given_back = taken_back(account.customer.id, lines, off, forgiven[id_])
        if given_back is not None:
            found[account.customer.id, given_back.currency].append(given_back)
    return Lacking(found, counted.metered, failed)


def _ended(accounts: Sequence[Account], now: datetime) -> dict[str, datetime]:
    """When those of the subscriptions ended that have."""
    return {
        one.id: one.active_to
        for account in accounts
        for one in account.subscriptions
        if one.active_to is not None and one.active_to <= now
    }


def _never_served(
    accounts: Sequence[Account],
    ended: Mapping[str, datetime],
    final: Mapping[str, list[InvoiceLine]],
) -> Iterator[tuple[Account, list[InvoiceLine]]]:
    """The lines of each billable that begins only after its subscription has ended."""
    whose = {one.id: account for account in accounts for one in account.subscriptions}
    for lines in final.values():
        of, begins = lines[0].subscription_id, lines[0].service_period.from_
        if of in ended and ended[of] <= begins:
            yield whose[of], lines


async def _cut_once(books: Books, accounts: Sequence[Account]) -> dict[str, list[BilledLine]]:
    """Fees of subscriptions that were canceled or go on after all: the end may have cut them then."""
    changed = [
        (one.customer_id, one.id, one.updated_at - max(_YEAR, 2 * one.billing_cadence.mean))
        for account in accounts
        for one in account.subscriptions
        if one.updated_at != one.created_at
    ]
    touched = await books.billed.touched({}, changed)
    return {
        billable_id: lines
        for billable_id, lines in touched.items()
        if not needs_usage(lines[0].line.rate_card)
    }


async def _re_rated(books: Books, accounts: Sequence[Account]) -> dict[str, list[BilledLine]]:
    """What was rated again by other prices, and is not billed by them yet."""
    cards = {id_: card for account in accounts for id_, card in account.cards.items()}
    touched = await books.billed.touched({}, (), cards) if cards else {}
    return {id_: lines for id_, lines in touched.items() if lines[-1].line.rate_card != cards[id_]}


async def _late(
    books: Books, accounts: Sequence[Account], watermark: datetime
) -> dict[str, Period]:
    """When the events of each customer were that came after its last invoices were counted."""
    until = await books.billed.final_until(account.customer.id for account in accounts)
    progress = await books.billed.progress(until)
    looked_at: dict[str, datetime] = {}
    for one in progress.values():
        before = looked_at.get(one.customer_id)
        seen = one.corrected_until or _BEGINNING
        looked_at[one.customer_id] = seen if before is None else min(seen, before)
    for account in accounts:  # a new subject brings what it used before, stored whenever
        id_, claimed_at = account.customer.id, account.claimed_at
        if id_ in looked_at and claimed_at and looked_at[id_] < claimed_at + _CLAIM_REACH:
            looked_at[id_] = _BEGINNING
    late: dict[str, Period] = {}
    by_namespace: dict[str, list[Account]] = defaultdict(list)
    for account in accounts:
        if account.customer.id in looked_at:
            by_namespace[account.customer.namespace].append(account)
    for namespace, some in by_namespace.items():
        slots = [_slot(account, until[account.customer.id]) for account in some]
        after = [looked_at[account.customer.id] for account in some]
        found = await books.quantities.late(namespace, slots, after, watermark)
        late |= {some[at].customer.id: period for at, period in found.items()}
    return late


def _slot(account: Account, until: datetime) -> Parts:
    """The account's subjects, as long as they are its own and up to what is invoiced."""
    return tuple(
        (span.subject, Period(span.from_ or EPOCH, min(span.to or until, until)))
        for span in account.spans
        if (span.from_ or EPOCH) < until
    )


def _still_owed(
    accounts: Sequence[Account], final: dict[str, list[InvoiceLine]]
) -> list[tuple[Account, Owed]]:
    """The billables of the lines, as they are now."""
    times: dict[str, Period] = {}
    for lines in final.values():
        for line in lines:
            before = times.get(line.subscription_id, line.service_period)
            times[line.subscription_id] = Period(
                min(before.from_, line.service_period.from_),
                max(before.to, line.service_period.to),
            )
    found = []
    for account in accounts:
        for subscription in account.subscriptions:
            time = times.get(subscription.id)
            if time is None:
                continue
            # What was served then is due at the end of the billing period that holds it, at latest.
            until = subscription.billing_cadence.after(subscription.billing_cadence.after(time.to))
            for owed in owed_by(account, subscription, until, time.from_ - _MICROSECOND):
                if owed.billable.id in final:
                    found.append((account, owed))
    return found


def _correction(
    owed: Owed,
    invoiced: Sequence[InvoiceLine],
    counted: Counted,
    let_off: Decimal,
    forgiven: Decimal,
) -> InvoiceLine | None:
    usage = counted.usage.get(owed.billable.id)
    if owed.billable.needs_usage and usage is None:
        raise nothing_counts(owed.billable.rate_card)
    return correction_for(owed.subscription, owed.billable, invoiced, usage, let_off, forgiven)


def _not_corrected(owed: Owed, err: RatingError) -> ValidationIssue:
    """The final line stays as it is, and the next run tries again."""
    period = owed.billable.service_period
    what = f"{owed.billable.rate_card.key} from {period.from_:%Y-%m-%d} to {period.to:%Y-%m-%d}"
    message = f"{what} cannot be rated again, so that what came late is not billed: {err}"
    return ValidationIssue("invoice_line_not_corrected", message, IssueSeverity.WARNING)


def note_failed(lacking: Lacking) -> list[str]:
    """Make what could not be corrected known; returns the customers' ids."""
    for (customer_id, _), issues in lacking.failed.items():
        for issue in issues:
            NOT_CORRECTED.inc()
            _log.warning("customer %s: %s", customer_id, issue.message)
    return [customer_id for customer_id, _ in lacking.failed]
