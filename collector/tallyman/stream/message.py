"""Owns the form of an event in Kafka: its key, value and headers, both ways.

It does not own the event's own rules: those are `domain/event.py`'s.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

import msgspec

from tallyman.domain.event import EARLIEST, LATEST, CloudEvent, parse_event
from tallyman.errors import InvalidEvent, InvalidParameter
from tallyman.store.event_block import EventBlock
from tallyman.store.event_row import as_it_came
from tallyman.store.events import Received

NAMESPACE_HEADER: Final = "namespace"
INGESTED_AT_HEADER: Final = "ingested_at"
LONGEST_MESSAGE_BYTES: Final = 512 * 1024
LONGEST_NAMESPACE: Final = 256
_EARLIEST_MS: Final = EARLIEST.timestamp() * 1000
_LATEST_MS: Final = LATEST.timestamp() * 1000


class Record(Protocol):
    """What is read of aiokafka's `ConsumerRecord`, which has no types."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Message(NamedTuple):
    """What is produced; keyed by subject, so that one consumer at a time writes an id."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def encode_event(event: CloudEvent) -> bytes:
    """An event as JSON, its time as the plugin writes it; what it does not have stays away."""
    value = {
        name: item
        for name, item in msgspec.structs.asdict(event).items()
        if item is not None and not (name == "data" and not bytes(item))
    }
    if event.time is not None and event.time.microsecond % 1000 == 0:
        time = event.time.astimezone(UTC).isoformat(timespec="milliseconds")
        value["time"] = time.replace("+00:00", "Z")
    return msgspec.json.encode(value)


def encode(received: Received) -> Message:
    """Put a checked event into a message."""
    return Message(
        received.event.subject.encode(),
        encode_event(received.event),
        [
            (NAMESPACE_HEADER, received.namespace.encode()),
            (INGESTED_AT_HEADER, received.ingested_at.astimezone(UTC).isoformat().encode()),
        ],
    )


def decode(record: Record, default_namespace: str) -> Received:
    """Check a message; the same message always gives the same event.

    The namespace is the header's that `serve` wrote from the API key, or the default for what the
    plugin produced itself; the body cannot name it. An event without a time counts when `serve` took it
    in, or at the message's own time, not the clock's: delivered again, it is still the same event.

    Raises:
        InvalidEvent: it cannot be metered; to be set aside.
    """
    value = record.value
    if not value:
        raise _broken("body", "required", "the message is empty")
    if len(value) > LONGEST_MESSAGE_BYTES:
        raise _broken(
            "body",
            "max_length",
            f"the message has {len(value)} bytes, more than {LONGEST_MESSAGE_BYTES}",
        )
    event = parse_event(value)
    namespace, ingested_at = default_namespace, None
    if record.headers:
        headers = dict(record.headers)
        if not all(map(_is_utf8, headers)):
            raise _broken("headers", "invalid", "a name is not UTF-8")
        namespace = _namespace(headers, default_namespace)
        ingested_at = _ingested_at(headers)
    if ingested_at is None:
        ingested_at = _moment(record.timestamp)
    door = _door(record.topic, record.partition)
    return Received(namespace, event, ingested_at, door, record.offset, as_it_came(event, value))


def read_block(records: Sequence[Record], default_namespace: str) -> EventBlock:
    """Read at once what the plugin itself produced, which has no headers.

    `decode` would give the same of them, and has all the others.
    """
    return EventBlock.read(
        default_namespace,
        [record.value or b"" if not record.headers else b"" for record in records],
        [_door(record.topic, record.partition) for record in records],
        [record.offset for record in records],
        [record.timestamp for record in records],
    )


def _is_utf8(name: str) -> bool:
    """Whether a name has no surrogates, which stand for what cannot be decoded."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _namespace(headers: dict[str, bytes], default: str) -> str:
    given = headers.get(NAMESPACE_HEADER)
    if given is None:
        return default
    try:
        namespace = given.decode()
    except UnicodeDecodeError as err:
        raise _broken("headers.namespace", "invalid", "is not UTF-8") from err
    if not 0 < len(namespace) <= LONGEST_NAMESPACE:
        raise _broken(
            "headers.namespace", "max_length", f"must have 1 to {LONGEST_NAMESPACE} characters"
        )
    return namespace


def _ingested_at(headers: dict[str, bytes]) -> datetime | None:
    given = headers.get(INGESTED_AT_HEADER)
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given.decode())
    except ValueError as err:
        raise _broken("headers.ingested_at", "invalid", "is not a time in RFC 3339") from err
    if moment.tzinfo is None:
        raise _broken("headers.ingested_at", "invalid", "has no time zone")
    if not EARLIEST <= moment < LATEST:
        raise _broken("headers.ingested_at", "invalid", "must be from 1970 to 2199")
    return moment


# Messages that are produced together have the same few times and places.
@lru_cache(maxsize=1 << 10)
def _moment(timestamp: int) -> datetime:
    if not _EARLIEST_MS <= timestamp < _LATEST_MS:
        raise _broken("time", "required", "neither the event nor the message has a time")
    return datetime.fromtimestamp(timestamp / 1000, UTC)


def nearest_moment(timestamp_ms: int) -> datetime:
    """A message's own time, or the nearest to it that an event can have: a producer may say any."""
    return datetime.fromtimestamp(min(max(timestamp_ms, _EARLIEST_MS), _LATEST_MS - 1) / 1000, UTC)


@lru_cache(maxsize=1 << 10)
def _door(topic: str, partition: int) -> str:
    return f"{topic}/{partition}"


def _broken(field: str, rule: str, reason: str) -> InvalidEvent:
    return InvalidEvent(f"{field}: {reason}", [InvalidParameter(field, rule, reason)])
