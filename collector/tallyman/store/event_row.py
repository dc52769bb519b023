"""An event as a row of `incoming`, in JSON.

Most events come as JSON that ClickHouse reads just as we did: they are stored as they came, with what
we know of them put behind. It does not insert: see `intake.py`.
"""

import re
from datetime import datetime
from functools import lru_cache
from typing import Final

import msgspec

from tallyman.domain.event import BareEvent, CloudEvent, as_utc
from tallyman.store.arrivals import Arrival
from tallyman.store.received import Received

# As the plugin's spool has one, up to its data: no escapes, so that each name stands there as it is, and a
# time that leaves nothing to round.
_FROM_THE_PLUGIN: Final = re.compile(
    rb'\{(?:"nodeid":"[^"\\]*","sequence":"[0-9]*",)?"specversion":"1\.0","id":"[^"\\]*","source":"[^"\\]*","type":"[^"\\]*","subject":"[^"\\]*",'
    rb'"time":"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z",'
    rb'(?:"datacontenttype":"application/json",)?"data":\{'
)


class _EventRow(msgspec.Struct):
    namespace: str
    type: str
    subject: str
    time: datetime
    source: str
    id: str
    dataschema: str
    data: msgspec.Raw
    nodeid: str
    sequence: str
    ingested_at: datetime


class _Row(_EventRow):
    door: str
    place: int


class _ChangeRow(_EventRow):
    revision: int
    change: str


def as_it_came(event: CloudEvent, body: bytes) -> bytes:
    """The JSON that the event was read from, if ClickHouse reads the same in it; else nothing.

    It has no attribute but those that were checked. One that has an attribute twice is refused by
    ClickHouse.
    """
    if type(event) is BareEvent and body.endswith(b"}") and _FROM_THE_PLUGIN.match(body):
        return body
    return b""


def row(received: Received, arrival: Arrival) -> bytes:
    """A row of `incoming`."""
    if received.line:
        known = _known(received.namespace, received.ingested_at, arrival.door)
        return b"%b,%b%d}" % (received.line[:-1], known, arrival.place)
    return msgspec.json.encode(_Row(*_values(received), arrival.door, arrival.place))


def row_of_change(received: Received, revision: int, change: str) -> bytes:
    """A row of `incoming_changes`."""
    return msgspec.json.encode(_ChangeRow(*_values(received), revision, change))


# What is read from Kafka together has the same few of them.
@lru_cache(maxsize=1 << 10)
def _known(namespace: str, ingested_at: datetime, door: str) -> bytes:
    """What we put behind an event, up to its place."""
    values = {"namespace": namespace, "ingested_at": as_utc(ingested_at), "door": door}
    return msgspec.json.encode(values)[1:-1] + b',"place":'


def _values(
    received: Received,
) -> tuple[str, str, str, datetime, str, str, str, msgspec.Raw, str, str, datetime]:
    """The fields of `_EventRow`, in its order."""
    event = received.event
    return (
        received.namespace,
        event.type,
        event.subject,
        received.time,
        event.source,
        event.id,
        event.dataschema or "",
        msgspec.Raw(received.data or b'""'),
        event.nodeid or "",
        event.sequence or "",
        as_utc(received.ingested_at),
    )
