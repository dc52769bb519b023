"""What was stored a moment ago: known at once, written together a little later, and after a kill mended."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from tallyman.domain.event import parse_event
from tallyman.errors import Unavailable
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore
from tallyman.store.intake import Intake
from tallyman.store.received import Accepted, Received
from tallyman.store.recent import Recent
from tallyman.store.seen import Seen, Trace, id_hash, minute_of, trace

from tests.rigs.clickhouse import Shim

AT = datetime(2026, 11, 21, 9, 24, tzinfo=UTC)
MINUTE = minute_of(int(AT.timestamp()) * 1_000_000)
NEVER = 3600.0


def received(namespace: str, *ids: str, tokens: int = 10, plugin: bool = False) -> list[Received]:
    more = {"nodeid": "kong-1", "sequence": "1"} if plugin else {}
    bodies = [
        {"id": id_, "source": "s", "type": "t", "subject": "acme", "time": AT.isoformat()}
        | {"data": {"tokens": tokens}, **more}
        for id_ in ids
    ]
    return [Received(namespace, parse_event(json.dumps(body).encode()), AT) for body in bodies]


async def remembered(clickhouse: ClickHouse, namespace: str, id_: str) -> tuple[bool, bool]:
    """Whether another process would find it, by its minute and by its id."""
    seen, hash_ = Seen(clickhouse), id_hash(namespace, "s", id_)
    by_minute, by_id = (
        await seen.by_minute([hash_], [MINUTE * 1_000_000]),
        await seen.by_id([hash_]),
    )
    return hash_ in by_minute, hash_ in by_id


def trace_of(namespace: str) -> Trace:
    [one] = received(namespace, "1")
    return trace(namespace, one.event, one.time, one.data)


@pytest.fixture
async def recent(clickhouse: ClickHouse) -> AsyncIterator[Recent]:
    made = Recent(Seen(clickhouse), pause_seconds=NEVER, most=5)
    yield made
    await made.close()


@pytest.fixture
def intake(clickhouse: ClickHouse, recent: Recent) -> Intake:
    return Intake(clickhouse, recent)


@pytest.mark.parametrize("plugin", [True, False])
async def test_what_is_not_yet_written_is_known_all_the_same(
    intake: Intake, clickhouse: ClickHouse, namespace: str, plugin: bool
) -> None:
    await intake.accept(received(namespace, "1", plugin=plugin))
    written = await remembered(clickhouse, namespace, "1")
    again = await intake.accept(received(namespace, "2", "1", plugin=plugin))

    assert written == (False, False)
    assert again == Accepted(new=1, known=1, known_at=(1,))


async def test_a_conflict_with_what_is_not_yet_written_is_told(
    intake: Intake, namespace: str
) -> None:
    await intake.accept(received(namespace, "1"))
    again = await intake.accept(received(namespace, "1", tokens=11))

    assert [one.differs for one in again.conflicts] == [("data",)]


async def test_what_is_written_is_known_to_others_and_does_not_wait_any_more(
    intake: Intake, recent: Recent, clickhouse: ClickHouse, namespace: str
) -> None:
    await intake.accept(received(namespace, "1"))
    await intake.accept(received(namespace, "2", plugin=True))
    await recent.write()
    hashes = [id_hash(namespace, "s", one) for one in ("1", "2")]

    assert await remembered(clickhouse, namespace, "1") == (True, True)
    assert await remembered(clickhouse, namespace, "2") == (True, False)
    assert set(await recent.by_minute(hashes, [MINUTE * 1_000_000] * len(hashes))) == set(hashes)
    assert (await intake.accept(received(namespace, "1", "2"))).known == 2


async def test_what_waits_is_written_when_it_is_closed(
    intake: Intake, recent: Recent, clickhouse: ClickHouse, namespace: str
) -> None:
    await intake.accept(received(namespace, "1"))
    await recent.close()

    assert await remembered(clickhouse, namespace, "1") == (True, True)


async def test_what_waits_is_written_when_it_is_too_much(
    intake: Intake, clickhouse: ClickHouse, namespace: str
) -> None:
    await intake.accept(received(namespace, *map(str, range(6))))

    assert await remembered(clickhouse, namespace, "5") == (True, True)


@pytest.fixture
async def over_http(
    clickhouse_shim: Shim, clickhouse_database: str
) -> AsyncIterator[tuple[Shim, ClickHouse]]:
    address = clickhouse_shim.address
    clickhouse = ClickHouse.server(
        f"http://default:@{address.host}:{address.port}/{clickhouse_database}"
    )
    await EventStore(clickhouse).migrate()
    yield clickhouse_shim, clickhouse
    await clickhouse.close()


async def test_what_waits_is_written_after_a_pause_and_tried_again_where_that_fails(
    over_http: tuple[Shim, ClickHouse], namespace: str
) -> None:
    shim, clickhouse = over_http
    recent = Recent(Seen(clickhouse), pause_seconds=0.01)
    shim.fail_inserts(before=1)
    await recent.remember([trace_of(namespace)], [trace_of(namespace)])
    async with asyncio.timeout(20):
        while await remembered(clickhouse, namespace, "1") != (True, True):
            pass  # asking takes its time
    await recent.close()


async def test_too_much_that_cannot_be_written_is_refused(
    over_http: tuple[Shim, ClickHouse], namespace: str
) -> None:
    shim, clickhouse = over_http
    recent = Recent(Seen(clickhouse), pause_seconds=NEVER, most=0)
    shim.fail_inserts(before=2)

    with pytest.raises(Unavailable):
        await recent.remember([trace_of(namespace)], [trace_of(namespace)])
    assert await recent.by_id([trace_of(namespace).id_hash]) != {}

    await recent.close()

    assert await remembered(clickhouse, namespace, "1") == (True, True)
