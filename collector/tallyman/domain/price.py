"""What is sold: prices as the author of a plan writes them, and what adjusts them.

It does not rate (see `rating/`) and does not refuse: a draft may be wrong, and `plan_rules.py` says
in what.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from tallyman.domain.money import EXACT

MILLION: Final = Decimal(1_000_000)


@dataclass(frozen=True)
class FreePrice:
    """Nothing, whatever the usage."""


@dataclass(frozen=True)
class FlatPrice:
    """`amount` once, or once per period, whatever the usage."""

    amount: Decimal


@dataclass(frozen=True)
class UnitPrice:
    """`amount` for each unit of usage: per single token, not per thousand."""

    amount: Decimal


@dataclass(frozen=True)
class PriceTier:
    """One step of a tiered price: a flat price on entering, a price per unit, or both.

    `up_to` is inclusive; None, on the last tier, is open-ended.
    """

    up_to: Decimal | None
    unit_price: Decimal | None = None
    flat_price: Decimal | None = None


@dataclass(frozen=True)
class GraduatedPrice:
    """Each tier prices its own units."""

    tiers: tuple[PriceTier, ...]


@dataclass(frozen=True)
class VolumePrice:
    """All units are priced by the tier that the quantity reaches."""

    tiers: tuple[PriceTier, ...]


UsagePrice = UnitPrice | GraduatedPrice | VolumePrice
Price = FreePrice | FlatPrice | UsagePrice


class Operation(StrEnum):
    """How a quantity becomes what is billed."""

    DIVIDE = "divide"
    MULTIPLY = "multiply"


class Rounding(StrEnum):
    """What happens to the part of a converted unit."""

    NONE = "none"
    CEILING = "ceiling"
    FLOOR = "floor"
    HALF_UP = "half_up"


@dataclass(frozen=True)
class UnitConfig:
    """What is billed instead of the metered unit.

    Per million is divide by 1,000,000; packages divide by their size and round up; cost plus 20 %
    multiplies by 1.2 at a unit price of 1. `precision` is the decimals that rounding leaves.
    """

    operation: Operation
    conversion_factor: Decimal
    rounding: Rounding = Rounding.NONE
    precision: int = 0
    display_unit: str | None = None


@dataclass(frozen=True)
class Commitments:
    """The least and the most that a period costs, per rate card."""

    minimum_amount: Decimal | None = None
    maximum_amount: Decimal | None = None


@dataclass(frozen=True)
class Discounts:
    """`percentage` off the amount, 0 to 100; `usage` units of the meter that are not charged."""

    percentage: Decimal | None = None
    usage: Decimal | None = None


NO_COMMITMENTS: Final = Commitments()
NO_DISCOUNTS: Final = Discounts()


def per_unit(amount: Decimal, units: Decimal) -> Decimal:
    """The price of one unit, from that of many: 3.00 per 1,000,000 is 0.000003."""
    return _plain(EXACT.divide(amount, units))


def per_million(amount: Decimal) -> Decimal:
    """The price of a million units, from that of one: 0.000003 is 3."""
    return _plain(EXACT.multiply(amount, MILLION))


def per_metered_unit(amount: Decimal, config: UnitConfig | None) -> Decimal | None:
    """What one unit of the meter costs at this unit price; None where its parts are rounded."""
    if config is None:
        return _plain(amount)
    if config.rounding is not Rounding.NONE or config.conversion_factor <= 0:
        return None
    if config.operation is Operation.DIVIDE:
        return per_unit(amount, config.conversion_factor)
    return _plain(EXACT.multiply(amount, config.conversion_factor))


def _plain(amount: Decimal) -> Decimal:
    """Without trailing zeros, and without an exponent."""
    shortest = amount.normalize(EXACT)
    exponent = shortest.as_tuple().exponent
    return (
        shortest.quantize(Decimal(1), context=EXACT)
        if isinstance(exponent, int) and exponent > 0
        else shortest
    )
