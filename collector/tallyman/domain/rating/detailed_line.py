"""One priced component of an invoice line: exact, before any rounding.

It does not know what it is priced by: each price has a module of its own.
"""

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from tallyman.domain.money import EXACT


class Category(StrEnum):
    """Whether it was used, or is owed because it was promised."""

    REGULAR = "regular"
    COMMITMENT = "commitment"


class DiscountReason(StrEnum):
    """Why something is not charged."""

    MAXIMUM_SPEND = "maximum_spend"
    RATECARD_PERCENTAGE = "ratecard_percentage"
    RATECARD_USAGE = "ratecard_usage"


@dataclass(frozen=True)
class AmountDiscount:
    """What is taken off, as a positive amount."""

    reason: DiscountReason
    amount: Decimal
    description: str


@dataclass(frozen=True)
class DetailedLine:
    """`quantity` × `unit_price` = `amount`, exactly; `total` is that less the discounts.

    `reference` is the same each time the rate card is rated. `tier` counts from 1.
    """

    reference: str
    name: str
    quantity: Decimal
    unit_price: Decimal
    amount: Decimal
    total: Decimal
    category: Category = Category.REGULAR
    discounts: tuple[AmountDiscount, ...] = ()
    tier: int | None = None

    def less(self, discount: AmountDiscount) -> "DetailedLine":
        """The same with another discount; none is made of nothing."""
        if not discount.amount:
            return self
        left = EXACT.subtract(self.total, discount.amount)
        return replace(self, total=left, discounts=(*self.discounts, discount))


def detailed_line(
    reference: str,
    name: str,
    quantity: Decimal,
    unit_price: Decimal,
    *,
    tier: int | None = None,
    category: Category = Category.REGULAR,
) -> DetailedLine:
    """A line without discounts."""
    amount = EXACT.multiply(quantity, unit_price)
    return DetailedLine(reference, name, quantity, unit_price, amount, amount, category, (), tier)
