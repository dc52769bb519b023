"""Durations and the periods they make, by the calendar."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman.domain.duration import Cadence, Duration, parse_duration
from tallyman.domain.period import Period
from tallyman.domain.service_period import holds
from tallyman.errors import InvalidInput


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        pytest.param("P1Y", Duration(12), id="a year is twelve months"),
        pytest.param("P1M", Duration(1), id="a month"),
        pytest.param("P2W", Duration(0, timedelta(days=14)), id="weeks are days"),
        pytest.param("PT1H", Duration(0, timedelta(hours=1)), id="an hour"),
        pytest.param("PT1M", Duration(0, timedelta(minutes=1)), id="after T, M is minutes"),
        pytest.param("P0D", Duration(), id="nothing"),
        pytest.param(
            "P1Y2M3DT4H5M6S",
            Duration(14, timedelta(days=3, hours=4, minutes=5, seconds=6)),
            id="all of it",
        ),
    ],
)
def test_durations_are_read_and_written(text: str, duration: Duration) -> None:
    assert parse_duration(text) == duration
    assert str(duration) == text


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1", "1M", "-P1M", "P0.5M", "P1MT", "p1m", "P1M "]
)
def test_what_is_no_duration_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_duration(text, "billing_cadence")

    assert [p.field for p in caught.value.parameters] == ["billing_cadence"]


@pytest.mark.parametrize(
    ("anchor", "step", "starts"),
    [
        pytest.param(
            "2026-01-31",
            "P1M",
            ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"],
            id="a month's end does not drift",
        ),
        pytest.param(
            "2027-12-31",
            "P1M",
            ["2027-12-31", "2028-01-31", "2028-02-29", "2028-03-31"],
            id="February of a leap year has 29 days",
        ),
        pytest.param(
            "2024-02-29",
            "P1Y",
            ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"],
            id="a leap day comes back",
        ),
        pytest.param("2026-10-24", "P1D", ["2026-10-24", "2026-10-25", "2026-10-26"], id="days"),
        pytest.param(
            "2026-11-30", "P3M", ["2026-11-30", "2027-02-28", "2027-05-30"], id="quarters"
        ),
    ],
)
def test_periods_follow_the_calendar(anchor: str, step: str, starts: list[str]) -> None:
    cadence = Cadence(day(anchor), parse_duration(step))

    periods = [cadence.period(number) for number in range(len(starts) - 1)]

    assert periods == [Period(day(a), day(b)) for a, b in itertools.pairwise(starts)]


STEPS = st.builds(
    Duration,
    st.integers(0, 30),
    st.builds(timedelta, days=st.integers(0, 40), hours=st.integers(0, 23)),
).filter(lambda step: not step.is_zero)
MOMENTS = st.timedeltas(timedelta(), timedelta(days=80 * 365)).map(day("2000-01-01").__add__)


@given(MOMENTS, STEPS, st.integers(-300, 300))
def test_periods_leave_no_gap_and_do_not_overlap(
    anchor: datetime, step: Duration, number: int
) -> None:
    cadence = Cadence(anchor, step)

    first, second = cadence.period(number), cadence.period(number + 1)

    assert first.from_ < first.to == second.from_


@given(MOMENTS, STEPS, MOMENTS)
def test_every_moment_is_in_the_period_that_is_found(
    anchor: datetime, step: Duration, moment: datetime
) -> None:
    assert holds(Cadence(anchor, step).period_at(moment), moment)


@pytest.mark.parametrize(
    ("short", "long", "fits"),
    [
        pytest.param("P1M", "P1Y", True, id="twelve months are a year"),
        pytest.param("P1W", "P2W", True, id="two weeks"),
        pytest.param("P1D", "P1M", False, id="a month is no number of days"),
        pytest.param("P2M", "P3M", False, id="three is not twice one and a half"),
        pytest.param("P0D", "P1M", False, id="nothing never adds up"),
    ],
)
def test_what_fits_into_what(short: str, long: str, fits: bool) -> None:
    assert parse_duration(short).fits(parse_duration(long)) is fits
