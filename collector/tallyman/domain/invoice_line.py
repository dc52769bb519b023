"""An invoice line: one rate card for one service period, with everything that explains it.

It is where amounts are rounded, once. It does not rate: see `rating/`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from tallyman.domain.billable import Billable, needs_usage
from tallyman.domain.content_id import content_id
from tallyman.domain.money import EXACT, from_minor_units, round_to_currency, split, total
from tallyman.domain.period import Period
from tallyman.domain.price import FlatPrice, GraduatedPrice, UnitPrice, VolumePrice
from tallyman.domain.rate_card import RateCard
from tallyman.domain.rating.detailed_line import Category, DetailedLine
from tallyman.domain.rating.rate import ALL, Rating, rate
from tallyman.domain.subscription import Subscription
from tallyman.domain.usage import Usage

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

    @property
    def before_credits(self) -> Decimal:
        """What is owed, by credit and by money."""
        return EXACT.add(self.total, self.credits)

    def paid_by_credit(self, amount: Decimal) -> "Totals":
        """The same with so much credit in place of what was applied before."""
        return replace(self, credits=amount, total=EXACT.subtract(self.before_credits, amount))


@dataclass(frozen=True)
class CreditApplied:
    """So much of a grant pays for the line; less than zero was given back to it."""

    grant_id: str
    amount: Decimal
    description: str | None = None


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

    `share` is how much of the full service period a flat price was taken for; 0 where the whole is
    given back, usage too, since the period was never served. With the rate card and the usage it is
    all that the line is rated by, whatever becomes of the subscription.

    A correction of a line that is final has a version above 1, names that line in `corrects`, and
    holds the difference: its quantities and total may be negative. `let_off` is what credit notes had
    let off by then, which it does not give back a second time; `forgiven` what void invoices had of
    the same, which was never paid.
    """

    id: str
    billable_id: str
    name: str
    currency: str
    service_period: Period
    full_service_period: Period
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
    share: Fraction = ALL
    credits_applied: tuple[CreditApplied, ...] = ()
    let_off: Decimal = ZERO
    forgiven: Decimal = ZERO

    @property
    def detailed_totals(self) -> tuple[Decimal, ...]:
        """What each detailed line is of the rounded amount that is owed by credit and by money, in
        whole minor units, by its share."""
        if not self.detailed_lines:
            return ()
        parts = [abs(line.total) for line in self.detailed_lines]
        return split(self.totals.before_credits, parts, self.currency)

    @property
    def is_at_unit_price(self) -> bool:
        """False for a correction that is not its quantity at the unit price, such as one of another
        price than was billed; each side of the difference was rounded."""
        if self.corrects is None or not isinstance(self.rate_card.price, UnitPrice):
            return True
        priced = EXACT.multiply(self.invoiced_quantity or ZERO, self.rate_card.price.amount)
        least = from_minor_units(1, self.currency)
        return abs(EXACT.subtract(priced, self.totals.before_credits)) <= least


def line_for(
    subscription: Subscription, billable: Billable, usage: Usage | None = None
) -> InvoiceLine:
    """Rate a billable. The same billable and usage make the same line, with the same id.

    Raises:
        RatingError: it cannot be rated.
    """
    return rated(blank_line(subscription, billable), usage)


def blank_line(subscription: Subscription, billable: Billable) -> InvoiceLine:
    """The line of a billable, not rated yet."""
    begins = billable.full_service_period.from_
    return InvoiceLine(
        id=content_id(begins, subscription.customer_id, billable.id, "1"),
        billable_id=billable.id,
        name=billable.rate_card.name,
        currency=subscription.currency,
        service_period=billable.service_period,
        full_service_period=billable.full_service_period,
        rate_card=billable.rate_card,
        totals=Totals(),
        detailed_lines=(),
        subscription_id=subscription.id,
        phase_id=billable.phase_id,
        item_id=billable.item_id,
        plan_id=subscription.plan_id,
        plan_key=subscription.plan_key,
        plan_version=subscription.plan_version,
        share=billable.share,
    )


def rated(line: InvoiceLine, usage: Usage | None = None) -> InvoiceLine:
    """The line with everything that follows from its rate card, its share and the usage.

    Raises:
        RatingError: it cannot be rated.
    """
    card = line.rate_card
    rating = rate(card, usage, line.share)
    return replace(
        line,
        totals=_totals(rating, line.currency),
        detailed_lines=rating.lines,
        raw_quantity=rating.raw_quantity,
        discounted_quantity=rating.discounted_quantity,
        invoiced_quantity=rating.invoiced_quantity,
        unit_price=card.price.amount if isinstance(card.price, UnitPrice | FlatPrice) else None,
        tiers=_tiers_used(card, rating),
        usage=usage if needs_usage(card) else None,
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
