"""An event on its way into the store: whose it is, when it came, and what became of its batch.

It does not store: see `intake.py`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from tallyman.domain.event import CloudEvent, as_utc

_NULL: Final = msgspec.Raw(b"null")
_NOTHING: Final = msgspec.Raw()


class Received(msgspec.Struct, frozen=True, gc=False):
    """A checked event with whose it is and when it came.

    An event without a time counts at `ingested_at`, which must be the same when it is delivered
    again by a stream: a Kafka record's own timestamp, say. `door` and `place` say which of a stream's
    messages it was; without a door the store numbers it by itself. `line` is the JSON that the event
    was read from, where it may be stored as it came: see `event_row.py`.
    """

    namespace: str
    event: CloudEvent
    ingested_at: datetime
    door: str = ""
    place: int = 0
    line: bytes = b""

    @property
    def time(self) -> datetime:
        return as_utc(self.event.time or self.ingested_at)

    @property
    def data(self) -> bytes:
        """The event's data as it came; nothing for null."""
        return bytes(self.raw_data)

    @property
    def raw_data(self) -> msgspec.Raw:
        """The same, without a copy."""
        return _NOTHING if self.event.data == _NULL else self.event.data

    @property
    def time_is_derived(self) -> bool:
        """The plugin takes an event's time from the log entry: sent again, it is the same."""
        event = self.event
        return event.nodeid is not None and event.sequence is not None and event.time is not None


@dataclass(frozen=True)
class EventConflict:
    """An event whose (source, id) is known with another content: the first stays, this one is not kept.

    `differs` names what is not equal, of time, subject, type, dataschema and data; `position` is
    where it stood in the batch.
    """

    namespace: str
    source: str
    id: str
    differs: tuple[str, ...]
    position: int = 0


@dataclass(frozen=True)
class Accepted:
    """What became of a batch: new + known + len(conflicts) is its length.

    `known_at` is where the known ones stood in it: several callers' batches are stored as one.
    """

    new: int
    known: int
    conflicts: tuple[EventConflict, ...] = ()
    known_at: tuple[int, ...] = ()
