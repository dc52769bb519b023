"""The time of a message, of which a producer may say anything."""

from datetime import UTC, datetime

import pytest
from tallyman.stream.dead_letters import DeadLetter
from tallyman.stream.message import nearest_moment
from tallyman.stream.reconcile import _hours

SINCE = datetime(2026, 11, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("timestamp_ms", "year"), [(-(10**17), 1970), (-1, 1970), (10**17, 2199), (2**63 - 1, 2199)]
)
def test_a_time_out_of_range_is_the_nearest_that_an_event_can_have(
    timestamp_ms: int, year: int
) -> None:
    dead = DeadLetter((0, 0), "usage/0/1", SINCE, "invalid", "", timestamp_ms, None, b"", ())

    assert nearest_moment(timestamp_ms).year == year
    assert sum(hour.dead for hour in _hours({}, [dead], [], SINCE)) == (year == 2199)
