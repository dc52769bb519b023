"""A phase of a plan: its rate cards, and how long they are in force.

It does not know dates: a subscription gives it its beginning.
"""

from dataclasses import dataclass, field

from tallyman.domain.duration import Duration
from tallyman.domain.rate_card import RateCard


@dataclass(frozen=True)
class PlanPhase:
    """Only the last phase has no duration: it lasts as long as the subscription."""

    key: str
    name: str
    rate_cards: tuple[RateCard, ...]
    duration: Duration | None = None
    description: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
