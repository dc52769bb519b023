"""A unit price said both ways, per unit and per million units, in a rate card's document.

It does not price: `price.py` has the arithmetic.
"""

from collections.abc import Iterator
from copy import deepcopy
from decimal import Decimal
from typing import Final

from tallyman.domain.money import written
from tallyman.domain.plan_document import Document, read_unit_config
from tallyman.domain.price import UnitConfig, per_metered_unit, per_million

PER_UNIT: Final = "amount_per_unit"
PER_MILLION: Final = "amount_per_million"


def with_both_prices(card: Document) -> Document:
    """The rate card's document with each unit price said per million units of the meter too.

    Where units are converted, also per unit of the meter: the amount is then that of another unit.
    Where parts of a converted unit are rounded, such as in packages, there is no such price.
    """
    shown = deepcopy(card)
    for _, unit_price in unit_prices(shown["price"]):
        both = both_prices(unit_price["amount"], shown.get("unit_config"))
        if not shown.get("unit_config"):
            both.pop(PER_UNIT, None)
        unit_price |= both
    return shown


def both_prices(amount: str, unit_config: Document | None) -> dict[str, str]:
    """The amount per unit and per million units of the meter; empty where there is no such price."""
    config: UnitConfig | None = read_unit_config(unit_config) if unit_config else None
    price = per_metered_unit(Decimal(amount), config)
    if price is None:
        return {}
    return {PER_UNIT: written(price), PER_MILLION: written(per_million(price))}


def unit_prices(price: Document) -> Iterator[tuple[str, Document]]:
    """Every unit price in a price's document, with its place in it."""
    if price["type"] == "unit":
        yield "price", price
    for index, tier in enumerate(price.get("tiers") or ()):
        if tier.get("unit_price"):
            yield f"price.tiers[{index}].unit_price", tier["unit_price"]
