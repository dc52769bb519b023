"""Renders the listing of the events behind a quantity as (sql, parameters), and reads the rows. Pure.

What is listed is what `usage_sql.py` counts, by the same conditions. Given what was counted before,
the listing is the difference: what is new, and what is taken back.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any, Final

from tallyman.domain.counted_event import Count, CountedEvent, CountedPage, HourCounted
from tallyman.domain.meter import Aggregation
from tallyman.domain.money import written
from tallyman.domain.period import EPOCH, Period, microseconds, milliseconds
from tallyman.errors import InvalidInput, InvalidParameter
from tallyman.store.meter_sql import Parameters, filter_condition, number_of, text_of
from tallyman.store.revision_sql import counting, of_type_between
from tallyman.store.slot_sql import IN_SLOT, slot_table, subject_table
from tallyman.store.usage_sql import ADDITIVE, conditions_of

_HOUR_US: Final = 3_600_000_000
_MICROSECOND: Final = timedelta(microseconds=1)
_NUMBER: Final = "Nullable(Decimal(76, 18))"
_SHOWN: Final = (
    "time, subject, source, id, stored_at, token_type, model, provider, usage_source, "
    "waived_tokens, revision, value, written"
)
# Two events of one time are in the order of this, which is theirs alone.
_TIE: Final = "lower(hex(sipHash128(source, '\\0', id)))"


def render_hours(count: Count, before: Count | None) -> tuple[str, Parameters]:
    """What was counted, by the hour and by how the numbers were obtained."""
    listed, parameters = _listed(count, before)
    return (
        f"SELECT intDiv(toUnixTimestamp64Micro(time), {_HOUR_US}) AS hour, usage_source, "  # noqa: S608 – as `_side`
        f"sum(value * sign), sum(sign) FROM ({listed}) GROUP BY hour, usage_source "
        "ORDER BY hour, usage_source",
        parameters,
    )


def read_hours(count: Count, rows: Sequence[Any]) -> list[HourCounted]:
    """The rows of `render_hours`'s query."""
    additive = count.metered.meter.aggregation in ADDITIVE
    return [
        HourCounted(
            Period(EPOCH + timedelta(hours=hour), EPOCH + timedelta(hours=hour + 1)),
            usage_source,
            Decimal(value or 0) if additive else None,
            events,
        )
        for hour, usage_source, value, events in rows
    ]


def render_page(
    count: Count, before: Count | None, size: int, after: str | None
) -> tuple[str, Parameters]:
    """The events one by one, the oldest first.

    Raises:
        InvalidInput: the cursor is none.
    """
    listed, parameters = _listed(count, before)
    parameters["size"] = size
    moment = "toUnixTimestamp64Micro(time)"
    where = ""
    if after is not None:
        at, tie, sign = _read_cursor(after)
        parameters |= {"at": at, "tie": tie, "sign": sign}
        where = f"WHERE ({moment}, {_TIE}, sign) > ({{at:Int64}}, {{tie:String}}, {{sign:Int64}}) "
    return (
        f"SELECT sign, {moment}, {_TIE} AS tie, {_SHOWN} FROM ({listed}) {where}"  # noqa: S608 – as `_side`
        "ORDER BY time, tie, sign LIMIT {size:UInt32}",
        parameters,
    )


def read_page(count: Count, rows: Sequence[Any], size: int) -> CountedPage:
    """The rows of `render_page`'s query."""
    additive = count.metered.meter.aggregation in ADDITIVE
    events = tuple(_event(row, additive=additive) for row in rows)
    if not rows or len(rows) < size:
        return CountedPage(events, None)
    sign, moment_us, tie = rows[-1][:3]
    return CountedPage(events, _cursor(moment_us, tie, sign))


def _event(row: Any, *, additive: bool) -> CountedEvent:
    sign, moment_us, _, _, subject, source, id_, stored_at, type_, model, provider = row[:11]
    usage_source, waived, revision, value, text = row[11:]
    return CountedEvent(
        id=id_,
        source=source,
        subject=subject,
        time=EPOCH + moment_us * _MICROSECOND,
        stored_at=stored_at.replace(tzinfo=UTC),
        quantity=_signed(value, sign) if additive else None,
        value=text if value is None else written(value),
        token_type=type_,
        model=model,
        provider=provider,
        usage_source=usage_source,
        waived_tokens=waived,
        revision=revision,
        is_taken_back=sign < 0,
    )


def _signed(value: Decimal, sign: int) -> Decimal:
    """With the sign, and every digit: arithmetic would round to the context."""
    return value if sign > 0 else value.copy_negate()


def _listed(count: Count, before: Count | None) -> tuple[str, Parameters]:
    """The events with a `sign`: 1 what counts, -1 what counted before and counts no more."""
    parameters: Parameters = {}
    now = _side(count, "1", 0, parameters)
    if before is None:
        return now, parameters
    both = f"{now} UNION ALL {_side(before, '-1', 1, parameters)}"
    return (
        f"SELECT sum(each.sign) AS sign, {_SHOWN} FROM ({both}) AS each GROUP BY {_SHOWN} "  # noqa: S608 – as `_side`
        "HAVING sign != 0",
        parameters,
    )


def _side(count: Count, sign: str, at: int, parameters: Parameters) -> str:
    """What was counted at one watermark, each event once."""
    meter = count.metered.meter
    periods = [period for _, period in count.parts]
    begins = min((period.from_ for period in periods), default=EPOCH)
    if meter.events_from is not None:
        begins = max(begins, meter.events_from)
    parameters |= {
        "namespace": meter.namespace,
        f"type{at}": meter.event_type,
        f"from{at}": microseconds(begins),
        f"to{at}": microseconds(max((period.to for period in periods), default=EPOCH)),
        f"watermark{at}": milliseconds(count.watermark),
    }
    filters = [
        filter_condition(one, text, parameters) for text, one in conditions_of(count.metered)
    ]
    value, text, counts = _value(count)
    watermark = f"fromUnixTimestamp64Milli({{watermark{at}:Int64}}, 'UTC')"
    where = [
        "namespace = {namespace:String}",
        *of_type_between(at),
        f"stored_at <= {watermark}",
        counting(watermark),
        f"events.subject IN {subject_table([count.parts])}",
        IN_SLOT,
        *filters,
        *counts,
    ]
    shown = _SHOWN.replace("subject", "events.subject AS subject")
    shown = shown.replace("value, written", f"{value} AS value, {text} AS written")
    return (
        f"SELECT toInt64({sign}) AS sign, {shown} FROM events FINAL "  # noqa: S608 – texts are quoted, values are parameters
        f"INNER JOIN {slot_table([count.parts])} AS s ON events.subject = s.subject "
        f"WHERE {' AND '.join(where)}"
    )


def _value(count: Count) -> tuple[str, str, list[str]]:
    """The value of an event, its text where it is no number, and what there must be to count."""
    meter = count.metered.meter
    if meter.aggregation is Aggregation.COUNT:
        return f"CAST(1 AS {_NUMBER})", "''", []
    if meter.aggregation is Aggregation.UNIQUE_COUNT:
        text = text_of(meter)
        return f"CAST(NULL AS {_NUMBER})", text, [f"{text} != ''"]
    number = number_of(meter)
    return f"CAST({number} AS {_NUMBER})", "''", [f"{number} IS NOT NULL"]


def _cursor(moment_us: int, tie: str, sign: int) -> str:
    return base64.urlsafe_b64encode(f"{moment_us}:{tie}:{sign}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[int, str, int]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        moment, tie, sign = base64.b64decode(padded, b"-_", validate=True).decode().split(":")
        place = int(moment), tie, int(sign)
        if abs(place[0]) > 2**62 or abs(place[2]) > 1 or "\0" in tie:
            raise ValueError(cursor)
    except (binascii.Error, ValueError) as err:
        reason = "is not a cursor that was given out"
        parameter = InvalidParameter("page[after]", "invalid", reason, "query")
        raise InvalidInput(f"page[after] {reason}", [parameter]) from err
    return place
