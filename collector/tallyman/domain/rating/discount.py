"""Discounts: units that are not charged, and a percentage off the amount."""

from collections.abc import Iterable
from decimal import Decimal

from tallyman.domain.money import EXACT, written
from tallyman.domain.price import Discounts
from tallyman.domain.rating.detailed_line import AmountDiscount, DetailedLine, DiscountReason


def discounted_usage(discounts: Discounts, quantity: Decimal) -> Decimal:
    """How many units of the meter are not charged: never more than there are."""
    return min(quantity, discounts.usage or Decimal(0))


def less_percentage(discounts: Discounts, lines: Iterable[DetailedLine]) -> list[DetailedLine]:
    """The percentage off each line."""
    percentage = discounts.percentage
    if not percentage:
        return list(lines)
    return [line.less(_percentage(percentage, line)) for line in lines]


def _percentage(percentage: Decimal, line: DetailedLine) -> AmountDiscount:
    off = EXACT.divide(EXACT.multiply(line.total, percentage), Decimal(100))
    reason = DiscountReason.RATECARD_PERCENTAGE
    return AmountDiscount(reason, off, f"{written(percentage)} % off")
