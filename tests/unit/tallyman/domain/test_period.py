"""Windows by the calendar of a zone, where clocks are moved too."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman.domain.period import (
    Period,
    day_of,
    first_instant,
    hour_of,
    minute_of,
    month_of,
    time_zone,
)
from tallyman.errors import InvalidInput

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/St_Johns",
    "America/Havana",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Africa/Cairo",
)
INSTANTS = st.integers(0, 5_900_000_000).map(
    lambda seconds: datetime(2012, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=7)
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "zone", "from_", "to"),
    [
        pytest.param("2026-11-21", "UTC", "2026-11-21T00:00", "2026-11-22T00:00", id="a plain day"),
        pytest.param(
            "2026-03-29", "Europe/Berlin", "2026-03-28T23:00", "2026-03-29T22:00", id="23 hours"
        ),
        pytest.param(
            "2026-10-25", "Europe/Berlin", "2026-10-24T22:00", "2026-10-25T23:00", id="25 hours"
        ),
        pytest.param(
            "2026-03-08", "America/Havana", "2026-03-08T05:00", "2026-03-09T04:00", id="no midnight"
        ),
        pytest.param(
            "2026-11-01",
            "America/Havana",
            "2026-11-01T04:00",
            "2026-11-02T05:00",
            id="two midnights",
        ),
        pytest.param(
            "2026-04-05",
            "Australia/Lord_Howe",
            "2026-04-04T13:00",
            "2026-04-05T13:30",
            id="24½ hours",
        ),
        pytest.param(
            "2011-12-30",
            "Pacific/Apia",
            "2011-12-30T10:00",
            "2011-12-30T10:00",
            id="a day that was not",
        ),
    ],
)
def test_a_day_is_as_long_as_it_was(day: str, zone: str, from_: str, to: str) -> None:
    assert day_of(date.fromisoformat(day), ZoneInfo(zone)) == Period(utc(from_), utc(to))


@pytest.mark.parametrize(
    ("at", "zone", "from_", "to"),
    [
        pytest.param(
            "2026-11-21T09:24:33.353",
            "UTC",
            "2026-11-21T09:00",
            "2026-11-21T10:00",
            id="a plain hour",
        ),
        pytest.param(
            "2026-11-21T09:24",
            "Asia/Kathmandu",
            "2026-11-21T09:15",
            "2026-11-21T10:15",
            id="by quarters",
        ),
        pytest.param(
            "2026-10-25T00:30",
            "Europe/Berlin",
            "2026-10-25T00:00",
            "2026-10-25T01:00",
            id="02:30 first",
        ),
        pytest.param(
            "2026-10-25T01:30",
            "Europe/Berlin",
            "2026-10-25T01:00",
            "2026-10-25T02:00",
            id="02:30 again",
        ),
        pytest.param(
            "2026-04-04T14:50",
            "Australia/Lord_Howe",
            "2026-04-04T14:00",
            "2026-04-04T15:00",
            id="before",
        ),
        pytest.param(
            "2026-04-04T15:10",
            "Australia/Lord_Howe",
            "2026-04-04T15:00",
            "2026-04-04T15:30",
            id="half",
        ),
        pytest.param(
            "2026-10-03T15:45",
            "Australia/Lord_Howe",
            "2026-10-03T15:30",
            "2026-10-03T16:00",
            id="rest",
        ),
    ],
)
def test_an_hour_is_one_of_the_clock_on_the_wall(at: str, zone: str, from_: str, to: str) -> None:
    assert hour_of(utc(at), ZoneInfo(zone)) == Period(utc(from_), utc(to))


def test_a_month_ends_with_the_first_instant_of_the_next() -> None:
    berlin = ZoneInfo("Europe/Berlin")

    assert month_of(date(2026, 3, 17), berlin) == Period(
        utc("2026-02-28T23:00"), utc("2026-03-31T22:00")
    )
    assert month_of(date(2026, 12, 31), UTC) == Period(utc("2026-12-01"), utc("2027-01-01"))


def test_a_minute_is_sixty_seconds() -> None:
    assert minute_of(utc("2026-11-21T09:24")) == Period(
        utc("2026-11-21T09:24"), utc("2026-11-21T09:25")
    )


@given(INSTANTS, st.sampled_from(ZONES))
def test_every_instant_is_in_its_own_hour_day_and_month(instant: datetime, name: str) -> None:
    zone = ZoneInfo(name)
    local = instant.astimezone(zone).date()

    for period in (hour_of(instant, zone), day_of(local, zone), month_of(local, zone)):
        assert period.from_ <= instant < period.to


@given(INSTANTS, st.sampled_from(ZONES))
def test_windows_follow_each_other_without_gap_or_overlap(instant: datetime, name: str) -> None:
    zone = ZoneInfo(name)
    local = instant.astimezone(zone).date()
    hour, day = hour_of(instant, zone), day_of(local, zone)

    assert hour_of(hour.to, zone).from_ == hour.to
    assert hour_of(hour.from_, zone) == hour
    assert day_of(local + timedelta(days=1), zone).from_ == day.to
    assert first_instant(local, zone) == day.from_


@pytest.mark.parametrize(
    "name",
    [
        *("Europe/Nowhere", "", "../etc/passwd", "/etc/localtime", "a\0b"),
        *("right/UTC", "posix/UTC", "posixrules", "localtime"),  # files of many machines, no zones
    ],
)
def test_a_zone_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        time_zone(name)

    assert caught.value.parameters[0].field == "time_zone"


def test_zones_are_found() -> None:
    find: Callable[[str], ZoneInfo] = time_zone

    assert [find(name).key for name in ZONES] == list(ZONES)
