"""An invoice line: one rate card for one service period, with everything that explains it.

It is where amounts are rounded, once. It does not rate: see `rating/`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from tallyman.domain.billable import Billable
from tallyman.domain.content_id import content_id
from tallyman.domain.money import EXACT, round_to_currency, split, total
from tallyman.domain.period import Period
from tallyman.domain.price import FlatPrice, GraduatedPrice, UnitPrice, VolumePrice
from tallyman.domain.rate_card import RateCard
from tallyman.domain.rating.detailed_line import Category, DetailedLine, detailed_line
from tallyman.domain.rating.rate import Rating, rate
from tallyman.domain.subscription import Subscription
from tallyman.domain.usage import Usage, usage_difference

ZERO = Decimal(0)


@dataclass(frozen=True)
class Totals:
    """In whole minor units: amount + charges − discounts − credits + exclusive taxes = total.

    `charges` are commitments: what is owed without usage.
    """

    amount: Decimal = ZERO
    charges: Decimal = ZERO
    discounts: Decimal = ZERO
    credits: Decimal = ZERO
    taxes_inclusive: Decimal = ZERO
    taxes_exclusive: Decimal = ZERO
    total: Decimal = ZERO

    @property
    def taxes(self) -> Decimal:
        """All taxes, in the prices and on top of them."""
        return EXACT.add(self.taxes_inclusive, self.taxes_exclusive)


@dataclass(frozen=True)
class TierUsed:
    """A tier of the price that the quantity has reached, and what of it falls into the tier."""

    number: int
    up_to: Decimal | None
    quantity: Decimal
    unit_price: Decimal | None
    flat_price: Decimal | None


@dataclass(frozen=True)
class InvoiceLine:
    """`usage` says what is behind the raw quantity; a flat price has neither.

    A correction of a line that is final has a version above 1, names that line in `corrects`, and
    holds the difference: its quantities and total may be negative.
    """

    id: str
    billable_id: str
    name: str
    currency: str
    service_period: Period
    rate_card: RateCard
    totals: Totals
    detailed_lines: tuple[DetailedLine, ...]
    subscription_id: str
    phase_id: str
    item_id: str
    plan_id: str
    plan_key: str
    plan_version: int
    raw_quantity: Decimal | None = None
    discounted_quantity: Decimal = ZERO
    invoiced_quantity: Decimal | None = None
    unit_price: Decimal | None = None
    tiers: tuple[TierUsed, ...] = ()
    usage: Usage | None = None
    version: int = 1
    corrects: str | None = None

    @property
    def detailed_totals(self) -> tuple[Decimal, ...]:
        """What each detailed line is of the rounded total, in whole minor units, by its share."""
        if not self.detailed_lines:
            return ()
        parts = [abs(line.total) for line in self.detailed_lines]
        return split(self.totals.total, parts, self.currency)


def line_for(
    subscription: Subscription, billable: Billable, usage: Usage | None = None
) -> InvoiceLine:
    """Rate a billable. The same billable and usage make the same line, with the same id.

    Raises:
        RatingError: it cannot be rated.
    """
    card = billable.rate_card
    rating = rate(card, usage, billable.share)
    return InvoiceLine(
        id=_line_id(subscription, billable, 1),
        billable_id=billable.id,
        name=card.name,
        currency=subscription.currency,
        service_period=billable.service_period,
        rate_card=card,
        totals=_totals(rating, subscription.currency),
        detailed_lines=rating.lines,
        subscription_id=subscription.id,
        phase_id=billable.phase_id,
        item_id=billable.item_id,
        plan_id=subscription.plan_id,
        plan_key=subscription.plan_key,
        plan_version=subscription.plan_version,
        raw_quantity=rating.raw_quantity,
        discounted_quantity=rating.discounted_quantity,
        invoiced_quantity=rating.invoiced_quantity,
        unit_price=card.price.amount if isinstance(card.price, UnitPrice | FlatPrice) else None,
        tiers=_tiers_used(card, rating),
        usage=usage if billable.needs_usage else None,
    )


def correction_for(
    subscription: Subscription,
    billable: Billable,
    invoiced: Sequence[InvoiceLine],
    usage: Usage | None = None,
) -> InvoiceLine | None:
    """What the billable is now, less what final invoices have of it; None if nothing has changed.

    `invoiced` are all its lines so far, earlier corrections included, the first one first.

    Raises:
        RatingError: it cannot be rated.
    """
    whole = line_for(subscription, billable, usage)
    owed = EXACT.subtract(whole.totals.total, total(line.totals.total for line in invoiced))
    raw = _difference(whole.raw_quantity, (line.raw_quantity for line in invoiced))
    if not owed and not raw:
        return None
    version = max(line.version for line in invoiced) + 1
    name = f"{whole.name}: correction"
    return replace(
        whole,
        id=_line_id(subscription, billable, version),
        name=name,
        totals=Totals(amount=owed, total=owed),
        detailed_lines=(detailed_line("correction", name, Decimal(1), owed),) if owed else (),
        raw_quantity=raw,
        discounted_quantity=EXACT.subtract(
            whole.discounted_quantity, total(line.discounted_quantity for line in invoiced)
        ),
        invoiced_quantity=_difference(
            whole.invoiced_quantity, (line.invoiced_quantity for line in invoiced)
        ),
        tiers=(),
        usage=whole.usage and usage_difference(whole.usage, [line.usage for line in invoiced]),
        version=version,
        corrects=invoiced[0].id,
    )


def sum_totals(lines: Iterable[InvoiceLine]) -> Totals:
    """The totals of an invoice: of its lines, which are rounded already."""
    every = [line.totals for line in lines]
    return Totals(
        amount=total(t.amount for t in every),
        charges=total(t.charges for t in every),
        discounts=total(t.discounts for t in every),
        credits=total(t.credits for t in every),
        taxes_inclusive=total(t.taxes_inclusive for t in every),
        taxes_exclusive=total(t.taxes_exclusive for t in every),
        total=total(t.total for t in every),
    )


def _line_id(subscription: Subscription, billable: Billable, version: int) -> str:
    begins = billable.full_service_period.from_
    return content_id(begins, subscription.customer_id, billable.id, str(version))


def _totals(rating: Rating, currency: str) -> Totals:
    """The total is rounded from the exact sum; the amount is what makes the rest add up to it."""
    owed = round_to_currency(rating.total, currency)
    charges = total(x.amount for x in rating.lines if x.category is Category.COMMITMENT)
    discounts = total(off.amount for line in rating.lines for off in line.discounts)
    charges, discounts = (round_to_currency(x, currency) for x in (charges, discounts))
    amount = EXACT.subtract(EXACT.add(owed, discounts), charges)
    return Totals(amount=amount, charges=charges, discounts=discounts, total=owed)


def _tiers_used(card: RateCard, rating: Rating) -> tuple[TierUsed, ...]:
    if not isinstance(card.price, GraduatedPrice | VolumePrice):
        return ()
    used = sorted({line.tier for line in rating.lines if line.tier is not None})
    tiers = card.price.tiers
    return tuple(
        TierUsed(
            number,
            tiers[number - 1].up_to,
            total(x.quantity for x in rating.lines if x.reference == f"tier-{number}-usage"),
            tiers[number - 1].unit_price,
            tiers[number - 1].flat_price,
        )
        for number in used
    )


def _difference(whole: Decimal | None, parts: Iterable[Decimal | None]) -> Decimal | None:
    if whole is None:
        return None
    return EXACT.subtract(whole, total(part for part in parts if part is not None))
