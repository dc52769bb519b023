"""What a meter answered for one rate card and one service period.

It does not price: see `rating/`.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from tallyman.domain.money import EXACT, total
from tallyman.domain.period import Period


@dataclass(frozen=True)
class UsageWindow:
    """One window, and one value of each dimension that usage is shown by, such as the model."""

    period: Period
    quantity: Decimal
    dimensions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Usage:
    """`quantity` is what is priced, in the meter's `unit`; the rest says what is behind it.

    `windows` show where it came from. They add up to it for a sum or a count; for a maximum or a
    count of different values they do not, so the whole is asked for by itself.
    """

    quantity: Decimal
    windows: tuple[UsageWindow, ...] = ()
    events: int = 0
    calls: int = 0
    estimated_tokens: Decimal = Decimal(0)
    waived_tokens: Decimal = Decimal(0)
    unit: str = "unit"


def usage_of(windows: Sequence[UsageWindow]) -> Usage:
    """The usage whose windows add up; their order does not matter."""
    return Usage(total(window.quantity for window in windows), tuple(windows))


def usage_difference(whole: Usage, parts: Sequence[Usage | None]) -> Usage:
    """What the whole has more than the parts together, window by window; it may be negative."""
    counted = [part for part in parts if part is not None]
    left: dict[tuple[Period, tuple[tuple[str, str], ...]], Decimal] = defaultdict(Decimal)
    for window in whole.windows:
        key = (window.period, window.dimensions)
        left[key] = EXACT.add(left[key], window.quantity)
    for window in (window for part in counted for window in part.windows):
        key = (window.period, window.dimensions)
        left[key] = EXACT.subtract(left[key], window.quantity)
    return Usage(
        EXACT.subtract(whole.quantity, total(part.quantity for part in counted)),
        tuple(UsageWindow(key[0], rest, key[1]) for key, rest in left.items() if rest),
        whole.events - sum(part.events for part in counted),
        whole.calls - sum(part.calls for part in counted),
        EXACT.subtract(whole.estimated_tokens, total(part.estimated_tokens for part in counted)),
        EXACT.subtract(whole.waived_tokens, total(part.waived_tokens for part in counted)),
        whole.unit,
    )
