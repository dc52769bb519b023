"""What a subscription owes when: each rate card, period by period.

It does not know how much: see `rating/`. It does not know what is invoiced already: billing does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Final

from tallyman.domain.content_id import content_id
from tallyman.domain.duration import Cadence, Duration
from tallyman.domain.period import Period
from tallyman.domain.price import FlatPrice, FreePrice
from tallyman.domain.rate_card import PaymentTerm, RateCard
from tallyman.domain.service_period import clip, holds, share_of
from tallyman.domain.subscription import Subscription, SubscriptionItem, SubscriptionPhase

_INSTANT: Final = timedelta(microseconds=1)


class EndProration(StrEnum):
    """What a flat price costs in the period that a subscription ends in."""

    BILL_FULL_PERIOD = "bill_full_period"
    BILL_ACTUAL_PERIOD = "bill_actual_period"


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
        return not isinstance(self.rate_card.price, FlatPrice | FreePrice)


@dataclass(frozen=True)
class _Span:
    """A phase as it is really served."""

    subscription: Subscription
    phase: SubscriptionPhase
    begin: datetime
    end: datetime | None
    end_proration: EndProration


def due(
    subscription: Subscription,
    until: datetime,
    since: datetime | None = None,
    end_proration: EndProration = EndProration.BILL_ACTUAL_PERIOD,
) -> list[Billable]:
    """What is due after `since`, or ever, and up to `until` inclusive; by time, then by plan."""
    found = _all(subscription, until, since, end_proration)
    return sorted(
        (b for b in found if b.invoice_at <= until and (since is None or since < b.invoice_at)),
        key=lambda billable: billable.invoice_at,
    )


def in_service(subscription: Subscription, now: datetime) -> list[Billable]:
    """What is being served at the moment: with usage until now, the preview of what is not yet due."""
    found = _all(subscription, now, now, EndProration.BILL_ACTUAL_PERIOD)
    return [billable for billable in found if holds(billable.service_period, now)]


def _all(
    subscription: Subscription,
    until: datetime,
    since: datetime | None,
    end_proration: EndProration,
) -> Iterator[Billable]:
    """At least everything that is due between the two."""
    for phase, begin, end in subscription.served_phases():
        span = _Span(subscription, phase, begin, end, end_proration)
        for item in phase.items:
            if item.rate_card.billing_cadence is None:
                yield from _once(span, item)
            else:
                yield from _recurring(span, item, item.rate_card.billing_cadence, until, since)


def _once(span: _Span, item: SubscriptionItem) -> Iterator[Billable]:
    """In advance, it is due as the phase begins; in arrears as it ends, and never if it does not."""
    if item.rate_card.payment_term is PaymentTerm.IN_ADVANCE:
        period = clip(span.subscription.cadence.period_at(span.begin), span.begin, span.end)
    else:
        period = None if span.end is None else Period(span.begin, span.end)
    if period is not None:
        yield _billable(span, item, period, Period(span.begin, period.to))


def _recurring(
    span: _Span, item: SubscriptionItem, step: Duration, until: datetime, since: datetime | None
) -> Iterator[Billable]:
    cadence = Cadence(span.subscription.billing_anchor, step)
    # A service period and the billing period it is due in are at most this far apart.
    reach = 2 * (step.mean + span.subscription.billing_cadence.mean)
    first = span.begin if since is None else max(span.begin, since - reach)
    last = until + reach if span.end is None else min(span.end, until + reach)
    number = cadence.number_at(first)
    while (full := cadence.period(number)).from_ < last:
        service = clip(full, span.begin, span.end)
        if service is not None:
            yield _billable(span, item, service, full)
        number += 1


def _billable(span: _Span, item: SubscriptionItem, service: Period, full: Period) -> Billable:
    subscription, card = span.subscription, item.rate_card
    in_advance = card.payment_term is PaymentTerm.IN_ADVANCE
    whole = subscription.cadence.period_at(service.from_ if in_advance else service.to - _INSTANT)
    billing = clip(whole, span.begin, span.end) or service
    return Billable(
        id=content_id(full.from_, subscription.id, span.phase.key, card.key, str(full.from_)),
        subscription_id=subscription.id,
        phase_id=span.phase.id,
        phase_key=span.phase.key,
        item_id=item.id,
        rate_card=card,
        service_period=service,
        full_service_period=full,
        billing_period=billing,
        invoice_at=billing.from_ if in_advance else max(billing.to, service.to),
        share=_share(span, card, service, full),
    )


def _share(span: _Span, card: RateCard, service: Period, full: Period) -> Fraction:
    if not span.subscription.pro_rating_enabled or card.billing_cadence is None:
        return Fraction(1)
    is_cut = service.to == span.subscription.active_to
    if is_cut and span.end_proration is EndProration.BILL_FULL_PERIOD:
        return share_of(Period(service.from_, full.to), full)
    return share_of(service, full)
