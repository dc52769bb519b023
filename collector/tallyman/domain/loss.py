"""Rate cards that take less for a token than the provider does, by the prices of one moment.

It does not know who has which plan, and what was used: see `billing/losses.py`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from tallyman.domain.money import EXACT
from tallyman.domain.price import (
    GraduatedPrice,
    Operation,
    UnitPrice,
    VolumePrice,
    per_unit,
)
from tallyman.domain.rate_card import RateCard

HUNDRED: Final = Decimal(100)


@dataclass(frozen=True)
class TokenCost:
    """What a token of a call costs; `model` is empty where every unit costs the same."""

    provider: str
    model: str
    token_type: str
    amount: Decimal
    currency: str


@dataclass(frozen=True)
class CustomerLoss:
    """A customer on the plan, what it used of late, and what that loses at today's prices."""

    customer_id: str
    customer_key: str
    usage: Decimal
    loss: Decimal


@dataclass(frozen=True)
class Loss:
    """A rate card that is sold at `price` a unit, which costs more."""

    plan_key: str
    plan_version: int
    card_key: str
    price: Decimal
    cost: TokenCost
    customers: tuple[CustomerLoss, ...] = ()

    @property
    def per_unit(self) -> Decimal:
        """What is lost with each."""
        return EXACT.subtract(self.cost.amount, self.price)


def unit_prices(card: RateCard) -> Iterator[Decimal]:
    """What a metered unit is sold at: the price, or that of each tier, less the percentage discount.

    A tier that has no price per unit, or 0, is paid for otherwise and is left out; so are flat and
    free prices, commitments, and the rounding of packages.
    """
    match card.price:
        case UnitPrice(amount):
            prices = [amount]
        case GraduatedPrice(tiers) | VolumePrice(tiers):
            prices = [tier.unit_price for tier in tiers if tier.unit_price]
        case _:
            prices = []
    percentage = card.discounts.percentage or Decimal(0)
    for price in prices:
        left = EXACT.divide(EXACT.multiply(price, HUNDRED - percentage), HUNDRED)
        yield _per_metered(left, card)


def lowest_losing_price(card: RateCard, cost: TokenCost, currency: str) -> Decimal | None:
    """The lowest price of the card that is below the cost; None if there is none, or no telling."""
    if cost.currency != currency:
        return None
    return min((price for price in unit_prices(card) if price < cost.amount), default=None)


def worst_first(losses: Iterable[Loss]) -> list[Loss]:
    """Those that lose most money of late first; then those that lose most with each unit."""
    return sorted(
        losses,
        key=lambda one: (
            -sum(customer.loss for customer in one.customers),
            -one.per_unit,
            one.plan_key,
            one.card_key,
            one.cost.model,
            one.cost.token_type,
        ),
    )


def _per_metered(amount: Decimal, card: RateCard) -> Decimal:
    config = card.unit_config
    if config is None or config.conversion_factor <= 0:
        return amount
    if config.operation is Operation.DIVIDE:
        return per_unit(amount, config.conversion_factor)
    return EXACT.multiply(amount, config.conversion_factor)


def lost(usage: Decimal, per_unit_lost: Decimal) -> Decimal:
    """What the usage loses."""
    return EXACT.multiply(usage, per_unit_lost)
