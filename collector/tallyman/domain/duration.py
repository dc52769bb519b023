"""Durations of ISO 8601 as steps through the calendar: P1M is a month, whatever its length.

It does not know what is billed when: see `subscription.py`.
"""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tallyman.domain.period import Period
from tallyman.errors import InvalidInput, InvalidParameter

_PATTERN: Final = re.compile(
    r"P(?=.)(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?"
    r"(?:T(?=.)(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9})S)?)?",
    re.ASCII,
)
_MEAN_MONTH: Final = timedelta(days=30.436875)
HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True)
class Duration:
    """Months of the calendar and then a fixed time; P1Y is 12 months, P1W 7 days."""

    months: int = 0
    time: timedelta = timedelta()

    def __add__(self, other: "Duration") -> "Duration":
        return Duration(self.months + other.months, self.time + other.time)

    def __mul__(self, times: int) -> "Duration":
        return Duration(self.months * times, self.time * times)

    def __str__(self) -> str:
        """As ISO 8601 has it, in the largest units that fit; a year of P12M is P1Y."""
        years, months = divmod(self.months, 12)
        seconds = self.time // timedelta(seconds=1)
        days, seconds = divmod(seconds, 86400)
        weeks, days = divmod(days, 7) if days % 7 == 0 and not seconds else (0, days)
        hours, seconds = divmod(seconds, 3600)
        minutes, seconds = divmod(seconds, 60)
        date = [(years, "Y"), (months, "M"), (weeks, "W"), (days, "D")]
        clock = [(hours, "H"), (minutes, "M"), (seconds, "S")]
        dates = "".join(f"{count}{unit}" for count, unit in date if count)
        clocks = "".join(f"{count}{unit}" for count, unit in clock if count)
        if not dates and not clocks:
            return "P0D"
        return f"P{dates}T{clocks}" if clocks else f"P{dates}"

    @property
    def is_zero(self) -> bool:
        """Whether it is no time at all."""
        return not self.months and not self.time

    @property
    def at_least_an_hour(self) -> bool:
        """The shortest cadence that anything is billed or reset by."""
        return bool(self.months) or self.time >= HOUR

    @property
    def mean(self) -> timedelta:
        """Its length on average; only good for comparing and guessing."""
        return self.months * _MEAN_MONTH + self.time

    def after(self, moment: datetime) -> datetime:
        """The moment that many months and that much time later; a day that is not there is the last.

        31 January + P1M is 28 or 29 February.
        """
        if not self.months:
            return moment + self.time
        year, month = divmod(moment.year * 12 + moment.month - 1 + self.months, 12)
        day = min(moment.day, monthrange(year, month + 1)[1])
        return moment.replace(year=year, month=month + 1, day=day) + self.time

    def fits(self, longer: "Duration") -> bool:
        """Whether so many of it make exactly the longer one, from any day of the calendar."""
        if self.is_zero or bool(self.months) != bool(longer.months):
            return False
        if not self.months:
            return not longer.time % self.time
        times, rest = divmod(longer.months, self.months)
        return not rest and self.time * times == longer.time


def parse_duration(text: str, at: str = "duration") -> Duration:
    """Read `P1M`, `P2W`, `PT1H` or `P1Y2M3DT4H5M6S`: whole numbers, no sign.

    Raises:
        InvalidInput: it is no such duration; names the field `at`.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        reason = "must be an ISO 8601 duration in whole units such as P1M, P2W or PT1H"
        raise InvalidInput(f"{at} {reason}", [InvalidParameter(at, "matches_regex", reason)])
    years, months, weeks, days, hours, minutes, seconds = (int(n or 0) for n in match.groups())
    time = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    return Duration(years * 12 + months, time)


@dataclass(frozen=True)
class Cadence:
    """Periods one after the other, without end in either direction.

    The nth begins n steps after the anchor and not one step after the one before, so that a month's
    end does not drift: from 31 January, 28 February and 31 March.
    """

    anchor: datetime
    step: Duration

    def __post_init__(self) -> None:
        if self.step.is_zero:
            raise ValueError("a cadence needs a step")

    def period(self, number: int) -> Period:
        """The period that begins so many steps after the anchor; before it, if negative."""
        return Period(self._start(number), self._start(number + 1))

    def number_at(self, moment: datetime) -> int:
        """The number of the period that holds the moment."""
        number = (moment - self.anchor) // self.step.mean
        while self._start(number) > moment:
            number -= 1
        while self._start(number + 1) <= moment:
            number += 1
        return number

    def period_at(self, moment: datetime) -> Period:
        """The period that holds the moment."""
        return self.period(self.number_at(moment))

    def _start(self, number: int) -> datetime:
        return (self.step * number).after(self.anchor)
