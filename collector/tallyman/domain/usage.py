"""What a meter answered for one rate card and one service period.

It does not price: see `rating/`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from tallyman.domain.money import total
from tallyman.domain.period import Period


@dataclass(frozen=True)
class UsageWindow:
    """One window, and one value of each dimension that usage is shown by, such as the model."""

    period: Period
    quantity: Decimal
    dimensions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Usage:
    """`quantity` is what is priced, in the meter's unit; the rest says what is behind it.

    `windows` show where it came from. They add up to it for a sum or a count; for a maximum or a
    count of different values they do not, so the whole is asked for by itself.
    """

    quantity: Decimal
    windows: tuple[UsageWindow, ...] = ()
    events: int = 0
    calls: int = 0
    estimated_tokens: Decimal = Decimal(0)
    waived_tokens: Decimal = Decimal(0)


def usage_of(windows: Sequence[UsageWindow]) -> Usage:
    """The usage whose windows add up; their order does not matter."""
    return Usage(total(window.quantity for window in windows), tuple(windows))
