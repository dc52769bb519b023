"""A batch on its way into the store: what is kept, what is known, and what is in conflict."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from tallyman.domain.event import CloudEvent, parse_event
from tallyman.domain.meter import MeterQuery
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import Accepted, EventConflict, EventStore, Received
from tallyman.store.incoming import INSERT_SETTINGS
from tallyman.store.seen import MOST_LITERALS

from tests.rigs.meters import tokens_meter

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def event(
    id_: str = "1", tokens: Any = 10, time: str | None = "2026-11-21T09:24:33.353Z", **more: Any
) -> CloudEvent:
    attributes = {"id": id_, "source": "kong", "type": "llm.tokens", "subject": "acme", **more}
    if time is not None:
        attributes["time"] = time
    return parse_event(json.dumps({"data": {"tokens": tokens}, **attributes}).encode())


def from_plugin(id_: str = "1", tokens: int = 10, sequence: str = "1", **more: Any) -> CloudEvent:
    return event(id_, tokens, nodeid="kong-1", sequence=sequence, **more)


class Door:
    """What one namespace's callers see of the store."""

    def __init__(self, store: EventStore, clickhouse: ClickHouse, namespace: str) -> None:
        self.store, self.clickhouse, self.namespace = store, clickhouse, namespace

    def received(self, events: tuple[CloudEvent, ...], at: datetime) -> list[Received]:
        return [Received(self.namespace, one, at) for one in events]

    async def accept(self, *events: CloudEvent, at: datetime = NOW) -> Accepted:
        return await self.store.accept(self.received(events, at))

    async def tokens(self) -> int:
        rows = await self.store.query(tokens_meter(self.namespace), MeterQuery())
        return int(rows[0].value) if rows else 0

    async def rows(self) -> int:
        """How many rows there are, with duplicates."""
        sql = "SELECT count() FROM events WHERE namespace = {namespace:String}"
        return int((await self.clickhouse.rows(sql, {"namespace": self.namespace}))[0][0])

    @asynccontextmanager
    async def unmerged(self) -> AsyncIterator[None]:
        """ClickHouse merges rows whenever it likes, but not meanwhile."""
        await self.clickhouse.command("SYSTEM STOP MERGES events")
        try:
            yield
        finally:
            await self.clickhouse.command("SYSTEM START MERGES events")

    async def forget(self) -> None:
        """As if it had crashed after storing and before remembering, and started anew."""
        for table in ("seen", "seen_by_id"):
            await self.clickhouse.command(f"TRUNCATE TABLE {table}")
        self.store = EventStore(self.clickhouse)


@pytest.fixture
def door(event_store: EventStore, clickhouse: ClickHouse, namespace: str) -> Door:
    return Door(event_store, clickhouse, namespace)


def conflict(door: Door, *differs: str, position: int = 0, id_: str = "1") -> EventConflict:
    return EventConflict(door.namespace, "kong", id_, differs, position)


async def test_a_batch_of_ten_years_is_stored_and_known_like_any_other(door: Door) -> None:
    months = [f"{1990 + number // 12}-{number % 12 + 1:02d}" for number in range(120)]
    events = [event(month, time=f"{month}-01T00:00:00Z") for month in months]

    first = await door.accept(*events)
    again = await door.accept(*events)
    await door.forget()
    after_a_crash = await door.accept(*events)

    assert [(one.new, one.known) for one in (first, again, after_a_crash)] == [
        (120, 0),
        (0, 120),
        (0, 120),
    ]
    assert await door.tokens() == 1200


@pytest.mark.parametrize("make", [event, from_plugin])
async def test_an_event_that_comes_again_is_known_and_not_stored_again(
    door: Door, make: Any
) -> None:
    first = await door.accept(make("1"), make("2"))
    second = await door.accept(make("2"), make("3"), at=NOW + timedelta(hours=5))

    assert first == Accepted(new=2, known=0)
    assert second == Accepted(new=1, known=1, known_at=(0,))
    assert (await door.rows(), await door.tokens()) == (3, 30)


async def test_an_event_twice_in_one_batch_is_stored_once(door: Door) -> None:
    accepted = await door.accept(event("1"), event("2"), event("1"), event("2"))

    assert accepted == Accepted(new=2, known=2, known_at=(2, 3))
    assert await door.rows() == 2


async def test_each_event_of_a_large_batch_is_known_when_it_comes_again_in_a_small_one(
    door: Door,
) -> None:
    events = tuple(event(str(number)) for number in range(2 * MOST_LITERALS))
    await door.accept(*events)

    many, few = await door.accept(*events), await door.accept(*events[:MOST_LITERALS])

    assert many.known_at == tuple(range(len(events)))
    assert few.known_at == tuple(range(MOST_LITERALS))


async def test_an_empty_batch_is_accepted(door: Door) -> None:
    assert await door.accept() == Accepted(new=0, known=0)


async def test_the_plugins_event_is_known_when_replay_brings_it_without_node_and_sequence(
    door: Door,
) -> None:
    await door.accept(from_plugin("1"))
    await door.accept(event("2"))

    replayed = await door.accept(event("1"))
    sent_late = await door.accept(from_plugin("2", sequence="7"))

    assert (replayed.known, sent_late.known) == (1, 1)
    assert await door.rows() == 2


async def test_the_same_id_of_another_source_or_namespace_is_another_event(
    door: Door, namespace: str
) -> None:
    accepted = await door.accept(event("1"), event("1", source="other"))
    elsewhere = await door.store.accept([Received(f"{namespace}-2", event("1"), NOW)])
    # neither may one name run into the next
    glued = await door.accept(event("x", source="ab"), event("bx", source="a"))

    assert (accepted.new, elsewhere.new, glued.new) == (2, 1, 2)


async def test_an_event_sent_without_time_is_known_when_it_is_sent_again_later(door: Door) -> None:
    await door.accept(event("1", time=None), at=NOW)
    again = await door.accept(event("1", time=None), at=NOW + timedelta(minutes=17))
    twice = await door.accept(event("2", time=None), event("2", time=None), at=NOW)

    assert again == Accepted(new=0, known=1, known_at=(0,))
    assert twice == Accepted(new=1, known=1, known_at=(1,))
    assert await door.tokens() == 20


@pytest.mark.parametrize(
    ("later", "differs"),
    [
        pytest.param(event(time="2026-11-21T09:24:33.354Z"), ("time",), id="another millisecond"),
        pytest.param(event(time="2025-01-01T00:00:00Z"), ("time",), id="another year"),
        pytest.param(event(subject="globex"), ("subject",), id="another subject"),
        pytest.param(event(type="other"), ("type",), id="another type"),
        pytest.param(event(tokens=11), ("data",), id="another number"),
        pytest.param(event(tokens=True), ("data",), id="another kind of value"),
        pytest.param(event(dataschema="https://example.com"), ("dataschema",), id="another schema"),
        pytest.param(
            event(tokens=11, subject="globex", time="2025-01-01T00:00:00Z"),
            ("time", "subject", "data"),
            id="all of it",
        ),
    ],
)
async def test_the_same_id_with_other_content_is_a_conflict_and_the_first_is_kept(
    door: Door, later: CloudEvent, differs: tuple[str, ...]
) -> None:
    await door.accept(event("0"), event("1"))
    accepted = await door.accept(event("5"), later)

    assert accepted == Accepted(new=1, known=0, conflicts=(conflict(door, *differs, position=1),))
    assert (await door.rows(), await door.tokens()) == (3, 30)


async def test_a_conflict_within_one_batch_is_reported_and_the_first_is_kept(door: Door) -> None:
    accepted = await door.accept(
        event(), event(tokens=99), event(time="2026-11-01T00:00:00Z"), event()
    )

    assert accepted == Accepted(
        new=1,
        known=1,
        conflicts=(conflict(door, "data", position=1), conflict(door, "time", position=2)),
        known_at=(3,),
    )
    assert await door.tokens() == 10


async def test_the_plugins_event_with_other_content_is_a_conflict(door: Door) -> None:
    await door.accept(from_plugin())
    accepted = await door.accept(from_plugin(tokens=11), from_plugin(subject="globex"))

    assert accepted.conflicts == (
        conflict(door, "data"),
        conflict(door, "subject", position=1),
    )


async def test_the_same_data_written_in_another_way_is_no_conflict(door: Door) -> None:
    written = ['{"a": 1.0, "tokens": 5, "c": "é"}', '{"tokens":5,"c":"\\u00e9",\n "a":1}']
    sent = [replace_data(event(), data) for data in written]

    first = await door.accept(sent[0])
    second = await door.accept(sent[1])

    assert (first.new, second) == (1, Accepted(new=0, known=1, known_at=(0,)))


async def test_absent_and_null_data_are_the_same(door: Door) -> None:
    await door.accept(replace_data(event(), ""))
    accepted = await door.accept(replace_data(event(), "null"))

    assert accepted == Accepted(new=0, known=1, known_at=(0,))


async def test_a_crash_between_events_and_seen_leaves_a_row_twice_that_final_removes(
    door: Door,
) -> None:
    sent = tuple(from_plugin(str(number)) for number in range(5))
    await door.accept(*sent)
    # what a process does that dies after the insert, and is delivered the same in other batches
    async with door.unmerged():
        for batch in (sent[:2], sent[2:]):
            lines = b"\n".join(line(door.namespace, one) for one in batch)
            await door.clickhouse.insert("incoming", lines, "JSONEachRow", INSERT_SETTINGS)

        assert (await door.rows(), await door.tokens()) == (10, 50)

    await door.clickhouse.command("OPTIMIZE TABLE events FINAL")

    assert (await door.rows(), await door.tokens()) == (5, 50)


async def test_after_a_crash_between_events_and_seen_the_first_content_still_wins(
    door: Door,
) -> None:
    async with door.unmerged():
        for tokens in (10, 77):
            await door.clickhouse.insert(
                "incoming",
                line(door.namespace, event(tokens=tokens)),
                "JSONEachRow",
                INSERT_SETTINGS,
            )

        assert (await door.rows(), await door.tokens()) == (2, 10)

    await door.clickhouse.command("OPTIMIZE TABLE events FINAL")

    assert await door.tokens() == 10


async def test_what_was_stored_but_not_remembered_before_a_crash_is_known_after_it(
    door: Door,
) -> None:
    untimed = event("1", time=None), from_plugin("4", time=None)
    await door.accept(*untimed, event("2"), from_plugin("3"))
    await door.forget()

    accepted = await door.accept(
        *untimed,
        event("2", time="2026-11-21T10:00:00Z"),
        from_plugin("3"),
        at=NOW + timedelta(minutes=3),
    )

    assert accepted == Accepted(
        new=0, known=3, conflicts=(conflict(door, "time", position=2, id_="2"),), known_at=(0, 1, 3)
    )
    assert await door.tokens() == 40


async def test_what_was_not_remembered_before_a_crash_is_known_also_where_the_clock_was_set_back(
    empty: ClickHouse,
) -> None:
    door = Door(EventStore(empty), empty, "n")
    await door.store.migrate()
    await door.accept(event("before"))
    later = "SELECT * REPLACE ('later' AS id, now64(3) + INTERVAL 2 HOUR AS stored_at) FROM events"
    await empty.command(f"INSERT INTO events {later}")
    await door.accept(event("1", time=None))
    await door.forget()

    again = await door.accept(event("1", time=None), at=NOW + timedelta(minutes=3))

    assert again == Accepted(new=0, known=1, known_at=(0,))


async def test_batches_at_once_with_the_same_events_store_each_once(door: Door) -> None:
    events = tuple(event(str(number), time=None) for number in range(20))
    batches = [events[:10], events[5:15], events, events[::-1], events[15:]]

    accepted = await asyncio.gather(
        *(
            door.accept(*batch, at=NOW + timedelta(minutes=minute))
            for minute, batch in enumerate(batches)
        )
    )

    assert sum(one.new for one in accepted) == 20
    assert (await door.rows(), await door.tokens()) == (20, 200)


async def test_a_caller_that_goes_away_leaves_the_batch_whole(door: Door) -> None:
    batch = asyncio.ensure_future(door.accept(event("1", time=None)))
    await asyncio.sleep(0)
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch

    again = await door.accept(event("1", time=None), at=NOW + timedelta(minutes=5))

    assert again.known == 1
    assert await door.rows() == 1


async def test_what_comes_in_is_kept_as_it_was_written(door: Door) -> None:
    data = '{"s": "a\\u0000\\"b\\\\ é\\n", "n": 0.10,  "tokens": "0.10",\n "o": {"x": [1, 2.50]}}'
    await door.accept(replace_data(event(), data))

    page = await door.store.list_events(door.namespace)

    assert bytes(page.events[0].event.data).decode() == data


async def test_known_says_for_each_whether_it_is_stored(door: Door) -> None:
    await door.accept(event("1"), from_plugin("2"))
    time = datetime(2026, 11, 21, 9, 24, 33, 353000, tzinfo=UTC)

    known = await door.store.known(
        door.namespace,
        [("kong", "2", time), ("kong", "3", time), ("kong", "1", time), ("other", "1", time)],
    )

    assert known == [True, False, True, False]
    assert await door.store.known(door.namespace, []) == []


def replace_data(one: CloudEvent, data: str) -> CloudEvent:
    return msgspec.structs.replace(one, data=msgspec.Raw(data.encode()))


def line(namespace: str, one: CloudEvent) -> bytes:
    return msgspec.json.encode(
        {
            "namespace": namespace,
            **{name: getattr(one, name) for name in ("id", "source", "type", "subject", "time")},
            "data": one.data,
            "ingested_at": NOW,
        }
    )
