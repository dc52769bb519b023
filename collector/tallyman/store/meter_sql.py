"""Renders a meter query as (sql, parameters), and reads the rows that come back. Pure.

Values are exact: a Decimal(76, 18) from the event's own text, a string on the wire. What counts as a
value is `json_sql.py`'s, what a window is `domain/period.py`'s.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any, Final, assert_never

from tallyman.domain.attribution import Owner
from tallyman.domain.meter import (
    Aggregation,
    DimensionFilter,
    Granularity,
    Meter,
    MeterQuery,
    MeterRow,
    parse_path,
)
from tallyman.domain.meter_query import CUSTOMER, SUBJECT
from tallyman.domain.period import (
    EPOCH,
    MINUTE,
    Period,
    day_of,
    hour_of,
    microseconds,
    minute_of,
    month_of,
    time_zone,
)
from tallyman.store.json_sql import number_at, number_in, text_at
from tallyman.store.revision_sql import AS_IT_CAME, counting
from tallyman.store.span_sql import owner, within

Parameters = dict[str, Any]

# The plugin's own fields are columns of their own; a meter over them does not read the JSON.
_COLUMNS: Final[dict[tuple[str | int, ...], str]] = {
    ("type",): "token_type",
    ("model",): "model",
    ("provider",): "provider",
}
_TOKENS: Final = ("tokens",)
TOKENS: Final = f"if(tokens_text = '', toDecimal256(tokens, 18), {number_in('tokens_text')})"
_DIVISION: Final = Context(prec=100)
_PLACES: Final = Decimal(1).scaleb(-18)


def render(
    meter: Meter, query: MeterQuery, owners: Sequence[Owner] = (), *, may_be_changed: bool = True
) -> tuple[str, Parameters]:
    """One SELECT: a column a dimension, the window's key, the first and last time, the value.

    The query must have passed `check_query`. `owners` are whose usage each subject is and was, of
    every customer that is asked for; they matter where the query names the customer. Of events of
    which none is changed nothing is looked for: see `revision_sql.py`.
    """
    parameters: Parameters = {"namespace": meter.namespace, "type": meter.event_type}
    columns = {name: dimension_text(meter, name) for name in query.group_by if name != CUSTOMER}
    if CUSTOMER in query.group_by:
        columns[CUSTOMER] = owner(owners, "c", parameters)
    dimensions = [f"{columns[name]} AS d{at}" for at, name in enumerate(query.group_by)]
    window = window_of(query, parameters)
    selected = [*dimensions, f"{window} AS w", "min(time)", "max(time)", *aggregates_of(meter)]
    groups = [*(f"d{at}" for at in range(len(dimensions))), "w"]
    where = [
        *range_of(meter, query, parameters),
        counting() if may_be_changed else AS_IT_CAME,
        *filters_of(meter, query, parameters, owners),
    ]
    first = _subjects(query, parameters)
    prewhere = f"PREWHERE {' AND '.join(first)} " if first else ""
    sql = (
        f"SELECT {', '.join(selected)} FROM events FINAL {prewhere}WHERE {' AND '.join(where)} "  # noqa: S608 – paths are quoted, values are parameters
        f"GROUP BY {', '.join(groups)} HAVING {_present(meter)} "
        f"ORDER BY {', '.join([order_of(query), *groups[:-1]])}"
    )
    return sql, parameters


def read_rows(meter: Meter, query: MeterQuery, rows: Sequence[Any]) -> list[MeterRow]:
    """The rows of `render`'s query."""
    width = len(query.group_by)
    read = []
    for row in rows:
        key, first, last, *values = row[width:]
        period = _period(query, key, _aware(first), _aware(last))
        read.append(
            MeterRow(
                value=value_of(meter.aggregation, values),
                from_=period.from_,
                to=period.to,
                dimensions=dict(zip(query.group_by, row[:width], strict=True)),
            )
        )
    return read


def range_of(meter: Meter, query: MeterQuery, parameters: Parameters) -> list[str]:
    """The conditions of the events that are the meter's, in the period."""
    where = ["namespace = {namespace:String}", "type = {type:String}"]
    for name, operator, moment in (("from", ">=", start_of(meter, query)), ("to", "<", query.to)):
        if moment is not None:
            where.append(f"time {operator} fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')")
            parameters[name] = microseconds(moment)
    return where


def start_of(meter: Meter, query: MeterQuery) -> datetime | None:
    """From when on events count."""
    starts = [moment for moment in (query.from_, meter.events_from) if moment is not None]
    return max(starts, default=None)


def window_of(query: MeterQuery, parameters: Parameters) -> str:
    """What is equal for the events of one window, and tells which it is."""
    if query.granularity is None:
        return "0"
    zone = "{zone:String}"
    match query.granularity:
        case Granularity.MINUTE:
            return "intDiv(toUnixTimestamp64Micro(time), 60000000)"
        case Granularity.HOUR:
            local = f"intDiv(toUnixTimestamp64Micro(time), 1000000) + timeZoneOffset(toTimeZone(time, {zone}))"
            window = f"(intDiv({local}, 3600), timeZoneOffset(toTimeZone(time, {zone})))"
        case Granularity.DAY:
            window = f"toDate32(toTimeZone(time, {zone}))"
        case Granularity.MONTH:
            window = f"toYYYYMM(toTimeZone(time, {zone}))"
        case _:
            assert_never(query.granularity)
    parameters["zone"] = query.time_zone
    return window


def order_of(query: MeterQuery) -> str:
    """What is less the earlier a window is: of an hour that is repeated, the first has more offset."""
    return "w.1 * 3600 - w.2" if query.granularity is Granularity.HOUR else "w"


def _period(query: MeterQuery, key: Any, first: datetime, last: datetime) -> Period:
    """The window of a row; without windows what was asked, or else the minutes of its events."""
    match query.granularity:
        case None:
            minute = timedelta(microseconds=microseconds(last) // 60_000_000 * 60_000_000)
            return Period(
                query.from_ or first.replace(second=0, microsecond=0),
                query.to or EPOCH + minute + MINUTE,
            )
        case Granularity.MINUTE:
            return minute_of(EPOCH + key * MINUTE)
        case Granularity.HOUR:
            return hour_of(first, time_zone(query.time_zone))
        case Granularity.DAY:
            return day_of(key, time_zone(query.time_zone))
        case Granularity.MONTH:
            return month_of(date(key // 100, key % 100, 1), time_zone(query.time_zone))
        case _:
            assert_never(query.granularity)


def aggregates_of(meter: Meter) -> list[str]:
    """What the value is made of, see `value_of`."""
    match meter.aggregation:
        case Aggregation.COUNT:
            return ["count()"]
        case Aggregation.UNIQUE_COUNT:
            text = text_of(meter)
            return [f"uniqExactIf({text}, {text} != '')"]
        case Aggregation.SUM:
            return [f"sum({number_of(meter)})"]
        case Aggregation.AVG:
            return [f"sum({number_of(meter)})", f"count({number_of(meter)})"]
        case Aggregation.MIN:
            return [f"min({number_of(meter)})"]
        case Aggregation.MAX:
            return [f"max({number_of(meter)})"]
        case Aggregation.LATEST:
            # of events with one time, the one that came last; then any, but always the same
            number = number_of(meter)
            order = "(time, ingested_at, source, id)"
            return [f"argMaxIf({number}, {order}, {number} IS NOT NULL)"]
        case _:
            assert_never(meter.aggregation)


def value_of(aggregation: Aggregation, values: Sequence[Any]) -> Decimal:
    """The value of a group by its aggregates."""
    if aggregation is Aggregation.AVG:
        total, count = values
        return _DIVISION.divide(total, Decimal(count)).quantize(_PLACES, context=_DIVISION)
    return Decimal(values[0])


def _present(meter: Meter) -> str:
    """A group of which no event has a value is left out."""
    match meter.aggregation:
        case Aggregation.COUNT:
            return "count() > 0"
        case Aggregation.UNIQUE_COUNT:
            return f"countIf({text_of(meter)} != '') > 0"
        case _:
            return f"count({number_of(meter)}) > 0"


def text_of(meter: Meter) -> str:
    """The text of an event's value as SQL; '' where it has none."""
    steps = parse_path(meter.value_property or "")
    return _COLUMNS.get(steps) or text_at("data", steps)


def number_of(meter: Meter) -> str:
    """The value of an event as SQL; NULL where it has none."""
    steps = parse_path(meter.value_property or "")
    if steps == _TOKENS:
        return TOKENS
    return number_at("data", steps)


def dimension_text(meter: Meter, name: str) -> str:
    """The text of an event's dimension as SQL."""
    if name == SUBJECT:
        return "subject"
    return column_of(meter, name) or text_at("data", _steps(meter, name))


def column_of(meter: Meter, name: str) -> str | None:
    """The column that holds the text of a dimension of the data, if one does."""
    return _COLUMNS.get(_steps(meter, name))


def _steps(meter: Meter, name: str) -> tuple[str | int, ...]:
    return parse_path(meter.dimensions[name], f"dimensions.{name}")


def filters_of(
    meter: Meter, query: MeterQuery, parameters: Parameters, owners: Sequence[Owner] = ()
) -> list[str]:
    """The filters but those by subject, as conditions."""
    filters = [one for one in query.filters if one.dimension not in (CUSTOMER, SUBJECT)]
    wanted = [one.values for one in query.filters if one.dimension == CUSTOMER]
    theirs = [
        within([span for id_, span in owners if id_ in values], "o", parameters)
        for values in wanted
    ]
    if meter.only is not None:
        filters.append(DimensionFilter(meter.only[0], "eq", (meter.only[1],)))
    return theirs + [
        filter_condition(one, dimension_text(meter, one.dimension), parameters) for one in filters
    ]


def _subjects(query: MeterQuery, parameters: Parameters) -> list[str]:
    """The filters by subject. All rows of an event have the same, so they may come before FINAL."""
    filters = [one for one in query.filters if one.dimension == SUBJECT]
    return [filter_condition(one, "subject", parameters) for one in filters]


def filter_condition(one: DimensionFilter, text: str, parameters: Parameters) -> str:
    """A filter as SQL; its values go into the parameters."""
    if one.operator in ("and", "or"):
        joined = f" {one.operator.upper()} "
        return (
            f"({joined.join(filter_condition(nested, text, parameters) for nested in one.nested)})"
        )
    if one.operator == "exists":
        return f"{text} {'!=' if one.values[0] == 'true' else '='} ''"
    name = f"f{sum(key.startswith('f') and key[1:].isdigit() for key in parameters)}"
    if one.operator in ("in", "nin"):
        parameters[name] = list(one.values)
        return f"{text} {'NOT IN' if one.operator == 'nin' else 'IN'} {{{name}:Array(String)}}"
    parameters[name] = one.values[0]
    value = f"{{{name}:String}}"
    match one.operator:
        case "eq":
            return f"{text} = {value}"
        case "neq":
            return f"{text} != {value}"
        case "contains":
            return f"positionCaseInsensitiveUTF8({text}, {value}) > 0"
        case "ncontains":
            return f"positionCaseInsensitiveUTF8({text}, {value}) = 0"
        case _:
            raise AssertionError(f"check_query let the operator {one.operator} through")


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)
