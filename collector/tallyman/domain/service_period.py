"""The time that a charge is for: cut to when it was in force, and its share of the whole.

It does not know calendars: see `duration.py`.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Final

from tallyman.domain.period import Period

_MICROSECOND: Final = timedelta(microseconds=1)


class EndProration(StrEnum):
    """What a flat price costs in the period that a subscription ends in."""

    BILL_FULL_PERIOD = "bill_full_period"
    BILL_ACTUAL_PERIOD = "bill_actual_period"


def holds(period: Period, moment: datetime) -> bool:
    """Whether the moment is within it; its end is not."""
    return period.from_ <= moment < period.to


def clip(period: Period, from_: datetime, to: datetime | None) -> Period | None:
    """The part of it within [from_, to), or None if there is none; `to` None is never."""
    begin = max(period.from_, from_)
    end = period.to if to is None else min(period.to, to)
    return Period(begin, end) if begin < end else None


def share_of(part: Period, whole: Period) -> Fraction:
    """How much of the whole the part is, exactly; all of an empty whole."""
    if whole.from_ == whole.to:
        return Fraction(1)
    return Fraction(
        (part.to - part.from_) // _MICROSECOND, (whole.to - whole.from_) // _MICROSECOND
    )


def whole_milliseconds(moment: datetime) -> datetime:
    """The moment as events' times are kept: cut to the millisecond."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
