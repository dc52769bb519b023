"""Amounts as Stripe has them: integers of its own smallest units.

Stripe is asked for nothing here: see `payments/`.
"""

from decimal import Decimal
from typing import Final

from tallyman.domain.money import from_minor_units, minor_units, to_minor_units
from tallyman.errors import InvalidInput, InvalidParameter, StripeRefused

# https://docs.stripe.com/currencies: where Stripe's smallest unit is not ISO 4217's.
_HUNDREDTHS_OF_WHOLE: Final = frozenset({"ISK", "UGX"})
_WHOLE: Final = frozenset({"MGA"})


def stripe_amount(amount: Decimal, currency: str) -> int:
    """The integer that Stripe takes for an amount, which is in whole minor units.

    Raises:
        StripeRefused: Stripe cannot take exactly this much in the currency.
    """
    minor = to_minor_units(amount, currency)
    exact = True
    if currency in _HUNDREDTHS_OF_WHOLE:
        minor *= 100
    elif currency in _WHOLE:
        exact, minor = minor % 100 == 0, minor // 100
    elif minor_units(currency) == 3:
        exact = minor % 10 == 0
    if not exact or minor_units(currency) > 3:
        raise StripeRefused(f"Stripe does not take {amount} {currency}: it has no unit that small")
    return minor


def exact_amount(amount: int, currency: str) -> Decimal:
    """What an integer of Stripe's is."""
    if currency in _HUNDREDTHS_OF_WHOLE:
        return Decimal(amount).scaleb(-2)
    return Decimal(amount) if currency in _WHOLE else from_minor_units(amount, currency)


def check_stripe_amount(field: str, amount: Decimal, currency: str) -> None:
    """Refuse what Stripe would refuse later, when a record of it stands already.

    Raises:
        InvalidInput: names the field.
    """
    try:
        stripe_amount(amount, currency)
    except StripeRefused as err:
        raise InvalidInput(
            f"{field}: {err}", [InvalidParameter(field, "invalid", str(err))]
        ) from err


def is_stripe_amount(amount: Decimal, currency: str) -> bool:
    """Whether Stripe takes exactly this much."""
    try:
        stripe_amount(amount, currency)
    except StripeRefused:
        return False
    return True
