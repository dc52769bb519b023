"""A message is an event, or it says why not; and what serve writes is what consume reads."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from tallyman.domain.event import parse_event
from tallyman.errors import InvalidEvent
from tallyman.store.events import Received
from tallyman.stream.message import LONGEST_MESSAGE_BYTES, decode, encode

SENT_AT = datetime(2026, 11, 21, 9, 24, 33, 353000, UTC)
EVENT = {
    "specversion": "1.0",
    "id": "c0ffee:proxy:request",
    "source": "kong",
    "type": "llm.tokens",
    "subject": "acme-corp",
    "time": "2026-11-21T09:00:00.500Z",
    "nodeid": "kong-1",
    "sequence": "000000000000000007",
    "data": {"tokens": 23, "type": "request", "exact": 0.1234567890123456},
}


@dataclass(frozen=True)
class SomeRecord:
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = int(SENT_AT.timestamp() * 1000)
    topic: str = "llm.usage"
    partition: int = 0
    offset: int = 7
    key: bytes | None = b"acme-corp"


def body(**changes: object) -> bytes:
    event = {**EVENT, **changes}
    return json.dumps({name: value for name, value in event.items() if value != "-"}).encode()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(body(), id="everything"),
        pytest.param(body(time="-", nodeid="-", sequence="-", data="-"), id="the least"),
    ],
)
def test_what_serve_produces_is_read_as_the_same_event_of_the_same_namespace(value: bytes) -> None:
    received = Received("tenant-a", parse_event(value), SENT_AT)

    message = encode(received)

    assert message.key == b"acme-corp"
    assert json.loads(message.value) == json.loads(value)
    again = decode(SomeRecord(message.value, message.headers), "default")
    assert (again.namespace, again.ingested_at) == ("tenant-a", SENT_AT)
    assert again.time == received.time
    assert again.event.id == "c0ffee:proxy:request"
    assert bytes(again.event.data) == bytes(received.event.data)


def test_an_event_without_a_time_has_the_messages_time_whenever_it_is_read() -> None:
    record = SomeRecord(body(time="-"))

    assert [decode(record, "default").time for _ in range(2)] == [SENT_AT, SENT_AT]


def test_an_event_without_a_time_counts_when_serve_took_it_in_also_by_a_test_clock() -> None:
    taken_in = datetime(2027, 3, 1, 12, tzinfo=UTC)
    message = encode(Received("sandbox", parse_event(body(time="-")), taken_in))

    assert decode(SomeRecord(message.value, message.headers), "default").time == taken_in


def test_the_plugins_own_messages_are_of_the_default_namespace_whatever_the_body_says() -> None:
    record = SomeRecord(body(namespace="tenant-b"))

    assert decode(record, "tenant-a").namespace == "tenant-a"


@pytest.mark.parametrize(
    ("record", "field"),
    [
        pytest.param(SomeRecord(None), "body", id="a tombstone"),
        pytest.param(SomeRecord(b""), "body", id="an empty message"),
        pytest.param(SomeRecord(b"{"), "body", id="broken JSON"),
        pytest.param(SomeRecord(b"\xff\xfe"), "body", id="no text"),
        pytest.param(SomeRecord(b"[" * 100_000), "body", id="a deep pit"),
        pytest.param(SomeRecord(b" " * (LONGEST_MESSAGE_BYTES + 1)), "body", id="too large"),
        pytest.param(SomeRecord(body(subject="-")), "subject", id="a field is missing"),
        pytest.param(SomeRecord(body(), [("namespace", b"")]), "headers.namespace", id="no tenant"),
        pytest.param(
            SomeRecord(body(), [("namespace", b"\xff")]),
            "headers.namespace",
            id="tenant in no text",
        ),
        pytest.param(
            SomeRecord(body(), [("ingested_at", b"yesterday")]), "headers.ingested_at", id="no time"
        ),
        pytest.param(
            SomeRecord(body(), [("ingested_at", b"2026-11-21T09:00:00")]),
            "headers.ingested_at",
            id="a time without a zone",
        ),
        pytest.param(
            SomeRecord(body(), [("ingested_at", b"0001-01-01T00:00:00Z")]),
            "headers.ingested_at",
            id="a time before all",
        ),
        pytest.param(SomeRecord(body(time="-"), timestamp=-1), "time", id="no time anywhere"),
        pytest.param(SomeRecord(body(time="-"), timestamp=2**62), "time", id="an absurd time"),
    ],
)
def test_a_message_that_is_no_event_names_the_field(record: SomeRecord, field: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        decode(record, "default")

    assert refused.value.parameters[0].field == field
