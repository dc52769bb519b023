"""The lines of one tier, and the tiers that can be rated at all.

It does not know which units fall into a tier: see `graduated.py` and `volume.py`.
"""

from collections.abc import Iterator
from decimal import Decimal

from tallyman.domain.price import PriceTier
from tallyman.domain.rating.detailed_line import DetailedLine, detailed_line
from tallyman.errors import RatingError


def check_tiers(tiers: tuple[PriceTier, ...]) -> None:
    """Refuse tiers that leave a quantity without a price.

    Raises:
        RatingError: there are none, or the last one ends.
    """
    if not tiers:
        raise RatingError("a tiered price without tiers", "invoice_line_no_tiers")
    if tiers[-1].up_to is not None:
        raise RatingError(
            f"a tiered price without a tier above {tiers[-1].up_to}",
            "invoice_line_missing_open_ended_tier",
        )


def tier_lines(
    number: int, tier: PriceTier, name: str, quantity: Decimal
) -> Iterator[DetailedLine]:
    """What it costs to be in the tier, and the units in it; units that are free are shown too."""
    if tier.unit_price is not None and quantity:
        usage = f"{name}: usage price for tier {number}"
        yield detailed_line(f"tier-{number}-usage", usage, quantity, tier.unit_price, tier=number)
    if tier.flat_price:
        flat = f"{name}: flat price for tier {number}"
        yield detailed_line(f"tier-{number}-flat", flat, Decimal(1), tier.flat_price, tier=number)
