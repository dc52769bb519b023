"""The unit price: so much for each unit."""

from decimal import Decimal

from tallyman.domain.price import UnitPrice
from tallyman.domain.rating.detailed_line import DetailedLine, detailed_line


def unit_lines(price: UnitPrice, name: str, quantity: Decimal) -> list[DetailedLine]:
    """One line; none without usage."""
    if not quantity:
        return []
    return [detailed_line("usage", f"{name}: usage in period", quantity, price.amount)]
