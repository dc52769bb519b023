"""The bodies of `/events` on the wire.

What comes in is `domain/event.py`'s CloudEvent; here is what goes out. The data is passed on as it
came, unparsed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec

from tallyman.api.wire import write_time
from tallyman.domain.attribution import Nobody, NotBilled
from tallyman.domain.event import CloudEvent
from tallyman.domain.event_change import EventChange
from tallyman.domain.event_query import EventPage, StoredEvent
from tallyman.domain.event_value import EventProblem

# At runtime it is the JSON as it came.
Data = Annotated[Any, msgspec.Meta(extra_json_schema={"type": ["object", "null"]})]
Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


class EventAnswer(msgspec.Struct, omit_defaults=True):
    """A CloudEvent as it was accepted; `time` is the server's where none was sent."""

    id: str
    source: str
    specversion: str
    type: str
    subject: str
    time: Moment
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: Data = msgspec.UNSET
    nodeid: str | None = None
    sequence: str | None = None


class EventValidationError(msgspec.Struct, omit_defaults=True):
    """Why a meter of the event's type does not count it."""

    code: str
    message: str
    attributes: dict[str, str] | None = None


class CustomerReference(msgspec.Struct):
    """A customer."""

    id: str


class Unattributed(msgspec.Struct):
    """Why an event is nobody's usage: `code` is anonymous, no_customer or released."""

    code: str
    message: str


class NotBilledAnswer(msgspec.Struct):
    """Why a customer's event is on no invoice: `code` is before_subscription or no_subscription."""

    code: str
    message: str


class EventChangeAnswer(msgspec.Struct, omit_defaults=True):
    """A change of an event: `change` is voided or amended; one that voids has no `after`."""

    id: str
    revision: int
    change: str
    actor: str
    reason: str
    at: Moment
    before: EventAnswer
    after: EventAnswer | None = None


class IngestedEvent(msgspec.Struct, omit_defaults=True):
    """An event as it is now, whose usage it is, and what keeps it from being counted.

    `customer` is null, and `unattributed` says why, until a customer has its subject. `not_billed`
    says why it is on no invoice of the customer's.
    """

    event: EventAnswer
    customer: CustomerReference | None
    ingested_at: Moment
    stored_at: Moment
    unattributed: Unattributed | None = None
    not_billed: NotBilledAnswer | None = None
    validation_errors: list[EventValidationError] = []
    voided: bool = False
    changes: list[EventChangeAnswer] = []


class CursorMetaPage(msgspec.Struct):
    """Cursors: `next` is null on the last page."""

    size: int
    next: str | None
    previous: str | None
    first: str | None
    last: str | None


class CursorMeta(msgspec.Struct):
    """What is said about a page."""

    page: CursorMetaPage


class EventPageAnswer(msgspec.Struct):
    """A page of events."""

    data: list[IngestedEvent]
    meta: CursorMeta


def page_of(
    page: EventPage,
    size: int,
    owners: Sequence[str | Nobody],
    unbilled: Sequence[NotBilled | None],
    errors: Sequence[Sequence[EventProblem]],
    changes: Mapping[tuple[str, str], Sequence[EventChange]],
) -> EventPageAnswer:
    """The page on the wire; `owners`, `unbilled` and `errors` are those of each of its events,
    `changes` those of each (source, id)."""
    return EventPageAnswer(
        data=[
            _ingested(
                stored, owner, why, found, changes.get((stored.event.source, stored.event.id), ())
            )
            for stored, owner, why, found in zip(page.events, owners, unbilled, errors, strict=True)
        ],
        meta=CursorMeta(
            CursorMetaPage(
                size=size, next=page.next, previous=None, first=page.first, last=page.last
            )
        ),
    )


def _ingested(
    stored: StoredEvent,
    owner: str | Nobody,
    why: NotBilled | None,
    errors: Sequence[EventProblem],
    changes: Sequence[EventChange],
) -> IngestedEvent:
    nobody = owner if isinstance(owner, Nobody) else None
    return IngestedEvent(
        event=_event(stored.event, stored.ingested_at),
        customer=CustomerReference(owner) if isinstance(owner, str) else None,
        unattributed=None if nobody is None else Unattributed(nobody.reason, nobody.message),
        not_billed=None if why is None else NotBilledAnswer(why.code, why.message),
        ingested_at=write_time(stored.ingested_at),
        stored_at=write_time(stored.stored_at),
        validation_errors=[
            EventValidationError(error.code, error.message, error.attributes) for error in errors
        ],
        voided=stored.is_voided,
        changes=[change_answer(one) for one in changes],
    )


def change_answer(made: EventChange) -> EventChangeAnswer:
    """The change on the wire."""
    return EventChangeAnswer(
        id=made.id,
        revision=made.revision,
        change=made.kind.value,
        actor=made.actor,
        reason=made.reason,
        at=write_time(made.created_at),
        before=_event(made.before, made.ingested_at),
        after=None if made.after is None else _event(made.after, made.ingested_at),
    )


def _event(event: CloudEvent, ingested_at: datetime) -> EventAnswer:
    return EventAnswer(
        id=event.id,
        source=event.source,
        specversion=event.specversion,
        type=event.type,
        subject=event.subject,
        time=write_time(event.time or ingested_at),
        datacontenttype="application/json" if bytes(event.data) else None,
        dataschema=event.dataschema,
        data=event.data if bytes(event.data) else msgspec.UNSET,
        nodeid=event.nodeid,
        sequence=event.sequence,
    )


def describable(event: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The same form with `data` as JSON Schema can say it: msgspec cannot describe raw JSON."""
    return msgspec.defstruct(
        event.__name__,
        [
            (field.name, field.type, field.default)
            if field.default is not msgspec.NODEFAULT
            else (field.name, field.type)
            for field in msgspec.structs.fields(event)
            if field.name != "data"
        ]
        + [("data", Data, msgspec.UNSET)],
        kw_only=True,
    )
