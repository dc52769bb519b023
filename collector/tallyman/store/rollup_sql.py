"""Renders the statements over the rollup: what a meter takes from it, and what its hours are. Pure.

When which hour may be taken is `rollup.py`'s, what counts and what a value is `meter_sql.py`'s.

An hour is its number since 1970. All rows of a key of `events` have one namespace, type and time, so a
condition on these may come before FINAL.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Final, NamedTuple

from tallyman.domain.meter import Aggregation, Granularity, Meter, MeterQuery, parse_path
from tallyman.domain.meter_query import CUSTOMER, SUBJECT
from tallyman.domain.period import EPOCH, microseconds, milliseconds
from tallyman.store.meter_sql import (
    TOKENS,
    Parameters,
    aggregates_of,
    column_of,
    dimension_text,
    filters_of,
    order_of,
    range_of,
    start_of,
    window_of,
)
from tallyman.store.revision_sql import counting, counting_everywhere

HOUR_US: Final = 3_600_000_000
HOUR: Final = f"toUInt32(intDiv(toUnixTimestamp64Micro(time), {HOUR_US}))"
_WINDOWS: Final = frozenset({Granularity.HOUR, Granularity.DAY, Granularity.MONTH})
_CELL: Final = (
    "model",
    "provider",
    "token_type",
    "events",
    "valued",
    "tokens",
    "first_minute",
    "last_minute",
)
_COLUMNS: Final = ("namespace", "type", "hour", "as_of", *_CELL)


class HourOf(NamedTuple):
    """An hour of a namespace's events of one type."""

    namespace: str
    type: str
    hour: int


def can_answer(meter: Meter, query: MeterQuery) -> bool:
    """Whether the rollup has what is asked: calls or tokens, by what it is split by, in UTC."""
    if meter.aggregation is Aggregation.SUM:
        if parse_path(meter.value_property or "") != ("tokens",):
            return False
    elif meter.aggregation is not Aggregation.COUNT:
        return False
    if query.granularity is not None and not (
        query.granularity in _WINDOWS and query.time_zone == "UTC"
    ):
        return False
    names = {*query.group_by, *(one.dimension for one in query.filters)}
    names |= {meter.only[0]} if meter.only is not None else set()
    if names & {SUBJECT, CUSTOMER} or not all(column_of(meter, name) for name in names):
        return False
    begin, end = whole_hours(meter, query)
    return begin is None or end is None or begin < end


def whole_hours(meter: Meter, query: MeterQuery) -> tuple[int | None, int | None]:
    """The hours that lie wholly in what is asked: from the first one to before the second."""
    start = start_of(meter, query)
    return (
        None if start is None else -(-microseconds(start) // HOUR_US),
        None if query.to is None else microseconds(query.to) // HOUR_US,
    )


def render(meter: Meter, query: MeterQuery, changed: Collection[int]) -> tuple[str, Parameters]:
    """`meter_sql.render`, with each hour once: from the events if it is cut or changed, or else from
    the rollup."""
    parameters: Parameters = {"namespace": meter.namespace, "type": meter.event_type}
    window = window_of(query, parameters)
    filters = filters_of(meter, query, parameters)
    dimensions = [
        f"{dimension_text(meter, name)} AS d{at}" for at, name in enumerate(query.group_by)
    ]
    groups = [*(f"d{at}" for at in range(len(dimensions))), "w"]
    selected = ", ".join([*dimensions, f"{window} AS w"])
    begin, end = whole_hours(meter, query)
    asked = sorted(
        hour for hour in changed if (begin is None or begin <= hour) and (end is None or hour < end)
    )
    parts = [_from_rollup(meter, selected, filters, (begin, end), asked)]
    rest = _rest(meter, query, asked)
    if rest:
        value, valued = aggregates_of(meter)[0], "count()"
        if meter.aggregation is Aggregation.SUM:
            valued = f"count({TOKENS})"
        where = [*range_of(meter, query, parameters), counting(), *filters]
        parts.append(
            f"SELECT {selected}, min(time) AS r0, max(time) AS r1, {value} AS r2, {valued} AS r3 "  # noqa: S608 – paths are quoted, values are parameters
            f"FROM events FINAL PREWHERE {rest} WHERE {' AND '.join(where)}"
        )
    by = f" GROUP BY {', '.join(groups)}"
    union = " UNION ALL ".join(part + by for part in parts)
    sql = (
        f"SELECT {', '.join(groups)}, min(r0), max(r1), sum(r2) FROM ({union}){by} "  # noqa: S608 – as above
        f"HAVING sum(r3) > 0 ORDER BY {', '.join([order_of(query), *groups[:-1]])}"
    )
    return sql, parameters


def _from_rollup(
    meter: Meter,
    selected: str,
    filters: Iterable[str],
    whole: tuple[int | None, int | None],
    asked: Collection[int],
) -> str:
    """What the hours of the rollup say, ungrouped; `asked` are those that the events are asked for."""
    begin, end = whole
    hours = ["namespace = {namespace:String}", "type = {type:String}"]
    hours += [f"hour >= {begin}"] if begin is not None else []
    hours += [f"hour < {end}"] if end is not None else []
    hours += [f"hour NOT IN ({_listed(asked)})"] if asked else []
    value, valued = (
        ("tokens", "valued") if meter.aggregation is Aggregation.SUM else ("events", "events")
    )
    return (
        f"SELECT {selected}, min(time + toIntervalMinute(first_minute)) AS r0, "  # noqa: S608 – as above
        f"max(time + toIntervalMinute(last_minute)) AS r1, sum({value}) AS r2, sum({valued}) AS r3 "
        f"FROM (SELECT fromUnixTimestamp64Micro(toInt64(hour) * {HOUR_US}, 'UTC') AS time, "
        f"{', '.join(_CELL)} FROM rollup FINAL WHERE {' AND '.join(hours)}) "
        f"ARRAY JOIN {', '.join(_CELL)} WHERE {' AND '.join(['1', *filters])}"
    )


def _rest(meter: Meter, query: MeterQuery, asked: list[int]) -> str:
    """The condition of the events that are not taken from the rollup; '' if there are none."""
    start = start_of(meter, query)
    begin, end = whole_hours(meter, query)
    some, bounds = [], []
    if begin is not None and start is not None and microseconds(start) < begin * HOUR_US:
        some.append(f"time < {_begin_of(begin)}")
    elif asked:
        bounds.append(f"time >= {_begin_of(asked[0])}")
    if end is not None and query.to is not None and microseconds(query.to) > end * HOUR_US:
        some.append(f"time >= {_begin_of(end)}")
    elif asked:
        bounds.append(f"time < {_begin_of(asked[-1] + 1)}")
    if asked:
        some.append(f"{HOUR} IN ({_listed(asked)})")
    return " AND ".join([*bounds, f"({' OR '.join(some)})"]) if some else ""


def render_write(hours: Collection[HourOf], as_of: datetime) -> str:
    """Write hours that have events, as the events have them."""
    return f"INSERT INTO rollup ({', '.join(_COLUMNS)}) {_computed(hours, as_of)}"


def render_empty(hours: Collection[HourOf], as_of: datetime) -> str:
    """Write hours of which nothing counts."""
    return (
        "INSERT INTO rollup (namespace, type, hour, as_of) "  # noqa: S608 – numbers and hexadecimal
        f"SELECT one.1, one.2, toUInt32(one.3), {_moment(as_of)} "
        f"FROM (SELECT arrayJoin([{_keys(hours)}]) AS one)"
    )


def render_hours(since: datetime) -> tuple[str, Parameters]:
    """The hours from that of a moment on that have events or are in the rollup, and the older ones in which
    anything was stored since."""
    moment = "fromUnixTimestamp64Micro({since:Int64}, 'UTC')"
    events = f"SELECT namespace, type, {HOUR} AS hour FROM events WHERE"  # noqa: S608 – ours
    sql = (
        f"{events} time >= {moment} UNION DISTINCT {events} stored_at >= {moment} AND time < {moment} "  # noqa: S608 – ours
        "UNION DISTINCT SELECT namespace, type, hour FROM rollup "
        "WHERE hour >= {first:UInt32} AND namespace != ''"
    )
    first = microseconds(since) // HOUR_US
    return sql, {"since": first * HOUR_US, "first": first}


def render_compared(hours: Collection[HourOf]) -> str:
    """Those of the hours that differ, and whether they have events; one that is not there is as an
    empty one."""
    said = f"if(empty(model), 0, sipHash64(toString(({', '.join(_CELL)}))))"
    return (
        "SELECT namespace, type, hour, max(has_events) FROM ("  # noqa: S608 – numbers and hexadecimal
        f"SELECT namespace, type, hour, 1 AS has_events, {said} AS computed, 0 AS kept "
        f"FROM ({_computed(hours, EPOCH)}) UNION ALL "
        f"SELECT namespace, type, hour, 0, 0, {said} FROM rollup FINAL "
        f"WHERE (namespace, type, hour) IN ({_keys(hours)})"
        ") GROUP BY namespace, type, hour HAVING max(computed) != max(kept)"
    )


def _computed(hours: Collection[HourOf], as_of: datetime) -> str:
    """The rows of the rollup as the events have them; an hour of which nothing counts is an empty one."""
    times = [one.hour for one in hours]
    cells = ", ".join(f"cells.{at} AS {name}" for at, name in enumerate(_CELL, 1))
    return (
        f"SELECT namespace, type, hour, {_moment(as_of)} AS as_of, {cells} "  # noqa: S608 – numbers and hexadecimal
        "FROM (SELECT namespace, type, hour, arraySort(groupArrayIf((model, provider, token_type, "
        "n, valued, total, first_minute, last_minute), n > 0)) AS cells FROM ("
        "SELECT namespace, type, hour, model, provider, token_type, countIf(counts) AS n, "
        "countIf(counts AND isNotNull(value)) AS valued, "
        "assumeNotNull(ifNull(sumIf(value, counts), toDecimal256(0, 18))) AS total, "
        "minIf(minute, counts) AS first_minute, maxIf(minute, counts) AS last_minute "
        f"FROM (SELECT namespace, type, {HOUR} AS hour, model, provider, token_type, "
        f"toMinute(time) AS minute, {TOKENS} AS value, {counting_everywhere()} AS counts "
        f"FROM events FINAL PREWHERE time >= {_begin_of(min(times))} "
        f"AND time < {_begin_of(max(times) + 1)} AND (namespace, type, {HOUR}) IN ({_keys(hours)})) "
        "GROUP BY namespace, type, hour, model, provider, token_type) "
        "GROUP BY namespace, type, hour)"
    )


def _keys(hours: Iterable[HourOf]) -> str:
    return ", ".join(
        f"(unhex('{one.namespace.encode().hex()}'), unhex('{one.type.encode().hex()}'), {one.hour})"
        for one in hours
    )


def _moment(moment: datetime) -> str:
    return f"fromUnixTimestamp64Milli(toInt64({milliseconds(moment)}), 'UTC')"


def _listed(hours: Iterable[int]) -> str:
    return ", ".join(str(hour) for hour in hours)


def _begin_of(hour: int) -> str:
    return f"fromUnixTimestamp64Micro(toInt64({hour * HOUR_US}), 'UTC')"
