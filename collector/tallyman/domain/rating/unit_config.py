"""The unit conversion: what is billed instead of the metered unit."""

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Final, assert_never

from tallyman.domain.money import EXACT
from tallyman.domain.price import Operation, Rounding, UnitConfig
from tallyman.errors import RatingError

_MODES: Final = {
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
    match config.operation:
        case Operation.DIVIDE:
            converted = EXACT.divide(quantity, config.conversion_factor)
        case Operation.MULTIPLY:
            converted = EXACT.multiply(quantity, config.conversion_factor)
        case _:
            assert_never(config.operation)
    if config.rounding is Rounding.NONE:
        return converted
    step = Decimal(1).scaleb(-config.precision)
    return converted.quantize(step, _MODES[config.rounding], EXACT)
