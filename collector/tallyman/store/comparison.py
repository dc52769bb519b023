"""Conditions of lists on text columns: the operators of the API's filters as SQL. Pure.

Which columns a list can be filtered by is each repository's.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, or_


@dataclass(frozen=True)
class Comparison:
    """One condition on a text column of a list, e.g. key, contains, tokens."""

    column: str
    operator: str
    values: tuple[str, ...]


def condition_of(column: ColumnElement[str], comparison: Comparison) -> ColumnElement[bool]:
    """The condition, as SQL for both databases."""
    values = comparison.values
    match comparison.operator:
        case "eq" | "oeq":
            return column.in_(values)
        case "neq":
            return column.not_in(values)
        case "contains" | "ocontains":
            return or_(*(column.icontains(value, autoescape=True) for value in values))
        case "gt":
            return column > values[0]
        case "gte":
            return column >= values[0]
        case "lt":
            return column < values[0]
        case "lte":
            return column <= values[0]
        case "exists":
            return column.is_not(None) if values[0] == "true" else column.is_(None)
    raise AssertionError(comparison.operator)
