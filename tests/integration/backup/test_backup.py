"""Backups of the embedded directory: whole while it is used, checked, and whole again whatever is killed."""

import asyncio
import itertools
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal as D
from pathlib import Path

import msgspec
import pytest
from tallyman import connections
from tallyman.backup.backup import back_up
from tallyman.backup.restore import restore
from tallyman.billing.recount import recounted
from tallyman.config import Settings
from tallyman.data_directory import (
    create,
    database_path,
    events_path,
    locked,
    write_ahead_path,
)
from tallyman.domain.event import CloudEvent
from tallyman.errors import ConfigurationError, InvalidInput, NotFound
from tallyman.store.arrivals import Arrival
from tallyman.store.event_row import row
from tallyman.store.events import Accepted, EventStore, Received
from tallyman.store.incoming import Incoming
from tallyman.store.rollup import Rollup
from tallyman.store.write_ahead import WriteAhead

from tests.rigs.shop import COLLECTED, DECEMBER, NOVEMBER, Shop

DAY = timedelta(days=1)
KILLED = str(Path(__file__).with_name("killed_at.py"))


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Shop]:
    """The shop on a directory, as a server has it open."""
    with locked(directory):
        async with connections.open_books(Settings(data_dir=directory)) as books:
            yield Shop(books.database, books.quantities._clickhouse, "default")


async def fill(shop: Shop) -> None:
    """Acme used 15,000 tokens in November, and has the invoice."""
    await shop.plan(await shop.card())
    await shop.customer()
    await shop.subscribe()
    await shop.use(15_000, NOVEMBER + DAY)
    await shop.bill(DECEMBER + COLLECTED)


async def seen(directory: Path) -> tuple[int, list[D]]:
    """How many events and which invoices are there; each is counted again to the digit."""
    async with opened(directory) as shop:
        invoices = await shop.invoices()
        for invoice in invoices:
            assert await recounted(shop.books, invoice) == invoice.lines
        return await shop.events.count("default"), [one.totals.total for one in invoices]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one event and one invoice; not to be changed."""
    directory = tmp_path_factory.mktemp("filled") / "data"

    async def run() -> None:
        async with opened(directory) as shop:
            await fill(shop)

    asyncio.run(run())
    return directory


@pytest.fixture
def directory(filled: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    copy = tmp_path / "data"
    shutil.copytree(filled, copy, symlinks=True)
    return copy


@pytest.mark.parametrize("name", ["backup", "backup.tar"])
async def test_a_backup_of_what_is_in_use_is_restored_as_it_was(
    tmp_path: Path, directory: Path, name: str
) -> None:
    async with opened(directory) as shop:
        await shop.events.accept([event(1)])
        back_up(directory, tmp_path / name)
        await shop.events.accept([event(2)])

    manifest = restore(tmp_path / "other", tmp_path / name)

    assert await seen(tmp_path / "other") == (2, [D("0.03")])
    assert await seen(directory) == (3, [D("0.03")])
    assert manifest.files
    assert {at.name for at in (tmp_path / "other").iterdir()} == {
        "tallyman.sqlite3", "chdb-ahead.sqlite3", "chdb", "tallyman.lock"
    }  # fmt: skip


async def test_the_rollup_is_not_in_a_backup_and_is_computed_anew(
    tmp_path: Path, directory: Path
) -> None:
    async with opened(directory) as shop:
        await Rollup(shop.books.quantities._clickhouse).refresh()
        back_up(directory, tmp_path / "backup")
    restore(tmp_path / "other", tmp_path / "backup")

    async with opened(tmp_path / "other") as shop:
        clickhouse = shop.books.quantities._clickhouse
        rollup = Rollup(clickhouse)
        assert await clickhouse.rows("SELECT count() FROM rollup") == [(0,)]
        assert await rollup.changed("default", "llm.tokens") is None
        await rollup.refresh()
        assert await rollup.changed("default", "llm.tokens") == set()


@pytest.mark.parametrize("alone", [False, True])
async def test_a_backup_under_load_has_every_event_that_it_speaks_of(
    tmp_path: Path, directory: Path, alone: bool
) -> None:
    acknowledged, least = 0, []
    async with opened(directory) as shop:
        done = asyncio.Event()
        store = EventStore(shop.clickhouse, alone=alone)

        async def work() -> None:
            nonlocal acknowledged
            for number in itertools.count():
                await store.accept([event(number)])
                acknowledged += 1
                if done.is_set():
                    return

        task = asyncio.create_task(work())
        for number in range(2):
            least.append(1 + acknowledged)
            await asyncio.to_thread(back_up, directory, tmp_path / f"{number}")
        done.set()
        await task
        await store.close()
        there = await shop.events.count("default")

    counts = []
    for number in range(2):
        restore(tmp_path / f"data {number}", tmp_path / f"{number}")
        events, invoices = await seen(tmp_path / f"data {number}")
        counts.append(events)
        assert invoices == [D("0.03")]
        async with opened(tmp_path / f"data {number}") as shop:
            hashes = await shop.clickhouse.rows(
                "SELECT (SELECT uniqExact(id_hash) FROM seen) <= (SELECT uniqExact(id) FROM events)"
            )
            assert hashes == [(1,)]
    assert counts == sorted(counts)
    assert all(count >= there for count, there in zip(counts, least, strict=True))
    assert counts[-1] <= there


async def test_what_waits_for_clickhouse_is_in_a_backup_and_given_up_with_the_rest(
    tmp_path: Path, directory: Path
) -> None:
    async with opened(directory) as shop:
        ahead = WriteAhead(write_ahead_path(directory), Incoming(shop.clickhouse))
        await ahead.append([row(event(1), Arrival("d", 0))])
        back_up(directory, tmp_path / "with")
        await ahead.append([row(event(2), Arrival("d", 1)), row(event(3), Arrival("d", 2))])
        await ahead.close()

    restore(tmp_path / "other", tmp_path / "with")
    restore(directory, tmp_path / "with", replace=True)

    assert await seen(tmp_path / "other") == (2, [D("0.03")])
    assert await seen(directory) == (2, [D("0.03")])


async def test_a_backup_from_before_anything_waited_is_restored_without_it(
    tmp_path: Path, directory: Path
) -> None:
    back_up(directory, tmp_path / "without")
    async with opened(directory) as shop:
        ahead = WriteAhead(write_ahead_path(directory), Incoming(shop.clickhouse))
        await ahead.append([row(event(1), Arrival("d", 0))])
        await ahead.close()

    restore(directory, tmp_path / "without", replace=True)

    assert await seen(directory) == (1, [D("0.03")])


async def test_what_came_after_the_backup_comes_again_and_is_counted_once(
    tmp_path: Path, directory: Path
) -> None:
    async with opened(directory) as shop:
        before = [one async for one in received(shop, 3, 20_000)]
        back_up(directory, tmp_path / "backup")
        after = [one async for one in received(shop, 2, 40_000)]

    restore(directory, tmp_path / "backup", replace=True)

    async with opened(directory) as shop:
        again = await shop.events.accept([*before, *after])
        assert (again.new, again.known, again.conflicts) == (2, 3, ())
        assert await shop.events.accept([*before, *after]) == Accepted(0, 5, (), (0, 1, 2, 3, 4))
        assert await shop.events.count("default") == 6


async def received(shop: Shop, number: int, first: int) -> AsyncIterator[Received]:
    """So many events, stored; as they came."""
    for at in range(number):
        one = event(first + at)
        await shop.events.accept([one])
        yield one


def event(number: int) -> Received:
    """The same for the same number."""
    sent = CloudEvent(
        id=f"event {number}", source="kong", type="llm.tokens", subject="acme",
        time=NOVEMBER + DAY, data=msgspec.Raw(b'{"tokens": 1, "type": "request"}'),
    )  # fmt: skip
    return Received("default", sent, NOVEMBER + DAY)


def test_what_is_there_is_not_overwritten_unless_it_is_said(
    tmp_path: Path, directory: Path
) -> None:
    back_up(directory, tmp_path / "backup")

    with pytest.raises(InvalidInput, match="is there already"):
        back_up(directory, tmp_path / "backup")
    with pytest.raises(ConfigurationError, match="is not empty; --replace"):
        restore(directory, tmp_path / "backup")
    with pytest.raises(ConfigurationError, match="elsewhere than into data_dir"):
        back_up(directory, directory / "backup")
    with pytest.raises(NotFound, match="nothing is stored in"):
        back_up(tmp_path / "nowhere", tmp_path / "other")
    with pytest.raises(NotFound, match="there is no backup at"):
        restore(tmp_path / "other", tmp_path / "nowhere")
    with locked(directory), pytest.raises(ConfigurationError, match="another tallyman"):
        restore(directory, tmp_path / "backup", replace=True)


def test_a_backup_of_a_newer_version_is_refused(tmp_path: Path, directory: Path) -> None:
    with sqlite3.connect(database_path(directory)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    back_up(directory, tmp_path / "backup")

    with pytest.raises(InvalidInput, match="made by a newer version"):
        restore(tmp_path / "other", tmp_path / "backup")


async def test_a_damaged_backup_is_refused_and_changes_nothing(
    tmp_path: Path, directory: Path
) -> None:
    good = tmp_path / "good"
    back_up(directory, good)
    part = next(good.glob("chdb/store/*/*/*/data.bin"))

    def damaged(name: str) -> Path:
        return Path(shutil.copytree(good, tmp_path / name, symlinks=True))

    (damaged("changed") / part.relative_to(good)).write_bytes(part.read_bytes()[:-1] + b"x")
    (damaged("short") / part.relative_to(good)).write_bytes(part.read_bytes()[:-1])
    (damaged("missing") / part.relative_to(good)).unlink()
    (damaged("other manifest") / "MANIFEST.json").write_text("{}")
    (damaged("no manifest") / "MANIFEST.json").unlink()
    with tarfile.open(tmp_path / "whole.tar", "w") as archive:
        archive.add(good, arcname=".")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:20_000])

    for name in ("changed", "short", "missing", "other manifest", "no manifest", "cut.tar"):
        with pytest.raises(InvalidInput):
            restore(directory, tmp_path / name, replace=True)
    assert await seen(directory) == (1, [D("0.03")])


def steps(action: str, directory: Path, other: Path) -> list[str]:
    """The names of all steps, in their order."""
    command = [sys.executable, KILLED, action, str(directory), str(other)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def kill(action: str, directory: Path, other: Path, step: str) -> None:
    command = [sys.executable, KILLED, action, str(directory), str(other), step]
    assert subprocess.run(command, check=False).returncode == -9, step


@pytest.mark.parametrize("name", ["backup", "backup.tar"])
def test_a_backup_that_is_killed_is_there_whole_or_not_at_all(
    tmp_path: Path, directory: Path, name: str
) -> None:
    every = steps("back up", directory, tmp_path / "all" / name)
    before = files(directory)
    first = 0 if name == "backup" else every.index("target begun")  # until then they are the same

    for number, step in enumerate(every[first:], first):
        target = tmp_path / str(number) / name
        kill("back up", directory, target, step)

        assert target.exists() == (every.index("target in its place") <= number), step
        if target.exists():
            restore(tmp_path / str(number) / "data", target)
        else:
            back_up(directory, target)
        assert files(directory) == before, step


async def test_a_restore_that_is_killed_leaves_what_was_there_or_what_is_restored(
    tmp_path: Path, directory: Path
) -> None:
    backup, start = tmp_path / "backup", tmp_path / "start"
    back_up(directory, backup)
    async with opened(directory) as shop:
        await shop.events.accept([event(2)])
    shutil.copytree(directory, start, symlinks=True)
    every = steps("restore", directory, backup)

    for number, step in enumerate(every):
        shutil.rmtree(directory)
        shutil.copytree(start, directory, symlinks=True)
        kill("restore", directory, backup, step)
        create(directory)  # as every command does

        decided = every.index("decided") <= number
        expected = files(backup if decided else start)
        assert files(directory) == expected, step
    assert await seen(directory) == (1, [D("0.03")])


def files(directory: Path) -> dict[str, int]:
    """What is stored, with the sizes."""
    return {
        str(at.relative_to(directory)): at.stat().st_size
        for root in (database_path(directory), events_path(directory))
        for at in (root, *root.rglob("*"))
        if at.is_file() and not at.name.startswith("status")
    }
