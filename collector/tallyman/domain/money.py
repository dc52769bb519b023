"""Money: exact decimals, rounded once, at the invoice line.

It does not know prices: see `rating/`.
"""

from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from functools import reduce
from typing import Final

from iso4217 import Currency

from tallyman.errors import InvalidInput, InvalidParameter

# Wide enough that a product or a sum of what a meter and a price can hold is never rounded. Only a
# division is cut, far beyond the decimals that anything else has, and rounding puts that right: a
# third of 0.015 must be half a cent and not 0.00499…9.
EXACT: Final = Context(prec=100, rounding=ROUND_HALF_EVEN)
# Putting a number to some decimals must never fail for its size.
_WIDE: Final = Context(prec=400, rounding=ROUND_HALF_EVEN)
_FEWER_THAN_A_DIVISION_LEAVES: Final = Decimal("1e-50")
_MOST_DECIMALS_SHOWN: Final = Decimal("1e-18")


def minor_units(currency: str) -> int:
    """How many decimals the currency has: 0 for JPY, 2 for USD, 3 for KWD. ISO 4217's table.

    Raises:
        InvalidInput: it is no currency that money is owed in, such as ZZZ or XAU.
    """
    try:
        exponent = Currency(currency).exponent
    except ValueError:
        exponent = None
    if exponent is None:
        reason = f"{currency} is not an ISO 4217 currency that money is owed in"
        raise InvalidInput(reason, [InvalidParameter("currency", "invalid", reason)])
    return exponent


def is_currency(code: str) -> bool:
    """Whether money can be owed in it."""
    try:
        minor_units(code)
    except InvalidInput:
        return False
    return True


def round_to_currency(amount: Decimal, currency: str) -> Decimal:
    """Round half up, away from zero, to the currency's minor unit: 0.005 USD is 0.01."""
    smallest = Decimal(1).scaleb(-minor_units(currency))
    mended = amount.quantize(_FEWER_THAN_A_DIVISION_LEAVES, context=_WIDE)
    return mended.quantize(smallest, rounding=ROUND_HALF_UP, context=_WIDE)


def to_minor_units(amount: Decimal, currency: str) -> int:
    """`Decimal("12.34")` USD → `1234`, the integer that Stripe takes."""
    return int(round_to_currency(amount, currency).scaleb(minor_units(currency), context=EXACT))


def from_minor_units(minor: int, currency: str) -> Decimal:
    """`1234` USD → `Decimal("12.34")`."""
    return Decimal(minor).scaleb(-minor_units(currency), context=EXACT)


def split(total: Decimal, parts: Sequence[Decimal], currency: str) -> tuple[Decimal, ...]:
    """Share a total out in proportion to exact parts, by largest remainder.

    The shares are in whole minor units and add up to the rounded total; of equal remainders the
    first part gets the unit. Parts that add up to nothing leave all of it to the first.

    Raises:
        ValueError: there are no parts, or one is negative.
    """
    if not parts or any(part < 0 for part in parts):
        raise ValueError("a total is split among parts, none of them negative")
    units = to_minor_units(total, currency)
    weights = [Fraction(part) for part in parts]
    if not any(weights):
        weights[0] = Fraction(1)
    whole = sum(weights)
    exact = [abs(units) * weight / whole for weight in weights]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: (shares[i] - exact[i], i))
    for index in by_remainder[: abs(units) - sum(shares)]:
        shares[index] += 1
    sign = -1 if units < 0 else 1
    return tuple(from_minor_units(sign * share, currency) for share in shares)


def multiply(amount: Decimal, by: Fraction) -> Decimal:
    """The amount times a fraction: exact where decimals can hold it, else to 100 digits."""
    product = EXACT.multiply(amount, Decimal(by.numerator))
    return EXACT.divide(product, Decimal(by.denominator))


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    return reduce(EXACT.add, amounts, Decimal(0))


def written(number: Decimal) -> str:
    """As the API and the pages write it: no exponent, no trailing zeros, at most 18 decimals."""
    short = min(number, number.quantize(_MOST_DECIMALS_SHOWN, context=_WIDE), key=_decimals)
    text = f"{short:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _decimals(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0
