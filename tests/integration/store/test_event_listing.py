"""Stored events listed: filters, orders, and pages that stay the same while others are stored."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tallyman.domain.event import parse_event
from tallyman.domain.event_query import EventFilter, EventOrder, EventPage, EventSort
from tallyman.errors import InvalidInput
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore, Received

NOW = datetime(2026, 11, 21, 9, 30, 0, 123000, tzinfo=UTC)


def received(namespace: str, id_: str, seconds: float = 0, **more: Any) -> Received:
    time = NOW + timedelta(seconds=seconds)
    body = {"id": id_, "source": "kong", "type": "t", "subject": "acme", "time": time.isoformat()}
    return Received(
        namespace,
        parse_event(json.dumps(body | more).encode()),
        NOW + timedelta(minutes=1, seconds=-seconds),
    )


def ids(page: EventPage) -> list[str]:
    return [stored.event.id for stored in page.events]


async def all_ids(store: EventStore, namespace: str, sort: EventSort, size: int) -> list[str]:
    seen: list[str] = []
    after = None
    while True:
        page = await store.list_events(namespace, sort=sort, size=size, after=after)
        seen += ids(page)
        if page.next is None:
            return seen
        after = page.next


async def test_an_event_is_listed_as_it_was_sent_with_when_it_came_and_was_stored(
    event_store: EventStore, namespace: str
) -> None:
    sent = received(
        namespace,
        "1",
        0.000001,
        data={"tokens": 1},
        dataschema="https://example.com/x",
        nodeid="kong-1",
        sequence="000000000000000007",
    )
    before = datetime.now(UTC) - timedelta(seconds=2)
    await event_store.accept([sent, sent])

    [stored] = (await event_store.list_events(namespace)).events

    names = ("id", "source", "type", "subject", "time", "dataschema", "nodeid", "sequence")
    assert [getattr(stored.event, name) for name in names] == [
        getattr(sent.event, name) for name in names
    ]
    assert bytes(stored.event.data) == b'{"tokens": 1}'
    assert stored.ingested_at == sent.ingested_at.replace(microsecond=122000)
    assert before <= stored.stored_at <= datetime.now(UTC) + timedelta(seconds=2)


@pytest.mark.parametrize("by", EventOrder)
@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("size", [1, 3, 7, 100])
async def test_pages_hold_every_event_once_and_in_order_ties_too(
    event_store: EventStore, namespace: str, by: EventOrder, descending: bool, size: int
) -> None:
    # three events of each second, in batches that are stored at different times
    for batch in range(3):
        events = [received(namespace, f"{second}-{batch}", second) for second in range(3)]
        await event_store.accept(events)

    listed = await all_ids(event_store, namespace, EventSort(by, descending), size)

    assert sorted(listed) == sorted(f"{a}-{b}" for a, b in itertools.product(range(3), repeat=2))
    if by is not EventOrder.STORED_AT:
        upwards = descending == (
            by is EventOrder.INGESTED_AT
        )  # the later the time, the sooner it came
        assert [id_[0] for id_ in listed] == sorted((id_[0] for id_ in listed), reverse=not upwards)


@pytest.mark.parametrize("size", [1, 2, 4, 9])
async def test_an_event_that_is_stored_many_times_is_listed_once(
    event_store: EventStore, clickhouse: ClickHouse, namespace: str, size: int
) -> None:
    events = [received(namespace, str(number), number) for number in range(4)]
    for _ in range(9):  # each time as after a crash that left nothing remembered
        await clickhouse.command("TRUNCATE TABLE seen")
        await clickhouse.command("TRUNCATE TABLE seen_by_id")
        await event_store.accept(events)

    assert await all_ids(event_store, namespace, EventSort(), size) == ["3", "2", "1", "0"]


async def test_a_page_stays_the_same_while_newer_events_are_stored(
    event_store: EventStore, namespace: str
) -> None:
    await event_store.accept([received(namespace, str(number), number) for number in range(6)])
    first = await event_store.list_events(namespace, size=3)
    await event_store.accept([received(namespace, "new", 99)])

    second = await event_store.list_events(namespace, size=3, after=first.next)

    assert (ids(first), ids(second)) == (["5", "4", "3"], ["2", "1", "0"])


async def test_next_is_there_only_after_a_full_page(
    event_store: EventStore, namespace: str
) -> None:
    await event_store.accept([received(namespace, str(number), number) for number in range(3)])

    full = await event_store.list_events(namespace, size=3)
    part = await event_store.list_events(namespace, size=4)
    empty = await event_store.list_events(namespace, size=4, after=part.last)

    assert full.next is not None
    assert full.next == full.last
    assert (part.next, part.first) == (None, full.first)
    assert empty == EventPage((), None, None, None)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (EventFilter("id", "eq", ("a1",)), ["a1"]),
        (EventFilter("id", "neq", ("a1",)), ["B2", "c3"]),
        (EventFilter("id", "oeq", ("a1", "c3", "x")), ["a1", "c3"]),
        (EventFilter("id", "contains", ("b",)), ["B2"]),
        (EventFilter("id", "ocontains", ("1", "C")), ["a1", "c3"]),
        (EventFilter("id", "gt", ("a1",)), ["c3"]),
        (EventFilter("id", "gte", ("a1",)), ["a1", "c3"]),
        (EventFilter("id", "lt", ("a1",)), ["B2"]),
        (EventFilter("id", "lte", ("a1",)), ["B2", "a1"]),
        (EventFilter("id", "exists", ("true",)), ["B2", "a1", "c3"]),
        (EventFilter("id", "exists", ("false",)), []),
        (EventFilter("subject", "eq", ("globex",)), ["B2"]),
        (EventFilter("source", "contains", ("'; --",)), []),
        (EventFilter("type", "eq", ("t",)), ["B2", "a1", "c3"]),
        (EventFilter("time", "eq", (NOW + timedelta(seconds=1),)), ["B2"]),
        (EventFilter("time", "gt", (NOW + timedelta(seconds=1),)), ["c3"]),
        (EventFilter("time", "lt", (NOW + timedelta(seconds=1),)), ["a1"]),
        (EventFilter("ingested_at", "lte", (NOW + timedelta(seconds=59),)), ["B2", "c3"]),
        (EventFilter("ingested_at", "eq", (NOW + timedelta(seconds=60),)), ["a1"]),
        (EventFilter("stored_at", "gte", (datetime(2200, 1, 1, tzinfo=UTC),)), []),
        (EventFilter("stored_at", "gte", (datetime(2026, 1, 1, tzinfo=UTC),)), ["B2", "a1", "c3"]),
    ],
)
async def test_a_filter_finds_what_it_says(
    event_store: EventStore, namespace: str, asked: EventFilter, found: list[str]
) -> None:
    await event_store.accept(
        [
            received(namespace, "a1", 0),
            received(namespace, "B2", 1, subject="globex"),
            received(namespace, "c3", 2),
        ]
    )

    page = await event_store.list_events(namespace, [asked])
    both = await event_store.list_events(
        namespace, [asked, EventFilter("subject", "eq", ("nobody",))]
    )

    assert (sorted(ids(page)), ids(both)) == (found, [])


@pytest.mark.parametrize(
    "after", ["", "x", "!", "dGltZQ", "é", "c3RvcmVkX2F0LToxOmFi", "dGltZS06eDphYg"]
)
async def test_what_is_no_cursor_of_this_order_is_refused(
    event_store: EventStore, namespace: str, after: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await event_store.list_events(namespace, after=after)

    assert [(one.field, one.source) for one in caught.value.parameters] == [
        ("page[after]", "query")
    ]


@pytest.mark.parametrize(
    "asked",
    [
        EventFilter("time", "contains", (NOW,)),
        EventFilter("time", "eq", ("yesterday",)),
        EventFilter("id", "in", ("a",)),
        EventFilter("data", "eq", ("a",)),
        EventFilter("id; DROP TABLE events", "eq", ("a",)),
    ],
)
async def test_a_filter_that_is_not_supported_is_refused_by_name(
    event_store: EventStore, namespace: str, asked: EventFilter
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await event_store.list_events(namespace, [asked])

    assert caught.value.parameters[0].field == f"filter[{asked.field}][{asked.operator}]"


async def test_another_namespace_sees_nothing(event_store: EventStore, namespace: str) -> None:
    await event_store.accept([received(namespace, "1")])

    assert (await event_store.list_events(f"{namespace}x")).events == ()
