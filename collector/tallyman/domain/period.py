"""Windows of time by the calendar of a time zone, daylight saving included.

It does not know which events fall into them: `store/meter_sql.py` groups those.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from tallyman.errors import InvalidInput, InvalidParameter

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class Period:
    """The half-open time [from_, to), both aware and in UTC."""

    from_: datetime
    to: datetime


def time_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name such as Europe/Berlin.

    Raises:
        InvalidInput: there is no such zone.
    """
    if name not in zone_names():
        reason = "must be an IANA time zone such as UTC or Europe/Berlin"
        raise InvalidInput(
            f"time_zone {reason}", [InvalidParameter("time_zone", "invalid", reason)]
        )
    return ZoneInfo(name)


@cache
def zone_names() -> frozenset[str]:
    """Every zone there is. Not the machine's files that are none, such as right/UTC with its leap
    seconds, and not `localtime`, which is another zone on another machine."""
    return frozenset(available_timezones() - {"localtime"})


def in_utc(moment: datetime) -> datetime:
    """The aware time; one without a zone, as databases give it, is in UTC already."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def microseconds(moment: datetime) -> int:
    """Since 1970, exact."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def milliseconds(moment: datetime) -> int:
    """Since 1970, whole ones."""
    return microseconds(moment) // 1000


def minute_of(start: datetime) -> Period:
    """The minute that begins at `start`."""
    return Period(start, start + MINUTE)


def hour_of(start: datetime, zone: tzinfo) -> Period:
    """The hour of the clock on the wall that holds the instant `start`.

    It is the stretch of time in which neither that hour nor the zone's offset changes: 60 minutes,
    and less where the clock is moved within it. The hour that is repeated in autumn is two hours.
    """
    offset = _offset(start, zone)
    local = start + offset
    begin = local.replace(minute=0, second=0, microsecond=0) - offset
    return Period(_last_change(begin, start, zone), _first_change(start, begin + HOUR, zone))


def day_of(day: date, zone: tzinfo) -> Period:
    """The day of the calendar: 23, 24 or 25 hours, from the first instant of its date."""
    return Period(first_instant(day, zone), first_instant(day + timedelta(days=1), zone))


def month_of(day: date, zone: tzinfo) -> Period:
    """The month of the calendar that holds `day`."""
    first = day.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return Period(first_instant(first, zone), first_instant(following, zone))


def first_instant(day: date, zone: tzinfo) -> datetime:
    """When a date begins: midnight, or where the clock skips it, the moment after."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    instant = midnight.astimezone(UTC)
    if (instant + _offset(instant, zone)).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return instant
    return _first_change(instant - timedelta(days=1, hours=2), instant + timedelta(days=1), zone)


def _offset(instant: datetime, zone: tzinfo) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta()


def _first_change(start: datetime, end: datetime, zone: tzinfo) -> datetime:
    """The first instant of another offset than at `start`, up to `end`; `end` if there is none."""
    offset = _offset(start, zone)
    if _offset(end - _SECOND, zone) == offset:
        return end
    low, high = start, end - _SECOND
    while high - low > _SECOND:
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        if _offset(middle, zone) == offset:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


def _last_change(start: datetime, end: datetime, zone: tzinfo) -> datetime:
    """From `start`, or from when the offset of `end` began if that is later."""
    offset = _offset(end, zone)
    return start if _offset(start, zone) == offset else _first_change(start, end + _SECOND, zone)
