"""How the consumer waits for a store that is away."""

from itertools import pairwise

from tallyman.stream.consumer import LONGEST_BACKOFF_SECONDS, backoff_seconds


def test_a_store_that_is_away_for_weeks_is_tried_again_every_half_minute() -> None:
    waits = [backoff_seconds(failures) for failures in range(1, 100_000)]

    assert all(before <= after for before, after in pairwise(waits))
    assert waits[-1] == LONGEST_BACKOFF_SECONDS == 30.0
    assert waits[0] < 1
