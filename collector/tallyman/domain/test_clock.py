"""A test clock: what time it is in a sandbox namespace.

Who moves it, and what happens on the way, is billing's.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True)
class TestClock:
    """A clock that stands still until it is moved forward; `advancing_to` while it is."""

    __test__ = False  # pytest takes it for tests

    id: str
    namespace: str
    name: str | None
    frozen_time: datetime
    advancing_to: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def status(self) -> Literal["ready", "advancing"]:
        """As Stripe has it."""
        return "ready" if self.advancing_to is None else "advancing"
