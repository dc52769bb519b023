"""A feature's filters and unit cost as documents in the wire's shape, as in `plan_document.py`.

It does not check a document: the bodies of the API do.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, assert_never

from tallyman.domain.feature import LlmUnitCost, ManualUnitCost, UnitCost
from tallyman.domain.meter import DimensionFilter
from tallyman.domain.money import written
from tallyman.domain.plan_document import Document


def write_filters(filters: Iterable[DimensionFilter]) -> Document:
    """`{dimension: {operator: operand}}`."""
    return {one.dimension: _write_filter(one) for one in filters}


def read_filters(given: Document) -> tuple[DimensionFilter, ...]:
    """The filters of a document; one operator each."""
    return tuple(_read_filter(dimension, operators) for dimension, operators in given.items())


def write_unit_cost(cost: UnitCost) -> Document:
    """The unit cost as a document."""
    match cost:
        case ManualUnitCost(amount):
            return {"type": "manual", "amount": written(amount)}
        case LlmUnitCost():
            return {
                "type": "llm",
                **{name: value for name, value in vars(cost).items() if value is not None},
            }
        case _:
            assert_never(cost)


def read_unit_cost(given: Document) -> UnitCost:
    """The unit cost of a document."""
    members = {name: value for name, value in given.items() if name != "type"}
    if given["type"] == "manual":
        return ManualUnitCost(Decimal(members["amount"]))
    return LlmUnitCost(**members)


def _write_filter(one: DimensionFilter) -> Document:
    operand: Any
    if one.operator in ("and", "or"):
        operand = [_write_filter(nested) for nested in one.nested]
    elif one.operator in ("in", "nin"):
        operand = list(one.values)
    elif one.operator == "exists":
        operand = one.values[0] == "true"
    else:
        operand = one.values[0]
    return {one.operator: operand}


def _read_filter(dimension: str, given: Document) -> DimensionFilter:
    [(operator, operand)] = given.items()
    match operand:
        case bool():
            return DimensionFilter(dimension, operator, (str(operand).lower(),))
        case str():
            return DimensionFilter(dimension, operator, (operand,))
        case [str(), *_]:
            return DimensionFilter(dimension, operator, tuple(operand))
        case _:
            nested = tuple(_read_filter(dimension, item) for item in operand)
            return DimensionFilter(dimension, operator, nested=nested)
