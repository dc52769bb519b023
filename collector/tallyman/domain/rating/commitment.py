"""Commitments: the most that a period costs, and the least."""

from collections.abc import Sequence
from decimal import Decimal

from tallyman.domain.money import EXACT, total, written
from tallyman.domain.price import Commitments
from tallyman.domain.rating.detailed_line import (
    AmountDiscount,
    Category,
    DetailedLine,
    DiscountReason,
    detailed_line,
)


def up_to_maximum(commitments: Commitments, lines: Sequence[DetailedLine]) -> list[DetailedLine]:
    """What exceeds the maximum is taken off, from the line that reaches it on."""
    maximum = commitments.maximum_amount
    if maximum is None:
        return list(lines)
    kept: list[DetailedLine] = []
    left = maximum
    description = f"above the maximum spend of {written(maximum)}"
    for line in lines:
        over = max(EXACT.subtract(line.total, left), Decimal(0))
        kept.append(line.less(AmountDiscount(DiscountReason.MAXIMUM_SPEND, over, description)))
        left = EXACT.subtract(left, kept[-1].total)
    return kept


def with_minimum(
    commitments: Commitments, name: str, lines: Sequence[DetailedLine]
) -> list[DetailedLine]:
    """One more line, for what is missing to the minimum."""
    minimum = commitments.minimum_amount
    if minimum is None:
        return list(lines)
    missing = EXACT.subtract(minimum, total(line.total for line in lines))
    if missing <= 0:
        return list(lines)
    owed = detailed_line(
        "minimum", f"{name}: minimum spend", Decimal(1), missing, category=Category.COMMITMENT
    )
    return [*lines, owed]
