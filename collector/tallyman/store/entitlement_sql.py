"""Renders what is asked to keep usage counted as (sql, parameters), and reads the answers. Pure.

What is done with the answers is `billing/entitlement_counters.py`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, assert_never

from tallyman.domain.counting import Metered
from tallyman.domain.meter import Aggregation, DimensionFilter, Meter
from tallyman.domain.period import EPOCH, Period, microseconds
from tallyman.store.meter_sql import (
    Parameters,
    dimension_text,
    filter_condition,
    number_of,
    text_of,
    value_of,
)
from tallyman.store.revision_sql import counting, of_type_between

_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class Share:
    """The usage of a subject in a period, which counts for the group with this number."""

    group: int
    subject: str
    period: Period


@dataclass(frozen=True)
class Stored:
    """What was stored in a second for a subject; `content` is another number where that is other.

    `earliest` is the first of the events' own times.
    """

    namespace: str
    event_type: str
    subject: str
    second: datetime
    content: int
    earliest: datetime


def render_counts(counted: Sequence[Metered], shares: Sequence[Share]) -> tuple[str, Parameters]:
    """One SELECT for meters of one namespace and one type of event: a row a group, in any order."""
    meter = counted[0].meter
    parameters: Parameters = {
        "namespace": meter.namespace,
        "type": meter.event_type,
        "from": microseconds(min(share.period.from_ for share in shares)),
        "to": microseconds(max(share.period.to for share in shares)),
        "subjects": [share.subject for share in shares],
        "groups": [share.group for share in shares],
        "begins": [microseconds(share.period.from_) for share in shares],
        "ends": [microseconds(share.period.to) for share in shares],
    }
    values = [column for one in counted for column in _values(one, parameters)]
    sql = (
        f"SELECT share_group, {', '.join(values)} FROM events FINAL INNER JOIN ("  # noqa: S608 – values are parameters
        "SELECT s.1 AS share_subject, s.2 AS share_group, s.3 AS share_begin, s.4 AS share_end "
        "FROM (SELECT arrayJoin(arrayZip({subjects:Array(String)}, {groups:Array(UInt32)}, "
        "{begins:Array(Int64)}, {ends:Array(Int64)})) AS s)) AS shares ON subject = share_subject "
        f"WHERE namespace = {{namespace:String}} AND {' AND '.join(of_type_between())} "
        f"AND {counting()} AND subject IN {{subjects:Array(String)}} "
        "AND toUnixTimestamp64Micro(time) >= share_begin "
        "AND toUnixTimestamp64Micro(time) < share_end GROUP BY share_group"
    )
    return sql, parameters


def read_counts(
    counted: Sequence[Metered], rows: Sequence[Sequence[Any]]
) -> dict[int, list[Decimal]]:
    """The values of each group, in the order of `counted`; a group without events is absent."""
    found: dict[int, list[Decimal]] = {}
    for group, *columns in rows:
        values, at = [], 0
        for one in counted:
            width = 2 if one.meter.aggregation is Aggregation.AVG else 1
            values.append(_value(one.meter, columns[at : at + width]))
            at += width
        found[int(group)] = values
    return found


def render_stored(since: datetime, within: timedelta) -> tuple[str, Parameters]:
    """What was stored from `since` on, by whose it is and second; `within` is from now, if that is earlier."""
    return (
        "SELECT namespace, type, subject, toUnixTimestamp(stored_at) AS second, "
        "sum(cityHash64(source, id)), toUnixTimestamp64Micro(min(time)) FROM events "
        "WHERE stored_at >= least(fromUnixTimestamp64Micro({since:Int64}, 'UTC'), "
        "now64(6) - toIntervalMicrosecond({within:Int64})) "
        "GROUP BY namespace, type, subject, second",
        {"since": microseconds(since), "within": within // _MICROSECOND},
    )


def read_stored(rows: Sequence[Sequence[Any]]) -> list[Stored]:
    """The rows of `render_stored`'s query."""
    return [
        Stored(
            namespace,
            event_type,
            subject,
            EPOCH + timedelta(seconds=int(second)),
            int(content),
            EPOCH + int(first) * _MICROSECOND,
        )
        for namespace, event_type, subject, second, content, first in rows
    ]


def _values(one: Metered, parameters: Parameters) -> list[str]:
    """What the value of the events that count is made of, for `_value`.

    So many meters of one type of event are asked in one SELECT.
    """
    meter, which = one.meter, _which(one, parameters)
    if meter.aggregation is Aggregation.COUNT:
        return [f"countIf({which})"]
    if meter.aggregation is Aggregation.UNIQUE_COUNT:
        return [f"uniqExactIf({text_of(meter)}, {text_of(meter)} != '' AND {which})"]
    number = number_of(meter)
    match meter.aggregation:
        case Aggregation.SUM:
            return [f"sumIf({number}, {which})"]
        case Aggregation.AVG:
            return [f"sumIf({number}, {which})", f"countIf({number} IS NOT NULL AND {which})"]
        case Aggregation.MIN | Aggregation.MAX:
            return [f"{meter.aggregation}IfOrNull({number}, {number} IS NOT NULL AND {which})"]
        case Aggregation.LATEST:
            order = "(time, ingested_at, source, id)"
            return [f"argMaxIfOrNull({number}, {order}, {number} IS NOT NULL AND {which})"]
        case _:
            assert_never(meter.aggregation)


def _which(one: Metered, parameters: Parameters) -> str:
    """The condition of the events that count."""
    meter, filters = one.meter, list(one.filters)
    if meter.only is not None:
        filters.append(DimensionFilter(meter.only[0], "eq", (meter.only[1],)))
    conditions = [
        filter_condition(each, dimension_text(meter, each.dimension), parameters)
        for each in filters
    ]
    if meter.events_from is not None:
        name = f"since{sum(key.startswith('since') for key in parameters)}"
        parameters[name] = microseconds(meter.events_from)
        conditions.append(f"time >= fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')")
    return " AND ".join(conditions) or "1"


def _value(meter: Meter, values: Sequence[Any]) -> Decimal:
    """0 where no event has a value."""
    if values[-1] is None or (meter.aggregation is Aggregation.AVG and not values[-1]):
        return Decimal(0)
    return value_of(meter.aggregation, values)
