"""What can be asked of the stored events: filters, an order, a page; and what comes back.

It does not know SQL: see `store/event_sql.py`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tallyman.domain.customer import SubjectSpan
from tallyman.domain.event import CloudEvent


class EventOrder(StrEnum):
    """The times that events can be listed by."""

    TIME = "time"
    INGESTED_AT = "ingested_at"
    STORED_AT = "stored_at"


@dataclass(frozen=True)
class EventFilter:
    """One operator on one field of an event; several filters must all hold.

    `field` is id, source, subject or type with the operators eq, neq, contains, ocontains, oeq, gt,
    gte, lt, lte, exists, whose values are strings (`exists`: "true" or "false"; `oeq` and
    `ocontains`: one value or more, any of them); or time, ingested_at or stored_at with eq, gt,
    gte, lt, lte, whose value is an aware datetime.
    """

    field: str
    operator: str
    values: tuple[str | datetime, ...]


@dataclass(frozen=True)
class SpanFilter:
    """Events whose subject and time are in one of the spans, or, `within` being false, in none."""

    spans: tuple[SubjectSpan, ...]
    within: bool = True


@dataclass(frozen=True)
class EventSort:
    """Newest first by the event's own time, unless asked otherwise."""

    by: EventOrder = EventOrder.TIME
    descending: bool = True


@dataclass(frozen=True)
class StoredEvent:
    """An event as it is now: as it was accepted, or as it was amended since, and when.

    `revision` counts its changes. A voided one is as it was when it was voided, and counts for nothing.
    """

    event: CloudEvent
    ingested_at: datetime
    stored_at: datetime
    revision: int = 0
    is_voided: bool = False


@dataclass(frozen=True)
class EventPage:
    """One page. `next` is the cursor of the page that follows, and set only when this one is full.

    `first` and `last` are the cursors of its first and last event, None when it is empty.
    """

    events: tuple[StoredEvent, ...]
    next: str | None
    first: str | None
    last: str | None
