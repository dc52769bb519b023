"""A change of an event that is stored: voided, or amended, by whom and why.

It does not change anything: see `store/event_changes.py`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from tallyman.domain.event import CloudEvent

MOVED: Final = "moved"  # what is left where an event was, if it was amended to another subject


class ChangeKind(StrEnum):
    """What was done."""

    VOIDED = "voided"
    AMENDED = "amended"


@dataclass(frozen=True)
class Amendment:
    """What an event says instead; None stays as it is. Its id, type and time cannot change."""

    subject: str | None = None
    dataschema: str | None = None
    data: msgspec.Raw | None = None

    def of(self, event: CloudEvent) -> CloudEvent:
        """The event with this."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return msgspec.structs.replace(event, **given)


@dataclass(frozen=True)
class EventChange:
    """One change; nothing of what was before it is lost. `after` is None for one that voids.

    `revision` counts the changes of the event from 1; `ingested_at` is the event's.
    """

    id: str
    namespace: str
    revision: int
    kind: ChangeKind
    actor: str
    reason: str
    created_at: datetime
    ingested_at: datetime
    before: CloudEvent
    after: CloudEvent | None

    def rows(self) -> list[tuple[CloudEvent, str]]:
        """What is stored, with what each row is: also where the event was before, so that whoever
        counted it there sees the change."""
        if self.after is None:
            return [(self.before, ChangeKind.VOIDED.value)]
        now = (self.after, ChangeKind.AMENDED.value)
        return [now] if self.after.subject == self.before.subject else [(self.before, MOVED), now]


def same_content(one: CloudEvent, other: CloudEvent) -> bool:
    """Whether they say the same, to the byte."""
    return (one.subject, one.dataschema, bytes(one.data)) == (
        other.subject,
        other.dataschema,
        bytes(other.data),
    )
