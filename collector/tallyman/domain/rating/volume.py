"""The volume price: all units are priced by the tier that the quantity reaches."""

from collections.abc import Iterator
from decimal import Decimal

from tallyman.domain.price import VolumePrice
from tallyman.domain.rating.detailed_line import DetailedLine
from tallyman.domain.rating.tier import check_tiers, tier_lines


def volume_lines(price: VolumePrice, name: str, quantity: Decimal) -> Iterator[DetailedLine]:
    """The lines of one tier; of the first, without usage."""
    check_tiers(price.tiers)
    for number, tier in enumerate(price.tiers, 1):
        if tier.up_to is None or quantity <= tier.up_to:
            yield from tier_lines(number, tier, name, quantity)
            return
