"""How fast rate cards are rated, without any store: `python -m bench.rating [--quick]`.

Each figure is rate cards of one price a second, seen against the unit price.
"""

import time
from collections.abc import Iterator
from decimal import Decimal
from statistics import median

from tallyman.domain.duration import Duration
from tallyman.domain.price import (
    Commitments,
    Discounts,
    FlatPrice,
    GraduatedPrice,
    Operation,
    Price,
    PriceTier,
    Rounding,
    UnitConfig,
    UnitPrice,
    VolumePrice,
)
from tallyman.domain.rate_card import RateCard
from tallyman.domain.rating.rate import rate
from tallyman.domain.usage import Usage

from bench.figure import Figure, report

TIERS = (
    PriceTier(Decimal(1_000_000), unit_price=Decimal(0)),
    PriceTier(Decimal(10_000_000), unit_price=Decimal("0.000003")),
    PriceTier(None, unit_price=Decimal("0.000002")),
)
USAGE = Usage(Decimal(123_456_789))
CARDS = 20_000


def measure(is_quick: bool) -> Iterator[Figure]:
    unit = "with a unit price"
    repeated = CARDS // 10 if is_quick else CARDS
    for name, card in _cards(unit).items():
        baseline = None if name == unit else unit
        yield Figure(name, _rated_per_second(card, repeated), "rate cards/s", baseline=baseline)


def _cards(unit: str) -> dict[str, RateCard]:
    price = UnitPrice(Decimal("0.000003"))
    per_thousand = UnitConfig(Operation.DIVIDE, Decimal(1000), Rounding.CEILING)
    return {
        unit: _card(price),
        "with a flat price": _card(FlatPrice(Decimal("20.00"))),
        "graduated, three tiers": _card(GraduatedPrice(TIERS)),
        "by volume, three tiers": _card(VolumePrice(TIERS)),
        "graduated, converted, discounted, with commitments": RateCard(
            "tokens",
            "Tokens",
            GraduatedPrice(TIERS),
            billing_cadence=Duration(1),
            unit_config=per_thousand,
            discounts=Discounts(percentage=Decimal(10), usage=Decimal(1000)),
            commitments=Commitments(Decimal(5), Decimal(500)),
        ),
    }


def _card(price: Price) -> RateCard:
    return RateCard("tokens", "Tokens", price, billing_cadence=Duration(1))


def _rated_per_second(card: RateCard, repeated: int) -> float:
    """The median of five rounds."""
    figures = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(repeated):
            rate(card, USAGE)
        figures.append(repeated / (time.perf_counter() - began))
    return median(figures)


if __name__ == "__main__":
    report(measure)
