"""Checks what is asked of a meter.

It does not answer: `store/meter_sql.py` renders the query.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from tallyman.domain.event import EARLIEST, LATEST
from tallyman.domain.meter import DimensionFilter, Meter, MeterQuery
from tallyman.domain.period import time_zone
from tallyman.errors import InvalidInput, InvalidParameter, InvalidQuery

SUBJECT: Final = "subject"
CUSTOMER: Final = "customer_id"
RESERVED: Final = frozenset({SUBJECT, CUSTOMER})
MOST_GROUPS: Final = 100
MOST_FILTERS: Final = 10
MOST_VALUES: Final = 100
MOST_NESTED: Final = 10
DEEPEST_FILTER: Final = 2
LONGEST_VALUE: Final = 1024

_ONE_VALUE: Final = frozenset({"eq", "neq", "contains", "ncontains", "exists"})
_MANY_VALUES: Final = frozenset({"in", "nin"})
_NESTING: Final = frozenset({"and", "or"})
_OPERATORS: Final = (*sorted(_ONE_VALUE), *sorted(_MANY_VALUES), *sorted(_NESTING))


def check_query(meter: Meter, query: MeterQuery) -> MeterQuery:
    """The query as it is answered: a filter by subject or customer also splits by it.

    Raises:
        InvalidQuery: it cannot be answered; names the field as the API has it.
    """
    for field, moment in (("from", query.from_), ("to", query.to)):
        _check_time(field, moment)
    try:
        time_zone(query.time_zone)
    except InvalidInput as err:
        raise InvalidQuery("invalid_time_zone", err.parameters[0]) from err
    _check_groups(meter, query)
    if len(query.filters) > MOST_FILTERS:
        raise _bad_filter("filters.dimensions", f"must be at most {MOST_FILTERS} dimensions")
    for one in query.filters:
        at = f"filters.dimensions.{one.dimension}"
        if one.dimension not in RESERVED and one.dimension not in meter.dimensions:
            raise _bad_filter(at, _no_dimension(meter))
        _check_filter(one, at, 0)
    filtered = {one.dimension for one in query.filters}
    split = [name for name in (SUBJECT, CUSTOMER) if name in filtered - set(query.group_by)]
    return replace(query, group_by=(*query.group_by, *split)) if split else query


def too_many_rows(query: MeterQuery, most: int) -> InvalidQuery:
    """What is wrong with a query that `check_query` passed, and whose answer has more rows."""
    filtered = {one.dimension for one in query.filters}
    field = "group_by_dimensions" if set(query.group_by) - filtered else "granularity"
    reason = (
        f"gives more than {most:,} rows: ask for less time, a coarser granularity, fewer "
        "dimensions, or filter; max_query_rows allows no more"
    )
    return InvalidQuery("too_many_rows", InvalidParameter(field, "invalid", reason))


def _check_time(field: str, moment: datetime | None) -> None:
    if moment is None or (moment.tzinfo is not None and EARLIEST <= moment <= LATEST):
        return
    reason = "must be a time with a zone, from 1970 to 2199"
    raise InvalidQuery("invalid_query", InvalidParameter(field, "is_date_time", reason))


def _check_groups(meter: Meter, query: MeterQuery) -> None:
    if len(query.group_by) > MOST_GROUPS:
        reason = f"must be at most {MOST_GROUPS} dimensions"
        extra = {"maximum": MOST_GROUPS}
        raise _bad_group("group_by_dimensions", "max_items", reason, extra)
    for index, name in enumerate(query.group_by):
        at = f"group_by_dimensions[{index}]"
        if name in query.group_by[:index]:
            raise _bad_group(at, "invalid", "is named twice")
        if name not in RESERVED and name not in meter.dimensions:
            raise _bad_group(at, "missing_reference", _no_dimension(meter))


def _check_filter(one: DimensionFilter, at: str, depth: int) -> None:
    allowed = ("eq", "in") if one.dimension in RESERVED else _OPERATORS
    if one.operator not in allowed or (one.operator == "exists" and depth > 0):
        reason = f"is no operator here; there are {', '.join(allowed)}"
        extra = {"choices": list(allowed)}
        parameter = InvalidParameter(f"{at}.{one.operator}", "enum", reason, extra=extra)
        raise InvalidQuery("unsupported_filter_operator", parameter)
    at = f"{at}.{one.operator}"
    if one.operator in _NESTING:
        if depth >= DEEPEST_FILTER:
            raise _bad_filter(at, f"must not be nested deeper than {DEEPEST_FILTER}")
        if not 1 <= len(one.nested) <= MOST_NESTED or one.values:
            raise _bad_filter(at, f"must be 1 to {MOST_NESTED} filters")
        for index, nested in enumerate(one.nested):
            if nested.dimension != one.dimension:
                raise _bad_filter(f"{at}[{index}]", "must be of the same dimension")
            _check_filter(nested, f"{at}[{index}]", depth + 1)
        return
    most = MOST_VALUES if one.operator in _MANY_VALUES else 1
    if not 1 <= len(one.values) <= most or one.nested:
        raise _bad_filter(at, f"must be 1 to {most} values" if most > 1 else "must be one value")
    if one.operator == "exists" and one.values[0] not in ("true", "false"):
        raise _bad_filter(at, "must be true or false")
    if any(len(value) > LONGEST_VALUE for value in one.values):
        raise _bad_filter(at, f"must be at most {LONGEST_VALUE} characters")


def _bad_group(
    at: str, rule: str, reason: str, extra: dict[str, Any] | None = None
) -> InvalidQuery:
    return InvalidQuery("invalid_group_by", InvalidParameter(at, rule, reason, extra=extra or {}))


def _bad_filter(at: str, reason: str) -> InvalidQuery:
    return InvalidQuery("invalid_dimension_filter", InvalidParameter(at, "invalid", reason))


def _no_dimension(meter: Meter) -> str:
    there = ", ".join((SUBJECT, CUSTOMER, *meter.dimensions))
    return f"is no dimension of {meter.key}; there are {there}"
