"""The model check: thousands of random histories of faults, each of which must count exactly."""

import logging

import pytest

from tests.faults.conftest import IS_LONG
from tests.faults.model import Bug, live

HISTORIES = 10_000 if IS_LONG else 400
UNTIL_FOUND = 2000


@pytest.fixture(autouse=True)
def _quietly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "tallyman.stream.consumer")


async def test_whatever_the_history_of_faults_each_call_counts_once(seed: int) -> None:
    for number in range(HISTORIES):
        wrong = await live(seed + number)
        assert wrong is None, f"history {seed + number}: {wrong}"


@pytest.mark.parametrize("bug", [bug for bug in Bug if bug is not Bug.NONE])
async def test_a_bug_that_is_put_in_is_found(seed: int, bug: Bug) -> None:
    for number in range(UNTIL_FOUND):
        if await live(seed + number, bug) is not None:
            return
    pytest.fail(f"{bug} was not found in {UNTIL_FOUND} histories")
