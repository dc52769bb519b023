"""What several consumers did, out of when each had done how much."""

import pytest

from bench.consumers import together


def test_only_the_time_counts_in_which_all_are_at_work() -> None:
    first = [(10.0, 100), (20.0, 1100)]
    second = [(15.0, 100), (18.0, 700), (30.0, 800)]

    # from 15 to 20: half of the first one's 1000; of the second one 600, and 2 of 12 s of 100
    assert together([first, second]) == pytest.approx((500 + 600 + 100 / 6) / 5)


def test_one_alone_is_measured_from_its_first_batch_to_its_last() -> None:
    assert together([[(10.0, 100), (12.0, 300), (20.0, 1100)]]) == pytest.approx(100)
