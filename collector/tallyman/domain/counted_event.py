"""The events behind a quantity, as they counted: how much each was, and how its number was obtained.

It does not count: `store/counted_events.py` does.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from tallyman.domain.counting import Metered
from tallyman.domain.period import Period


@dataclass(frozen=True)
class Count:
    """What was counted: these subjects' events, each in its time, that were stored by the watermark."""

    metered: Metered
    parts: tuple[tuple[str, Period], ...]
    watermark: datetime


@dataclass(frozen=True)
class CountedEvent:
    """An event as it counted. `quantity` is None where values do not add up; `value` is its text.

    With `is_taken_back` it had counted before and counts no more. `usage_source` says how its number
    was obtained: provider, estimated, none, or nothing where the event does not say.
    `revision` counts the changes that had been made of it.
    """

    id: str
    source: str
    subject: str
    time: datetime
    stored_at: datetime
    quantity: Decimal | None
    value: str
    token_type: str
    model: str
    provider: str
    usage_source: str
    waived_tokens: int
    revision: int = 0
    is_taken_back: bool = False

    @property
    def request_id(self) -> str | None:
        """Kong's id of the request, where the gateway counted it."""
        parts = self.id.rsplit(":", 2)
        return parts[0] if len(parts) == 3 and parts[2] == self.token_type else None


@dataclass(frozen=True)
class HourCounted:
    """What was counted in an hour (UTC) in one way; what was taken back is taken off."""

    period: Period
    usage_source: str
    quantity: Decimal | None
    events: int


@dataclass(frozen=True)
class CountedPage:
    """A page of events, the oldest first; `next` is set if it is full."""

    events: tuple[CountedEvent, ...]
    next: str | None
