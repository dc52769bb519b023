"""A feature: what is sold and limited, and the part of a meter that counts it.

It does not price: see `rate_card.py`.
"""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

from tallyman.domain.meter import DimensionFilter


@dataclass(frozen=True)
class FeatureMeter:
    """A meter, or the events of it that pass every filter."""

    id: str
    filters: tuple[DimensionFilter, ...] = ()


@dataclass(frozen=True)
class ManualUnitCost:
    """What a unit costs the seller, whatever it is."""

    amount: Decimal


TokenType = Literal[
    "input", "output", "cache_read", "cache_write", "reasoning", "request", "response"
]


@dataclass(frozen=True)
class LlmUnitCost:
    """What a token costs the seller, by the price list of the models.

    Each of the three is fixed, or read from the dimension that `…_property` names.
    """

    provider: str | None = None
    provider_property: str | None = None
    model: str | None = None
    model_property: str | None = None
    token_type: TokenType | None = None
    token_type_property: str | None = None


UnitCost = ManualUnitCost | LlmUnitCost


@dataclass(frozen=True)
class Feature:
    """A feature without a meter can be sold for a flat price and switched on, not counted."""

    id: str
    namespace: str
    key: str
    name: str
    created_at: datetime
    updated_at: datetime
    meter: FeatureMeter | None = None
    unit_cost: UnitCost | None = None
    description: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    deleted_at: datetime | None = None
