"""Owns a batch on its way from Kafka into the store: what of it is an event, and which steps are done.

It does not do the steps: see `consumer.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tallyman.errors import InvalidEvent
from tallyman.store.events import Received
from tallyman.stream.batch import Batch
from tallyman.stream.dead_letters import Rejected
from tallyman.stream.message import Record, decode


@dataclass(eq=False)
class Work:
    """A batch that is checked; what is done is not done again by the next attempt."""

    batch: Batch
    events: Sequence[tuple[Record, Received]]
    rejected: list[Rejected]
    ids: frozenset[str] = field(init=False)
    stored: bool = False
    buried: bool = False
    committed: bool = False
    step: str = "store"

    def __post_init__(self) -> None:
        self.ids = frozenset([received.event.id for _, received in self.events])

    @classmethod
    def check(cls, batch: Batch, default_namespace: str) -> "Work":
        """Tell a batch's events from what is none."""
        events: list[tuple[Record, Received]] = []
        rejected: list[Rejected] = []
        for record in batch.records:
            try:
                events.append((record, decode(record, default_namespace)))
            except InvalidEvent as err:
                rejected.append(Rejected(record, err))
            except Exception as err:  # noqa: BLE001 – else it would stop all that stands behind it
                unreadable = InvalidEvent(f"the check itself failed: {type(err).__name__}")
                rejected.append(Rejected(record, unreadable))
        return cls(batch, events, rejected)
