"""Rates a customer's past periods again by other prices, and makes the difference good.

The prices are kept by billable, so that drafts, corrections and previews use them from then on; what is
on final invoices is put right on the next invoice, or on credit notes at once.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from ulid import ULID

from tallyman.billing.books import Account, Books
from tallyman.billing.corrections import Lacking, put_right
from tallyman.billing.credit import Order, credit_lines, creditable
from tallyman.billing.gather import Owed, owed_by
from tallyman.domain.access import LOCAL
from tallyman.domain.credit_note import CreditNote
from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.money import EXACT, total
from tallyman.domain.period import Period
from tallyman.domain.plan import Plan
from tallyman.domain.rate_card import RateCard
from tallyman.domain.re_rating import ReRating, cards_of, repriced
from tallyman.domain.subscription import Subscription
from tallyman.errors import InvalidInput, InvalidParameter
from tallyman.store.billed_lines import BilledLine

_DAY: Final = timedelta(days=1)
_PRICES_NOTHING: Final = "prices nothing that the customer was served in the period"
_NOT_SERVED: Final = "is no rate card that the customer was served in the period"


class ReRatingTiming(StrEnum):
    """Where what was billed too much goes; what was billed too little is always on the next invoice."""

    NEXT_INVOICE = "next_invoice"
    CREDIT_NOTE = "credit_note"


@dataclass(frozen=True)
class ReRatingOrder:
    """Whose service periods that begin in `period` are rated again, by a plan's prices or by these,
    by the key of the rate card. With `dry_run` nothing is kept; with `refund` what was paid of credit
    notes is given back."""

    customer_id: str
    period: Period
    reason: str
    plan: Plan | None = None
    prices: Mapping[str, RateCard] | None = None
    timing: ReRatingTiming = ReRatingTiming.NEXT_INVOICE
    refund: bool = False
    dry_run: bool = False
    by: str = LOCAL


@dataclass(frozen=True)
class Difference:
    """What a service period of a rate card was billed, on which invoice first, and what it comes to
    now; `credit_note` is the number of the note that has the difference."""

    name: str
    service_period: Period
    currency: str
    invoice_id: str
    billed: Decimal
    now: Decimal
    credit_note: str | None = None

    @property
    def amount(self) -> Decimal:
        """What is more to be paid, or, negative, given back."""
        return EXACT.subtract(self.now, self.billed)


@dataclass(frozen=True)
class ReRated:
    """What came of it. `re_rating_id` is None where nothing was kept: in a dry run, or because all
    was rated like this already. `open` counts what no final invoice has yet, and follows by itself."""

    re_rating_id: str | None
    differences: tuple[Difference, ...]
    credit_notes: tuple[CreditNote, ...]
    open: int

    def totals(self) -> dict[str, Decimal]:
        """The differences by currency."""
        by: dict[str, list[Decimal]] = defaultdict(list)
        for one in self.differences:
            by[one.currency].append(one.amount)
        return {currency: total(some) for currency, some in by.items()}


async def re_rate(books: Books, namespace: str, order: ReRatingOrder, now: datetime) -> ReRated:
    """Do it; a second time it changes nothing.

    Raises:
        InvalidInput: no rate card of the period has another price then, or it cannot have it.
        Conflict: someone else rated or corrected the same at the same time.
    """
    [account] = await books.accounts(namespace, [order.customer_id])
    found = list(_in_period(account, order.period, now))
    cards = _cards(order, found)
    changed = {
        one.billable.id: cards[one.billable.id]
        for one in found
        if one.billable.id in cards and cards[one.billable.id] != one.billable.rate_card
    }
    priced = replace(account, cards={**account.cards, **changed})
    watermark = await books.quantities.watermark()
    billed = await books.billed.touched({}, (), cards)
    final = {id_: lines for id_, lines in billed.items() if all(x.is_final for x in lines)}
    lacking = await put_right(books, [priced], final, watermark, now)
    lines = [line for some in lacking.lines.values() for line in some]
    open_ = len(cards) - len(final)
    if order.dry_run:
        return ReRated(None, _differences(lines, final, ()), (), open_)
    kept: str | None = None
    notes: tuple[CreditNote, ...] = ()
    async with books.database.together():
        if changed:
            kept = str(ULID())
            await books.re_ratings.add(_record(kept, namespace, order, changed, now))
        if order.timing is ReRatingTiming.CREDIT_NOTE:
            made = _credited(books, priced, order, lines, final, lacking, watermark, now)
            notes = tuple([note async for note in made])
    return ReRated(kept, _differences(lines, final, notes), notes, open_)


async def _credited(
    books: Books,
    account: Account,
    order: ReRatingOrder,
    lines: Sequence[InvoiceLine],
    final: Mapping[str, Sequence[BilledLine]],
    lacking: Lacking,
    watermark: datetime,
    now: datetime,
) -> AsyncIterator[CreditNote]:
    """One credit note for each invoice that has lines which are too high, as far as it can have it."""
    by_invoice: dict[str, list[InvoiceLine]] = defaultdict(list)
    for line in lines:
        if line.totals.total < 0:
            by_invoice[final[line.billable_id][0].invoice_id].append(line)
    for invoice_id, some in by_invoice.items():
        standing = await books.credit_notes.standing(account.customer.namespace, invoice_id)
        if not creditable(standing, some):
            continue
        wanted = Order(invoice_id, order.reason, order.by, refund=order.refund)
        yield await credit_lines(books, account, wanted, some, lacking, watermark, now)


def _in_period(account: Account, period: Period, now: datetime) -> Iterator[Owed]:
    """Everything whose service period begins in the period, and has begun."""
    for subscription in account.subscriptions:
        reach = _reach(subscription)
        for owed in owed_by(account, subscription, period.to + reach, period.from_ - reach):
            begins = owed.billable.service_period.from_
            if period.from_ <= begins < period.to and begins <= now:
                yield owed


def _reach(subscription: Subscription) -> timedelta:
    """Longer than from when something begins to when it is due, or the other way round."""
    cadences = [subscription.billing_cadence.mean] + [
        item.rate_card.billing_cadence.mean
        for phase in subscription.phases
        for item in phase.items
        if item.rate_card.billing_cadence is not None
    ]
    return 3 * max(cadences) + _DAY


def _cards(order: ReRatingOrder, found: Sequence[Owed]) -> dict[str, RateCard]:
    """The rate card that each billable is to be rated by, where the order says one.

    Raises:
        InvalidInput: it says none, or one that the billable cannot have.
    """
    _check_keys(order, found)
    by_phase = {} if order.plan is None else cards_of(order.plan)
    by_key = {key: card for (_, key), card in by_phase.items()} | dict(order.prices or {})
    made = {}
    for one in found:
        billable = one.billable
        card = billable.rate_card
        _check_currency(order, one)
        by = by_phase.get((billable.phase_key, card.key)) or by_key.get(card.key)
        if order.prices is not None:
            by = order.prices.get(card.key, by)
        if by is not None:
            made[billable.id] = repriced(card, by)
    if not made:
        field = "prices" if order.plan is None else "plan"
        parameter = InvalidParameter(field, "invalid", _PRICES_NOTHING)
        raise InvalidInput(f"{field} {_PRICES_NOTHING}", [parameter])
    return made


def _check_keys(order: ReRatingOrder, found: Sequence[Owed]) -> None:
    served = {one.billable.rate_card.key for one in found}
    wrong = [f"prices.{key}" for key in order.prices or {} if key not in served]
    if wrong:
        parameters = [InvalidParameter(field, "invalid", _NOT_SERVED) for field in wrong]
        raise InvalidInput(f"{wrong[0]} {_NOT_SERVED}", parameters)


def _check_currency(order: ReRatingOrder, one: Owed) -> None:
    if order.plan is not None and order.plan.currency != one.subscription.currency:
        reason = f"is in {order.plan.currency}, and the invoices are in {one.subscription.currency}"
        raise InvalidInput(f"plan {reason}", [InvalidParameter("plan", "invalid", reason)])


def _record(
    id_: str, namespace: str, order: ReRatingOrder, cards: Mapping[str, RateCard], now: datetime
) -> ReRating:
    return ReRating(
        id_, namespace, order.customer_id, order.period, order.reason, order.by, now, cards
    )


def _differences(
    lines: Sequence[InvoiceLine],
    final: Mapping[str, Sequence[BilledLine]],
    notes: Sequence[CreditNote],
) -> tuple[Difference, ...]:
    noted = {line.id: note.number for note in notes for line in note.lines}
    made = []
    for line in lines:
        before = final[line.billable_id]
        billed = total(one.line.totals.before_credits for one in before)
        made.append(
            Difference(
                before[0].line.name,
                line.service_period,
                line.currency,
                before[0].invoice_id,
                billed,
                EXACT.add(billed, line.totals.before_credits),
                noted.get(line.id),
            )
        )
    return tuple(sorted(made, key=lambda one: (one.service_period.from_, one.name)))
