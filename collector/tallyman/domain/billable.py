"""What a subscription owes when: each rate card, period by period.

It does not know how much: see `rating/`. It does not know what is invoiced already: billing does.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import islice
from typing import Final

from tallyman.domain.content_id import content_id
from tallyman.domain.duration import Cadence, Duration
from tallyman.domain.period import Period
from tallyman.domain.price import FlatPrice, FreePrice
from tallyman.domain.rate_card import PaymentTerm, RateCard
from tallyman.domain.service_period import EndProration, clip, holds, share_of
from tallyman.domain.subscription import Subscription, SubscriptionItem, SubscriptionPhase

_INSTANT: Final = timedelta(microseconds=1)
_LONGER_THAN_MEAN: Final = 1.1  # of a month by 2 %: 31 days


@dataclass(frozen=True)
class Billable:
    """A rate card for one service period.

    `service_period` is what is served of `full_service_period`, and `share` how much of it, for a
    flat price. It is due at `invoice_at`. The id stays the same when an early end cuts the service
    period short, so that what was invoiced before can be told and put right.
    """

    id: str
    subscription_id: str
    phase_id: str
    phase_key: str
    item_id: str
    rate_card: RateCard
    service_period: Period
    full_service_period: Period
    billing_period: Period
    invoice_at: datetime
    share: Fraction

    @property
    def needs_usage(self) -> bool:
        """Whether a meter must be asked before it can be rated."""
        return needs_usage(self.rate_card)


def needs_usage(card: RateCard) -> bool:
    """Whether a meter must be asked before the card can be rated."""
    return not isinstance(card.price, FlatPrice | FreePrice)


def due(
    subscription: Subscription,
    until: datetime,
    since: datetime | None = None,
    end_proration: EndProration = EndProration.BILL_ACTUAL_PERIOD,
) -> list[Billable]:
    """What is due after `since`, or ever, and up to `until` inclusive; by time, then by plan.

    `end_proration` holds where none is kept with the subscription's end.
    """

    def wanted(slot: _Slot) -> bool:
        return slot.invoice_at <= until and (since is None or since < slot.invoice_at)

    query = _Query(subscription, since, until, wanted, end_proration)
    return sorted(_found(query), key=lambda billable: billable.invoice_at)


def next_due(subscription: Subscription, after: datetime) -> datetime | None:
    """When the first thing after a moment is due; None if nothing ever will be."""

    def wanted(slot: _Slot) -> bool:
        return slot.invoice_at > after

    times = []
    for phase, begin, end in subscription.served_phases():
        query = _Query(
            subscription, after, max(after, begin), wanted, EndProration.BILL_FULL_PERIOD
        )
        terms = {(x.rate_card.billing_cadence, x.rate_card.payment_term): x for x in phase.items}
        for item in terms.values():
            slots = _slots(query, item.rate_card, begin, end)
            times += [slot.invoice_at for slot in islice(filter(wanted, slots), 1)]
    return min(times, default=None)


def in_service(subscription: Subscription, now: datetime) -> list[Billable]:
    """What is being served at the moment: with usage until now, the preview of what is not yet due."""

    def wanted(slot: _Slot) -> bool:
        return holds(slot.service, now)

    return list(_found(_Query(subscription, now, now, wanted, EndProration.BILL_ACTUAL_PERIOD)))


@dataclass(frozen=True)
class _Slot:
    """The times of a billable, which rate cards of one cadence and payment term share."""

    service: Period
    full: Period
    billing: Period
    invoice_at: datetime
    share: Fraction


@dataclass(frozen=True)
class _Query:
    """Which slots are wanted; none of them is served before, or due after, the two times."""

    subscription: Subscription
    since: datetime | None
    until: datetime
    wanted: Callable[[_Slot], bool]
    end_proration: EndProration


def _found(query: _Query) -> Iterator[Billable]:
    for phase, begin, end in query.subscription.served_phases():
        slots: dict[tuple[Duration | None, PaymentTerm], list[_Slot]] = {}
        for item in phase.items:
            card = item.rate_card
            terms = (card.billing_cadence, card.payment_term)
            if terms not in slots:
                every = _slots(query, card, begin, end)
                slots[terms] = [slot for slot in every if query.wanted(slot)]
            for slot in slots[terms]:
                yield _billable(query.subscription, phase, item, slot)


def _slots(query: _Query, card: RateCard, begin: datetime, end: datetime | None) -> Iterator[_Slot]:
    """Every slot that may be wanted, of a phase that is served in [begin, end)."""
    subscription = query.subscription
    if card.billing_cadence is None:
        period = _once(subscription, card.payment_term, begin, end)
        if period is not None:
            yield _slot(query, card, period, period, begin, end)
        return
    cadence = Cadence(subscription.billing_anchor, card.billing_cadence)
    # A service period and the time it is due at are at most this far apart.
    reach = _LONGER_THAN_MEAN * (card.billing_cadence.mean + subscription.billing_cadence.mean)
    first = begin if query.since is None else max(begin, query.since - reach)
    last = query.until + reach if end is None else min(end, query.until + reach)
    number = cadence.number_at(first)
    while (full := cadence.period(number)).from_ < last:
        service = clip(full, begin, end)
        if service is not None:
            yield _slot(query, card, service, full, begin, end)
        number += 1


def _once(
    subscription: Subscription, term: PaymentTerm, begin: datetime, end: datetime | None
) -> Period | None:
    """In advance, it is due as the phase begins; in arrears as it ends, and never if it does not."""
    if term is PaymentTerm.IN_ADVANCE:
        return clip(subscription.cadence.period_at(begin), begin, end)
    return None if end is None else Period(begin, end)


def _slot(
    query: _Query,
    card: RateCard,
    service: Period,
    full: Period,
    begin: datetime,
    end: datetime | None,
) -> _Slot:
    in_advance = card.payment_term is PaymentTerm.IN_ADVANCE
    moment = service.from_ if in_advance else service.to - _INSTANT
    billing = clip(query.subscription.cadence.period_at(moment), begin, end) or service
    invoice_at = billing.from_ if in_advance else max(billing.to, service.to)
    return _Slot(service, full, billing, invoice_at, _share(query, card, service, full))


def _share(query: _Query, card: RateCard, service: Period, full: Period) -> Fraction:
    subscription = query.subscription
    if not subscription.pro_rating_enabled or card.billing_cadence is None:
        return Fraction(1)
    is_cut = service.to == subscription.active_to
    end_proration = subscription.end_proration or query.end_proration
    if is_cut and end_proration is EndProration.BILL_FULL_PERIOD:
        return share_of(Period(service.from_, full.to), full)
    return share_of(service, full)


def _billable(
    subscription: Subscription, phase: SubscriptionPhase, item: SubscriptionItem, slot: _Slot
) -> Billable:
    card = item.rate_card
    begins = slot.full.from_.isoformat()
    return Billable(
        id=content_id(slot.full.from_, subscription.id, phase.key, card.key, begins),
        subscription_id=subscription.id,
        phase_id=phase.id,
        phase_key=phase.key,
        item_id=item.id,
        rate_card=card,
        service_period=slot.service,
        full_service_period=slot.full,
        billing_period=slot.billing,
        invoice_at=slot.invoice_at,
        share=slot.share,
    )
