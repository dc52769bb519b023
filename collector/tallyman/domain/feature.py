"""A feature: what is sold and limited, and the part of a meter that counts it.

It does not price: see `rate_card.py`.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal

from tallyman.domain.meter import DimensionFilter, Meter, MeterQuery
from tallyman.domain.meter_query import RESERVED, check_query
from tallyman.errors import InvalidInput, InvalidParameter, InvalidQuery


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


def check_feature(feature: Feature, meter: Meter | None) -> None:
    """Refuse what the meter cannot count: `meter` is the one that the feature names, if it is there.

    Raises:
        InvalidInput: there is no such meter, or the unit cost reads a dimension that it has not.
        InvalidQuery: it cannot be filtered so.
    """
    if feature.meter is not None and meter is None:
        raise _refused("meter.id", "missing_reference", f"there is no meter {feature.meter.id}")
    if feature.meter is not None and meter is not None:
        _check_filters(feature.meter, meter)
    if isinstance(feature.unit_cost, LlmUnitCost):
        if meter is None:
            reason = "a unit cost by model needs a meter"
            raise _refused("meter", "required", reason)
        for name in ("provider_property", "model_property", "token_type_property"):
            dimension = getattr(feature.unit_cost, name)
            if dimension is not None and dimension not in meter.dimensions:
                reason = f"{dimension} is no dimension of {meter.key}"
                raise _refused(f"unit_cost.{name}", "missing_reference", reason)


def _check_filters(counted: FeatureMeter, meter: Meter) -> None:
    for one in counted.filters:
        if one.dimension in RESERVED:
            reason = "whose usage it is, is the customer's"
            raise InvalidQuery(
                "invalid_dimension_filter",
                InvalidParameter(f"meter.filters.{one.dimension}", "invalid", reason),
            )
    try:
        check_query(meter, MeterQuery(filters=counted.filters))
    except InvalidQuery as err:
        [found] = err.parameters
        at = found.field.replace("filters.dimensions", "meter.filters")
        raise InvalidQuery(err.code, replace(found, field=at)) from err


def _refused(field: str, rule: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{field}: {reason}", [InvalidParameter(field, rule, reason)])
