"""What is accepted and not yet in ClickHouse: on the disk, seen by whoever asks, and moved once."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tallyman.domain.event import parse_event
from tallyman.errors import Unavailable
from tallyman.store.arrivals import Arrival
from tallyman.store.clickhouse import CONNECTIONS, ClickHouse
from tallyman.store.event_row import row
from tallyman.store.events import EventStore
from tallyman.store.incoming import Incoming
from tallyman.store.intake import Intake
from tallyman.store.received import Received
from tallyman.store.recent import Recent
from tallyman.store.seen import Seen, id_hash
from tallyman.store.turns import asked_by
from tallyman.store.write_ahead import WriteAhead

from tests.rigs.clickhouse import Shim

AT = datetime(2026, 11, 21, 9, 24, tzinfo=UTC)
NEVER = 3600.0


class Door:
    """A way in of its own, over HTTP, that a test can let fail."""

    def __init__(self, shim: Shim, clickhouse: ClickHouse, namespace: str, path: Path) -> None:
        self.shim = shim
        self.clickhouse = clickhouse
        self.namespace = namespace
        self.path = path
        self.ahead = WriteAhead(path, Incoming(clickhouse))
        self.recent = Recent(Seen(clickhouse), self.ahead, pause_seconds=NEVER)
        self.intake = Intake(clickhouse, self.recent, self.ahead)
        clickhouse.settle_first(self.ahead.settle)

    def received(self, *ids: str) -> list[Received]:
        bodies = [
            {"id": id_, "source": "s", "type": "t", "subject": "acme", "time": AT.isoformat()}
            for id_ in ids
        ]
        return [
            Received(self.namespace, parse_event(json.dumps(body).encode()), AT) for body in bodies
        ]

    def rows(self, *ids: str) -> list[bytes]:
        return [row(one, Arrival("d", at)) for at, one in enumerate(self.received(*ids))]

    async def moved(self) -> int:
        """How many rows are in ClickHouse, which is not made to wait for any."""
        sql = f"SELECT count() FROM events WHERE namespace = '{self.namespace}'"
        return int(await self.clickhouse.raw(sql, "TabSeparated"))

    async def counted(self) -> int:
        return await EventStore(self.clickhouse).count(self.namespace)

    async def remembered(self, id_: str) -> bool:
        hash_ = id_hash(self.namespace, "s", id_)
        return hash_ in await Seen(self.clickhouse).by_id([hash_])


@pytest.fixture
async def door(
    clickhouse_shim: Shim, clickhouse_database: str, namespace: str, tmp_path: Path
) -> AsyncIterator[Door]:
    address = clickhouse_shim.address
    clickhouse = ClickHouse.server(
        f"http://default:@{address.host}:{address.port}/{clickhouse_database}"
    )
    await EventStore(clickhouse).migrate()
    opened = Door(clickhouse_shim, clickhouse, namespace, tmp_path / "ahead.sqlite3")
    yield opened
    clickhouse_shim.fail_inserts()
    await opened.recent.close()
    await opened.ahead.close()
    await clickhouse.close()


async def test_what_is_accepted_is_moved_together_and_seen_by_whoever_asks(door: Door) -> None:
    for id_ in ("1", "2", "3"):
        assert (await door.intake.accept(door.received(id_))).new == 1
    before = await door.moved()

    assert await door.counted() == 3
    assert (before, await door.moved()) == (0, 3)


async def test_a_commit_waits_for_the_disk(door: Door) -> None:
    """A power failure cannot be made here: it is looked up in the file."""
    await door.ahead.append(door.rows("1"))

    def said(of: str) -> object:
        assert door.ahead._connection is not None
        return door.ahead._connection.execute(f"PRAGMA {of}").fetchone()[0]

    assert (said("journal_mode"), said("synchronous")) == ("wal", 2)
    assert door.path.stat().st_mode & 0o777 == 0o600


async def test_what_a_process_left_is_moved_by_the_next_one(door: Door) -> None:
    await door.ahead.append(door.rows("1", "2"))
    await door.ahead.append(door.rows("3"))

    after = WriteAhead(door.path, Incoming(door.clickhouse))
    await after.recover()
    await after.close()

    assert await door.moved() == 3


async def test_after_what_a_process_left_more_is_moved(door: Door) -> None:
    await door.ahead.append(door.rows("1", "2"))

    after = Door(door.shim, door.clickhouse, door.namespace, door.path)
    await after.ahead.recover()
    await after.ahead.append(after.rows("3"))

    assert await after.counted() == 3
    await after.ahead.close()


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_what_could_not_be_moved_is_unavailable_and_counts_once_when_it_is(
    door: Door, fault: str
) -> None:
    await door.intake.accept(door.received("1", "2"))
    door.shim.fail_inserts(**{fault: 1})

    with pytest.raises(Unavailable):
        await door.counted()

    assert await door.counted() == 2


async def test_a_reader_that_goes_away_does_not_stop_the_move_halfway(door: Door) -> None:
    await door.ahead.append(door.rows("1"))
    asking = asyncio.create_task(door.ahead.settle())
    await asyncio.sleep(0)  # it has begun
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    async with asyncio.timeout(20):
        while await door.moved() == 0:
            pass  # asking takes its time


async def test_an_event_is_not_remembered_before_it_is_in_clickhouse(door: Door) -> None:
    await door.intake.accept(door.received("1"))
    door.shim.fail_inserts(before=1)

    with pytest.raises(Unavailable):
        await door.recent.write()
    assert not await door.remembered("1")

    await door.recent.write()
    assert await door.remembered("1")
    assert await door.moved() == 1


async def test_where_the_file_cannot_be_written_nothing_is_accepted(
    door: Door, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "not" / "there"
    away = Door(door.shim, door.clickhouse, door.namespace, elsewhere)

    with pytest.raises(Unavailable, match="there cannot be used"):
        await away.intake.accept(away.received("1"))
    elsewhere.parent.mkdir()
    again = await away.intake.accept(away.received("1"))

    assert again.new == 1
    assert await away.counted() == 1
    await away.ahead.close()


async def test_events_are_moved_while_a_key_waits_behind_its_own_questions(door: Door) -> None:
    await door.intake.accept(door.received("1"))
    async with AsyncExitStack() as questions:
        with asked_by("flood"):
            for _ in range(CONNECTIONS // 2):
                await questions.enter_async_context(door.clickhouse._turns.one())
            async with asyncio.timeout(20):
                await door.ahead.settle()

    assert await door.moved() == 1


@contextmanager
def files_may_grow_to(size: int) -> Iterator[None]:
    """As far as SQLite can tell, the disk is full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_takes_nothing_more_and_loses_nothing(door: Door) -> None:
    accepted = 0
    with files_may_grow_to(100_000):
        try:
            while accepted < 1_000:
                await door.intake.accept(door.received(str(accepted)))
                accepted += 1
        except Unavailable as err:
            assert "cannot be used" in str(err)  # noqa: PT017 – how far it came is asked below
    await door.intake.accept(door.received(str(accepted)))

    assert 1 < accepted < 1_000
    assert await door.counted() == accepted + 1


async def test_what_clickhouse_refuses_keeps_nothing_back_and_is_tried_by_the_next_process(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    bad = door.rows("bad")[0].replace(b'"time":"2026', b'"time":"never 2026')
    await door.ahead.append([*door.rows("1", "2"), bad, *door.rows("3")])

    assert await door.counted() == 3
    assert "kept in" in caplog.text

    caplog.clear()
    await door.ahead.append(door.rows("4"))
    assert await door.counted() == 4
    assert not caplog.text

    after = WriteAhead(door.path, Incoming(door.clickhouse))
    await after.recover()
    await after.close()
    assert "kept in" in caplog.text
