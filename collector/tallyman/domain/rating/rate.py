"""Rating one rate card for one service period, and the only place that knows the order.

Raw quantity → usage discount → unit conversion → price → percentage discount → maximum → minimum.
Everything is exact; what is rounded, once, is the invoice line (`invoice.py`).
"""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final, assert_never

from tallyman.domain.money import EXACT, total
from tallyman.domain.price import (
    FlatPrice,
    FreePrice,
    GraduatedPrice,
    UnitPrice,
    UsagePrice,
    VolumePrice,
)
from tallyman.domain.rate_card import RateCard
from tallyman.domain.rating.commitment import up_to_maximum, with_minimum
from tallyman.domain.rating.detailed_line import DetailedLine
from tallyman.domain.rating.discount import discounted_usage, less_percentage
from tallyman.domain.rating.flat import flat_lines
from tallyman.domain.rating.graduated import graduated_lines
from tallyman.domain.rating.unit import unit_lines
from tallyman.domain.rating.unit_config import convert
from tallyman.domain.rating.volume import volume_lines
from tallyman.domain.usage import Usage
from tallyman.errors import RatingError

ALL: Final = Fraction(1)
ZERO: Final = Decimal(0)


@dataclass(frozen=True)
class Rating:
    """The detailed lines, and the quantities before and after the discount and the conversion.

    A flat price has no quantities.
    """

    lines: tuple[DetailedLine, ...]
    raw_quantity: Decimal | None = None
    discounted_quantity: Decimal = ZERO
    invoiced_quantity: Decimal | None = None

    @property
    def total(self) -> Decimal:
        """What is owed, exactly."""
        return total(line.total for line in self.lines)


def rate(card: RateCard, usage: Usage | None = None, share: Fraction = ALL) -> Rating:
    """Price one service period.

    `share` is how much of the full period is served; it prorates a flat price and nothing else:
    usage is what it is, and tiers and commitments are for the period, however long. `usage` is
    needed by prices by usage; a negative quantity costs what none costs. Where nothing is served at
    all, nothing is owed, whatever the price.

    Raises:
        RatingError: there is no usage to rate, or the price leaves it unpriced.
    """
    if not share:
        return _nothing(card)
    match card.price:
        case FreePrice():
            return Rating(())
        case FlatPrice():
            lines = less_percentage(card.discounts, flat_lines(card.price, card.name, share))
            return Rating(tuple(lines))
        case UnitPrice() | GraduatedPrice() | VolumePrice():
            if usage is None:
                raise RatingError(f"no usage for {card.key}")
            return _rate_usage(card, card.price, usage.quantity)
        case _:
            assert_never(card.price)


def _nothing(card: RateCard) -> Rating:
    none = ZERO if isinstance(card.price, UnitPrice | GraduatedPrice | VolumePrice) else None
    return Rating((), none, ZERO, none)


def _rate_usage(card: RateCard, price: UsagePrice, raw: Decimal) -> Rating:
    counted = max(raw, ZERO)
    discounted = discounted_usage(card.discounts, counted)
    invoiced = convert(card.unit_config, EXACT.subtract(counted, discounted))
    lines = _price(price, card.name, invoiced)
    lines = less_percentage(card.discounts, lines)
    lines = up_to_maximum(card.commitments, lines)
    lines = with_minimum(card.commitments, card.name, lines)
    return Rating(tuple(lines), raw, discounted, invoiced)


def _price(price: UsagePrice, name: str, quantity: Decimal) -> list[DetailedLine]:
    match price:
        case UnitPrice():
            return unit_lines(price, name, quantity)
        case GraduatedPrice():
            return list(graduated_lines(price, name, quantity))
        case VolumePrice():
            return list(volume_lines(price, name, quantity))
        case _:
            assert_never(price)
