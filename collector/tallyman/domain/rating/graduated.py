"""The graduated price: each tier prices its own units."""

from collections.abc import Iterator
from decimal import Decimal

from tallyman.domain.money import EXACT
from tallyman.domain.price import GraduatedPrice
from tallyman.domain.rating.detailed_line import DetailedLine
from tallyman.domain.rating.tier import check_tiers, tier_lines


def graduated_lines(price: GraduatedPrice, name: str, quantity: Decimal) -> Iterator[DetailedLine]:
    """The lines of every tier that is entered; the first is, before any usage."""
    check_tiers(price.tiers)
    floor = Decimal(0)
    for number, tier in enumerate(price.tiers, 1):
        if number > 1 and quantity <= floor:
            return
        ceiling = quantity if tier.up_to is None else min(quantity, tier.up_to)
        yield from tier_lines(number, tier, name, EXACT.subtract(ceiling, floor))
        floor = ceiling
        if tier.up_to is not None and quantity == tier.up_to:
            return  # its bound belongs to the tier: the next is not entered
