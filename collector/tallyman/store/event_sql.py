"""Renders the listing of events as (sql, parameters), and reads its pages. Pure.

A cursor is the place of an event in the order, so a page stays the same while others are stored.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from tallyman.domain.event import CloudEvent
from tallyman.domain.event_query import EventFilter, EventPage, EventSort, SpanFilter, StoredEvent
from tallyman.domain.period import microseconds
from tallyman.errors import InvalidInput, InvalidParameter
from tallyman.store.revision_sql import newest
from tallyman.store.span_sql import within

Parameters = dict[str, Any]

_TEXTS: Final = frozenset({"id", "source", "subject", "type"})
_TIMES: Final = frozenset({"time", "ingested_at", "stored_at"})
_OF_A_ROW: Final = frozenset({"ingested_at", "stored_at"})  # an event stored twice has two of each
NEAR: Final = 4  # rows looked at for an event that is asked for, since some may be stored twice
_COMPARISONS: Final = {"eq": "=", "neq": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_TEXT_OPERATORS: Final = (*_COMPARISONS, "contains", "ocontains", "oeq", "exists")
_TIME_OPERATORS: Final = ("eq", "gt", "gte", "lt", "lte")
# Two events of one time are in the order of this, which is theirs alone.
_TIE: Final = "lower(hex(sipHash128(source, '\\0', id)))"


def render(
    namespace: str,
    filters: Sequence[EventFilter | SpanFilter],
    sort: EventSort,
    size: int,
    after: str | None,
    *,
    near: bool = False,
) -> tuple[str, Parameters]:
    """One SELECT of at most `size` events.

    With `near` it reads only the times, and then the few rows nearest to the cursor: exact if it
    gives `size` events; if fewer, there may be more, and all must be read.

    Raises:
        InvalidInput: the cursor or a filter is none.
    """
    parameters: Parameters = {"namespace": namespace, "size": size}
    where = ["namespace = {namespace:String}", "change != 'moved'", newest()]
    for at, one in enumerate(filters):
        if isinstance(one, SpanFilter):
            inside = within(one.spans, f"f{at}", parameters)
            where.append(inside if one.within else f"NOT ({inside})")
        else:
            where.append(_condition(one, f"f{at}", parameters))
    moment = f"toUnixTimestamp64Micro(toDateTime64({sort.by}, 6, 'UTC'))"
    direction, beyond = ("DESC", "<") if sort.descending else ("ASC", ">")
    if after is not None:
        parameters["at"], parameters["tie"] = _read_cursor(after, sort)
        # the first condition alone is what the index of times understands
        bound = _instant(sort.by, "at")
        where.append(
            f"{sort.by} {beyond}= {bound} AND ({sort.by}, {_TIE}) {beyond} ({bound}, {{tie:String}})"
        )
    table = "events FINAL"
    if near:
        parameters["near"] = size * NEAR
        table = _nearest(where, sort)
    sql = (
        f"SELECT id, source, type, subject, toUnixTimestamp64Micro(time), dataschema, data, nodeid, "  # noqa: S608 – columns are ours, values are parameters
        f"sequence, ingested_at, stored_at, {moment}, {_TIE} AS tie, revision, change "
        f"FROM {table} WHERE {' AND '.join(where)} "
        f"ORDER BY {sort.by} {direction}, tie {direction} LIMIT {{size:UInt32}}"
    )
    return sql, parameters


def _nearest(where: list[str], sort: EventSort) -> str:
    """The rows with the times nearest to the cursor; adds to `where` that they are among those."""
    direction, beyond, end = ("DESC", ">", "min") if sort.descending else ("ASC", "<", "max")
    nearest = (
        f"SELECT time FROM events WHERE {' AND '.join(where)} "  # noqa: S608 – as in `render`
        f"ORDER BY time {direction} LIMIT {{near:UInt32}}"
    )
    where.append(f"time {beyond}= (SELECT {end}(time) FROM ({nearest}))")  # noqa: S608 – as in `render`
    return (
        f"(SELECT * FROM events WHERE {' AND '.join(where)} ORDER BY first_wins DESC "  # noqa: S608 – as in `render`
        "LIMIT 1 BY namespace, type, subject, time, source, id, revision)"
    )


def may_be_near(filters: Sequence[EventFilter | SpanFilter], sort: EventSort) -> bool:
    """Whether `near` is exact: all rows of an event are equal in what is filtered and sorted by."""
    return sort.by == "time" and all(
        isinstance(one, SpanFilter) or one.field not in _OF_A_ROW for one in filters
    )


def read_page(rows: Sequence[Any], sort: EventSort, size: int) -> EventPage:
    """The page that `render`'s query gives."""
    cursors = [_cursor(row[11], row[12], sort) for row in rows]
    return EventPage(
        events=tuple(_event(row) for row in rows),
        next=cursors[-1] if rows and len(rows) == size else None,
        first=cursors[0] if cursors else None,
        last=cursors[-1] if cursors else None,
    )


def _event(row: Any) -> StoredEvent:
    id_, source, type_, subject, time_us, schema, data, nodeid, sequence, ingested, stored = row[
        :11
    ]
    return StoredEvent(
        CloudEvent(
            id=id_,
            source=source,
            type=type_,
            subject=subject,
            time=datetime.fromtimestamp(time_us // 1_000_000, UTC).replace(
                microsecond=time_us % 1_000_000
            ),
            dataschema=schema or None,
            data=msgspec.Raw(data.encode()),
            nodeid=nodeid or None,
            sequence=sequence or None,
        ),
        ingested.replace(tzinfo=UTC),
        stored.replace(tzinfo=UTC),
        revision=row[13],
        is_voided=row[14] == "voided",
    )


def _condition(one: EventFilter, name: str, parameters: Parameters) -> str:
    at = f"filter[{one.field}][{one.operator}]"
    if one.field in _TIMES:
        [moment] = one.values
        if one.operator not in _TIME_OPERATORS or not isinstance(moment, datetime):
            raise _unsupported(at, _TIME_OPERATORS)
        parameters[name] = microseconds(moment)
        return f"{one.field} {_COMPARISONS[one.operator]} {_instant(one.field, name)}"
    values = [value for value in one.values if isinstance(value, str)]
    if one.field not in _TEXTS or one.operator not in _TEXT_OPERATORS or not values:
        raise _unsupported(at, _TEXT_OPERATORS)
    if one.operator == "exists":
        return f"{one.field} {'!=' if values[0] == 'true' else '='} ''"
    if one.operator == "oeq":
        parameters[name] = values
        return f"{one.field} IN {{{name}:Array(String)}}"
    if one.operator in ("contains", "ocontains"):
        parameters[name] = values
        found = f"part -> positionCaseInsensitiveUTF8({one.field}, part) > 0"
        return f"arrayExists({found}, {{{name}:Array(String)}})"
    parameters[name] = values[0]
    return f"{one.field} {_COMPARISONS[one.operator]} {{{name}:String}}"


def _instant(field: str, name: str) -> str:
    """A parameter in microseconds, of the column's own precision or finer."""
    return f"fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')"


def _unsupported(at: str, choices: Sequence[str]) -> InvalidInput:
    reason = f"is not supported; there are {', '.join(choices)}"
    parameter = InvalidParameter(at, "enum", reason, "query", {"choices": list(choices)})
    return InvalidInput(f"{at} {reason}", [parameter])


def _cursor(moment_us: int, tie: str, sort: EventSort) -> str:
    order = f"{sort.by}{'-' if sort.descending else '+'}"
    return base64.urlsafe_b64encode(f"{order}:{moment_us}:{tie}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str, sort: EventSort) -> tuple[int, str]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        order, moment, tie = base64.b64decode(padded, b"-_", validate=True).decode().split(":")
        place = int(moment), tie
    except (binascii.Error, ValueError) as err:
        raise _bad_cursor("is not a cursor that was given out") from err
    if order != f"{sort.by}{'-' if sort.descending else '+'}" or abs(place[0]) > 2**62:
        raise _bad_cursor("is a cursor of another order")
    return place


def _bad_cursor(reason: str) -> InvalidInput:
    parameter = InvalidParameter("page[after]", "invalid", reason, "query")
    return InvalidInput(f"page[after] {reason}", [parameter])
