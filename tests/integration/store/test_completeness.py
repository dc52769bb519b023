"""Holes in numbers, and hours that balance, as the event store sees them."""

import json
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tallyman.domain.completeness import LARGEST_NUMBER, Ends, HourBalance
from tallyman.domain.event import parse_event
from tallyman.store import holes as holes_module
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.completeness import Completeness
from tallyman.store.events import EventStore, Received
from tallyman.store.lane_sql import BLOCK, DOORS, NODES, Lanes
from tallyman.store.seen import Seen

HOUR = datetime(2026, 11, 19, 9, tzinfo=UTC)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
async def chdb(tmp_path: Path) -> AsyncIterator[ClickHouse]:
    """Empty event tables of one's own: completeness is of all namespaces."""
    clickhouse = ClickHouse.embedded(str(tmp_path / "chdb"))
    await EventStore(clickhouse).migrate()
    yield clickhouse
    await clickhouse.close()


def numbered(
    numbers: Iterable[int], at: datetime = HOUR, node: str = "kong-1", namespace: str = "default"
) -> list[Received]:
    """The plugin's events with these numbers, as Kafka brought them, ten an hour."""
    return [
        Received(
            namespace,
            parse_event(
                json.dumps(
                    {
                        "id": f"{node}-{number}",
                        "source": "kong",
                        "type": "llm.tokens",
                        "subject": "acme",
                        "time": (at + timedelta(minutes=number % 60)).isoformat(),
                        "nodeid": node,
                        "sequence": f"{number:018d}",
                        "data": {"tokens": 1},
                    }
                ).encode()
            ),
            at + timedelta(hours=number // 10 % 24),
            "usage/0",
            number,
        )
        for number in numbers
    ]


async def holes_of(
    chdb: ClickHouse, lanes: Lanes, since: datetime = LONG_AGO
) -> list[tuple[str, int, int]]:
    _, holes = await Completeness(chdb).holes.since(lanes, since)
    return [(hole.lane, hole.first, hole.last) for hole in holes]


async def test_numbers_that_are_stored_or_known_leave_no_hole_and_others_do(
    chdb: ClickHouse,
) -> None:
    store = EventStore(chdb)
    await store.accept(numbered([*range(1, 20), *range(23, 40), 50]))
    twice = [
        Received(one.namespace, one.event, one.ingested_at, "usage/0", 40 + at)
        for at, one in enumerate(numbered(range(1, 6)))
    ]
    assert (await store.accept(twice)).known == 5

    assert await holes_of(chdb, NODES) == [("kong-1", 20, 22), ("kong-1", 40, 49)]
    assert await holes_of(chdb, DOORS) == [("usage/0", 20, 22), ("usage/0", 45, 49)]


async def test_a_hole_across_blocks_of_numbers_is_one_hole(chdb: ClickHouse) -> None:
    await EventStore(chdb).accept(numbered([BLOCK - 2, 3 * BLOCK + 5, 3 * BLOCK + 7]))

    assert await holes_of(chdb, NODES) == [
        ("kong-1", BLOCK - 1, 3 * BLOCK + 4),
        ("kong-1", 3 * BLOCK + 6, 3 * BLOCK + 6),
    ]


async def test_of_a_namespace_with_more_holes_than_are_looked_at_the_rest_is_missing_as_a_whole(
    chdb: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holes_module, "MOST_LOOKS", 2)
    store = EventStore(chdb)
    scattered = [1, *(at * BLOCK + 5 for at in (1, 2, 3))]
    long_before = [
        Received(one.namespace, one.event, one.ingested_at - timedelta(days=9), one.door, one.place)
        for namespace in ("flood", "other")
        for one in numbered([BLOCK + 7, 2 * BLOCK + 7], namespace=namespace)
    ]
    await store.accept(long_before)
    await store.accept(numbered(scattered, namespace="flood"))
    await store.accept(numbered(scattered[:3], namespace="other"))

    _, holes = await Completeness(chdb).holes.since(NODES, HOUR - timedelta(days=1))

    between = [(2, BLOCK + 4), (BLOCK + 6, BLOCK + 6), (BLOCK + 8, 2 * BLOCK + 4)]
    found = {
        name: [(one.first, one.last) for one in holes if one.namespace == name]
        for name in ("flood", "other")
    }
    assert found == {"other": between, "flood": [*between, (2 * BLOCK + 6, 3 * BLOCK + 4)]}


async def test_what_came_in_before_fills_holes_and_begins_what_came_since(chdb: ClickHouse) -> None:
    """A batch that was stored out of order, and a hole just before what is looked at."""
    store = EventStore(chdb)
    await store.accept(numbered([1, 2, 105, 2 * BLOCK]))
    early = [
        Received(one.namespace, one.event, one.ingested_at - timedelta(days=9), one.door, one.place)
        for one in numbered([90, 103, BLOCK])
    ]
    await store.accept(early)
    await store.accept(numbered([100, 101, 102, 104, 106, 3 * BLOCK]))

    assert await holes_of(chdb, NODES, HOUR - timedelta(days=1)) == [
        ("kong-1", 91, 99),
        ("kong-1", 107, BLOCK - 1),
        ("kong-1", BLOCK + 1, 2 * BLOCK - 1),
        ("kong-1", 2 * BLOCK + 1, 3 * BLOCK - 1),
    ]
    assert await holes_of(chdb, NODES, HOUR + timedelta(hours=10)) == [("kong-1", 91, 99)]


async def test_every_hour_balances_whatever_is_delivered_again(chdb: ClickHouse) -> None:
    store = EventStore(chdb)
    await store.accept(numbered(range(30)))
    await store.accept(numbered(range(30)))  # the same messages once more
    again = [
        Received(one.namespace, one.event, one.ingested_at, "usage/0", 30 + at)
        for at, one in enumerate(numbered(range(5)))
    ]
    await store.accept(again)

    assert await Completeness(chdb).hours(LONG_AGO) == {
        HOUR: HourBalance(HOUR, counted=10, known=5),
        HOUR + timedelta(hours=1): HourBalance(HOUR + timedelta(hours=1), counted=10),
        HOUR + timedelta(hours=2): HourBalance(HOUR + timedelta(hours=2), counted=10),
    }


async def test_without_kafka_the_store_numbers_what_it_takes_and_sees_what_is_taken_away(
    chdb: ClickHouse,
) -> None:
    store = EventStore(chdb)
    own = [Received(one.namespace, one.event, one.ingested_at) for one in numbered(range(6))]
    await store.accept(own)
    await store.accept(own[:2])
    whole = await holes_of(chdb, DOORS)
    await chdb.command("DELETE FROM events WHERE id = 'kong-1-3'")

    [(door, first, last)] = await holes_of(chdb, DOORS)

    assert whole == []
    assert door.startswith("store/")
    assert (first, last) == (3, 3)


async def test_a_number_that_a_log_has_shown_is_no_hole_any_more(chdb: ClickHouse) -> None:
    await EventStore(chdb).accept(numbered([1, 2, 6]))
    completeness = Completeness(chdb)
    _, [hole] = await completeness.holes.since(NODES, LONG_AGO)
    await completeness.holes.make_good(hole)

    assert await holes_of(chdb, NODES) == []
    assert len(await holes_of(chdb, DOORS)) == 1


async def test_what_another_namespace_stores_or_sends_again_fills_no_hole_of_a_node(
    chdb: ClickHouse,
) -> None:
    """Only the rows of an older version, which do not say whose they are, are taken for anybody's."""
    store = EventStore(chdb)
    await store.accept(numbered([1, 2, 5, 6, 9]))
    others = numbered([3, 4, 7, 8, 9_999_999], namespace="evil")
    await store.accept(others)
    assert (await store.accept(others)).known == 5
    apart = await holes_of(chdb, NODES)
    await chdb.command(
        "INSERT INTO dropped (door, place, reason, nodeid, sequence) "
        "VALUES ('usage/1', 1, 'known', 'kong-1', '000000000000000003')"
    )

    _, holes = await Completeness(chdb).holes.since(NODES, LONG_AGO)

    assert sorted(apart) == [
        ("kong-1", 3, 4), ("kong-1", 5, 6), ("kong-1", 7, 8), ("kong-1", 9, 9_999_998),
    ]  # fmt: skip
    assert [(hole.first, hole.last) for hole in holes if hole.namespace == "default"] == [
        (4, 4),
        (7, 8),
    ]


async def test_numbers_that_were_sent_again_fill_holes_of_their_namespace(
    chdb: ClickHouse,
) -> None:
    """Its call was replayed without a number before the node's event came, which was known then."""
    store = EventStore(chdb)
    for namespace in ("default", "other"):
        await store.accept(numbered([1, 3], namespace=namespace))
    [one] = numbered([2], namespace="other")
    replayed = msgspec.structs.replace(one.event, nodeid=None, sequence=None)
    await store.accept([Received("other", replayed, one.ingested_at)])
    assert (await store.accept([one])).known == 1

    _, holes = await Completeness(chdb).holes.since(NODES, LONG_AGO)

    assert [(hole.namespace, hole.first, hole.last) for hole in holes] == [("default", 2, 2)]


async def test_a_number_that_no_node_can_have_given_is_no_number(chdb: ClickHouse) -> None:
    await EventStore(chdb).accept(numbered([1, LARGEST_NUMBER + 1, 2**64 - 1, 3]))

    assert await holes_of(chdb, NODES) == [("kong-1", 2, 2)]


async def test_however_many_numbers_are_made_good_it_is_one_row(chdb: ClickHouse) -> None:
    completeness = Completeness(chdb)
    await EventStore(chdb).accept(numbered([1, LARGEST_NUMBER - 1]))
    _, [hole] = await completeness.holes.since(NODES, LONG_AGO)
    await completeness.holes.make_good(hole)
    rows = await chdb.rows("SELECT count() FROM dropped")
    await EventStore(chdb).accept(numbered([LARGEST_NUMBER], namespace="other"))
    behind = await completeness.holes.at_the_ends(
        NODES, {("default", "kong-1"): Ends(None, LARGEST_NUMBER, HOUR)}, LONG_AGO
    )

    assert rows == [(1,)]
    assert await holes_of(chdb, NODES) == []
    assert [(one.first, one.last) for one in behind] == [(LARGEST_NUMBER, LARGEST_NUMBER)]


async def test_what_is_remembered_and_not_stored_is_found_and_forgotten(chdb: ClickHouse) -> None:
    store, seen = EventStore(chdb), Seen(chdb)
    await store.accept(numbered(range(3)))
    await chdb.command("DELETE FROM events WHERE id = 'kong-1-1'")
    day = (HOUR, HOUR + timedelta(days=1))

    [remembered] = await seen.remembered_only(*day)
    lost = await store.accept(numbered([1]))
    await seen.forget([remembered], *day)
    stored = await store.accept(numbered([1]))

    assert (lost.known, stored.new) == (1, 1)
    assert await seen.remembered_only(*day) == []
    assert await store.count("default") == 3


def said(node: str, at: datetime, **said: Any) -> Received:
    """A heartbeat that came in when it was sent."""
    event = {
        "id": f"{node}:{at.isoformat()}", "source": "tallyman-kong", "type": "tallyman.heartbeat",
        "subject": node, "time": at.isoformat(), "data": {"first": 1, "newest": 9, **said},
    }  # fmt: skip
    return Received("default", parse_event(json.dumps(event).encode()), at)


async def test_however_many_spools_and_numbers_heartbeats_name_few_are_read(
    chdb: ClickHouse,
) -> None:
    """Any key can send them; other nodes keep what they have said of each of their spools."""
    flood = [
        said("flood", HOUR + timedelta(seconds=at), first=at, set_aside_ranges=[[1, 10**14]])
        for at in range(1, 1_200)
    ]
    many = [[number, number] for number in range(1, 8_000, 2)]
    long = [said(f"long-{at}", HOUR, set_aside_ranges=many) for at in range(40)]
    mine = [
        said("kong-1", HOUR, refused=3),
        said("kong-1", HOUR + timedelta(minutes=1), first=2, refused=4, set_aside_ranges=[[5, 6]]),
    ]
    await EventStore(chdb).accept([*mine, *flood, *long])
    heard = await Completeness(chdb).heartbeats.heard(LONG_AGO)

    node = heard["default", "kong-1"]
    assert node.risen(lambda beat: beat.refused) == 7
    assert node.last.set_aside_ranges == ((5, 6),)
    assert heard["default", "flood"].last.set_aside_ranges == ((1, 10**14),)
    assert len(heard["default", "flood"].spools) < len(flood)
    assert {len(heard["default", f"long-{at}"].last.set_aside_ranges) for at in range(40)} == {
        0,
        len(many),
    }


async def test_a_heartbeat_from_a_clock_that_is_ahead_hides_no_later_one(chdb: ClickHouse) -> None:
    now = datetime.now(UTC)
    far = now + timedelta(days=2)
    ahead = msgspec.structs.replace(said("kong-1", now + timedelta(days=1)), ingested_at=now)
    await EventStore(chdb).accept([ahead, said("kong-1", now + timedelta(minutes=1), newest=10)])
    heartbeats = Completeness(chdb).heartbeats

    assert (await heartbeats.heard(LONG_AGO))["default", "kong-1"].last.newest == 10
    assert (await heartbeats.heard(far))["default", "kong-1"].last.newest == 10
    assert (await heartbeats.last_said(LONG_AGO, far))["default", "kong-1"].newest == 10


async def test_as_many_ids_as_there_are_can_be_forgotten(chdb: ClickHouse) -> None:
    """A query of ClickHouse has at most 256 KiB, if nothing else is said: 7,400 ids."""
    store, seen = EventStore(chdb), Seen(chdb)
    await store.accept(numbered(range(12_000)))
    await chdb.command("DELETE FROM events WHERE toUInt64(sequence) != 7")
    day = (HOUR, HOUR + timedelta(days=1))

    remembered = await seen.remembered_only(*day)
    await seen.forget(remembered, *day)

    assert len(remembered) == 11_999
    assert await seen.remembered_only(*day) == []
    assert (await store.accept(numbered(range(12_000)))).new == 11_999
