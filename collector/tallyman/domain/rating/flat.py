"""The flat price: once per period, or its share of a period that is cut short."""

from decimal import Decimal
from fractions import Fraction

from tallyman.domain.money import multiply
from tallyman.domain.price import FlatPrice
from tallyman.domain.rating.detailed_line import DetailedLine, detailed_line


def flat_lines(price: FlatPrice, name: str, share: Fraction) -> list[DetailedLine]:
    """One line; none if it comes to nothing."""
    amount = multiply(price.amount, share)
    return [detailed_line("flat", name, Decimal(1), amount)] if amount else []
