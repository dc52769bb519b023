"""The bodies of the routes of test clocks, after Stripe's."""

from typing import Literal, Self

from tallyman.api.wire import Answer, Body, Name, Time, Ulid
from tallyman.domain.test_clock import TestClock


class CreateTestClockRequest(Body):
    """A clock for the namespace, and what time it shows."""

    name: Name | None = None
    frozen_time: Time


class AdvanceTestClockRequest(Body):
    """The time to go to; never back."""

    frozen_time: Time


class TestClockAnswer(Answer):
    """A test clock; `advancing` where somebody moves it, or was stopped while doing so."""

    __test__ = False  # pytest takes it for tests

    id: Ulid
    name: Name | None = None
    frozen_time: Time
    status: Literal["ready", "advancing"]
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, clock: TestClock) -> Self:
        """The clock on the wire."""
        return cls(
            id=clock.id,
            name=clock.name,
            frozen_time=clock.frozen_time,
            status=clock.status,
            created_at=clock.created_at,
            updated_at=clock.updated_at,
        )


class TestClockList(Answer):
    """The namespace's clock, if it has one."""

    __test__ = False

    data: list[TestClockAnswer]
