"""The unit conversion: what is billed instead of the metered unit."""

from decimal import (
    ROUND_CEILING,
    ROUND_DOWN,
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Decimal,
    localcontext,
)
from typing import Final, assert_never

from tallyman.domain.money import EXACT
from tallyman.domain.price import Operation, Rounding, UnitConfig
from tallyman.errors import RatingError

_MODES: Final = {
    Rounding.NONE: ROUND_DOWN,
    Rounding.CEILING: ROUND_CEILING,
    Rounding.FLOOR: ROUND_FLOOR,
    Rounding.HALF_UP: ROUND_HALF_UP,
}


def convert(config: UnitConfig | None, quantity: Decimal) -> Decimal:
    """The quantity in billed units.

    Raises:
        RatingError: the conversion factor is not positive.
    """
    if config is None:
        return quantity
    if config.conversion_factor <= 0:
        raise RatingError(f"a conversion factor of {config.conversion_factor}")
    with localcontext(EXACT):
        match config.operation:
            case Operation.DIVIDE:
                converted = quantity / config.conversion_factor
            case Operation.MULTIPLY:
                converted = quantity * config.conversion_factor
            case _:
                assert_never(config.operation)
        if config.rounding is Rounding.NONE:
            return converted
        return converted.quantize(Decimal(1).scaleb(-config.precision), _MODES[config.rounding])
