"""Events that are read at once are stored and remembered as those that Python reads one by one."""

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import astuple
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.event_block import IS_BUILT, EventBlock
from tallyman.store.events import EventStore
from tallyman.store.seen import Seen
from tallyman.stream.message import decode, read_block

from tests.rigs.plugin_form import Produced, message

pytestmark = pytest.mark.skipif(not IS_BUILT, reason="the event reader is not built: no cargo")
EVENTS = 3_000
NOW_MS = 1_795_253_073_353
STORED = (
    "type, subject, time, source, id, dataschema, data, nodeid, sequence, ingested_at, door, place, "
    "tokens, tokens_text, token_type, model, provider, usage_source, waived_tokens, revision, change"
)


def produced(seed: int, count: int, oddness: float = 0) -> list[Produced]:
    chance = random.Random(seed)
    return [
        Produced(message(chance, at, oddness=oddness), at, timestamp=NOW_MS + at)
        for at in range(count)
    ]


async def rows(clickhouse: ClickHouse, sql: str, namespace: str) -> list[Any]:
    return await clickhouse.rows(sql, {"namespace": namespace})


async def stored(clickhouse: ClickHouse, namespace: str) -> list[Any]:
    sql = f"SELECT {STORED} FROM events WHERE namespace = {{namespace:String}} ORDER BY id"
    return await rows(clickhouse, sql, namespace)


async def remembered(clickhouse: ClickHouse, block: EventBlock) -> list[tuple[Any, ...]]:
    """What is known of the block's events, in its order, but for whose they are."""
    found = await Seen(clickhouse).by_minute(block.hashes, block.times_us)
    return [astuple(found[one])[1:] for one in block.hashes]


async def test_every_column_of_an_event_read_at_once_is_what_the_other_way_makes_of_it(
    event_store: EventStore, clickhouse: ClickHouse
) -> None:
    records = produced(1, EVENTS, oddness=0.02)
    at_once, by_one = (read_block(records, name) for name in ("at once", "one by one"))
    taken = [records[at] for at in at_once.positions]

    others = await event_store.accept_block(at_once)
    await event_store.accept([decode(one, "one by one") for one in taken])

    assert list(others) == []
    first, second = [await stored(clickhouse, name) for name in ("at once", "one by one")]
    assert EVENTS / 2 < len(first) == len(taken)
    assert [pair for pair in zip(first, second, strict=True) if pair[0] != pair[1]] == []
    assert await remembered(clickhouse, at_once) == await remembered(clickhouse, by_one)


async def test_an_event_read_at_once_is_stored_at_the_servers_time(
    event_store: EventStore, clickhouse: ClickHouse
) -> None:
    await event_store.accept_block(read_block(produced(2, 10), "timed"))

    sql = (
        "SELECT count() FROM events WHERE namespace = {namespace:String} "
        "AND abs(dateDiff('second', stored_at, now())) < 600 "
        "AND abs(18446744073709551615 - first_wins - toUnixTimestamp64Micro(now64(6))) < 600000000"
    )
    assert await rows(clickhouse, sql, "timed") == [(10,)]


async def test_what_is_known_is_left_to_be_looked_at_one_by_one(
    event_store: EventStore, clickhouse: ClickHouse
) -> None:
    records = produced(3, 20)
    await event_store.accept([decode(one, "known") for one in records[5:8]])
    block = read_block(records, "known")

    others = await event_store.accept_block(block)
    again = await event_store.accept_block(block)

    assert list(others) == [5, 6, 7]
    assert list(again) == list(range(20))
    assert len(await stored(clickhouse, "known")) == 20


async def test_two_that_store_the_same_block_at_once_store_each_event_once(
    event_store: EventStore, clickhouse: ClickHouse
) -> None:
    block = read_block(produced(4, 50), "twice")

    first, second = await asyncio.gather(
        event_store.accept_block(block), event_store.accept_block(block)
    )

    assert sorted([len(first), len(second)]) == [0, 50]
    assert len(await stored(clickhouse, "twice")) == 50


async def test_a_block_that_clickhouse_does_not_read_is_left_whole(
    event_store: EventStore, clickhouse: ClickHouse
) -> None:
    block = read_block(produced(5, 10), "unread")
    cut = replace(block, rows=block.rows[:-1])

    assert list(await event_store.accept_block(cut)) == list(range(10))
    assert await stored(clickhouse, "unread") == []
    assert list(await event_store.accept_block(block)) == []
