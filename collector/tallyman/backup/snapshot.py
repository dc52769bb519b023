"""A moment of a data directory, while a server may be writing it: its files, held still in a folder.

SQLite is copied under its write lock, so that what is decided there and then stored among the events is
in both or in neither; events are taken after it, so that nothing in it speaks of an event that is not
there. A part of the event store never changes once it is there, so a hard link holds it: what is taken
is what kill -9 would have left. `seen` is taken before `events`: an event that is remembered is stored. The
rollup is not taken: it is computed from the events. Where the files go is `archive.py`'s.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from tallyman import data_directory
from tallyman.errors import Unavailable

Step = Callable[[str], None]
LOCK_SECONDS: Final = 60  # for a change that is under way, such as a billing run's
# What is on its way in or out, and of no table that is read.
_PASSING: Final = ("tmp", "delete_tmp", "moving", "detached", "shadow", "deleting", "broken")
_LAST: Final = "events"
# Its hours and what says how far they are may not be of one moment; without either it is computed anew.
_DERIVED: Final = "rollup"


def take(directory: Path, folder: Path, step: Step) -> str:
    """Hold the directory's databases, as they are at one moment, in a new folder on the same disk.

    Returns the version of the relational tables.

    Raises:
        Unavailable: another process writes for too long, or SQLite's file is damaged.
    """
    folder.mkdir(mode=0o700)
    step("folder made")
    with _writes_held(data_directory.database_path(directory)):
        step("writes held")
        revision = _copy_database(
            data_directory.database_path(directory), data_directory.database_path(folder)
        )
        step("SQLite copied")
        ahead = data_directory.write_ahead_path(directory)
        if ahead.exists():  # before the events: what is moved meanwhile is in both
            _copy(ahead, data_directory.write_ahead_path(folder))
            step("what waits for ClickHouse copied")
        events = data_directory.events_path(directory)
        held = data_directory.events_path(folder)
        if events.exists():
            _link_events(events, held, step)
        else:
            held.mkdir()  # so that it takes the place of what is there, when it is restored
    step("writes let go")
    return revision


@contextmanager
def _writes_held(database: Path) -> Iterator[None]:
    """Nobody writes meanwhile; readers go on."""
    with closing(sqlite3.connect(database, isolation_level=None, timeout=LOCK_SECONDS)) as holder:
        try:
            holder.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as err:
            raise Unavailable(f"the database is being written to: {err}") from err
        try:
            yield
        finally:
            holder.execute("ROLLBACK")


def _copy_database(source: Path, target: Path) -> str:
    """Copy it, and return its version."""
    _copy(source, target)
    with closing(sqlite3.connect(target)) as copy:
        [(revision,)] = copy.execute("SELECT version_num FROM alembic_version").fetchall()
        return str(revision)


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode=DELETE")  # one file
        [(found,)] = writing.execute("PRAGMA quick_check(1)").fetchall()
        if found != "ok":
            raise Unavailable(f"{source.name} is damaged, and is not backed up: {found}")


def _link_events(source: Path, target: Path, step: Step) -> None:
    """The tables' parts, `events` last; then what says which tables there are."""
    tables = sorted(source.glob("data/*/*"), key=lambda table: table.name == _LAST)
    stores = [table.resolve() for table in tables]
    target.mkdir()
    for table, store in zip(tables, stores, strict=True):
        there = target / store.relative_to(source.resolve())
        _link_table(store, there, with_parts=table.name != _DERIVED)
        step(f"table {table.name} linked")
    taken = set(stores)
    for at, folders, files in os.walk(source):
        here = Path(at)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(_PASSING) and (here / name).resolve() not in taken
        ]
        there = target / here.relative_to(source)
        there.mkdir(parents=True, exist_ok=True)
        for name in (*files, *folders):
            if (here / name).is_symlink():
                (there / name).symlink_to(os.readlink(here / name))
            elif name in files:
                shutil.copy2(here / name, there / name)
    for table in tables:  # walking does not go through links, nor into what is taken
        link = target / table.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        if table.is_symlink() and not link.is_symlink():
            link.symlink_to(os.readlink(table))
    step("tables named")


def _link_table(source: Path, target: Path, *, with_parts: bool) -> None:
    target.mkdir(parents=True)
    for entry in sorted(source.iterdir()):
        if entry.name.startswith(_PASSING):
            continue
        if entry.is_dir():
            if not with_parts:
                continue
            _link_part(entry, target / entry.name)
        else:
            with suppress(FileNotFoundError):  # of a change that is over meanwhile
                shutil.copy2(entry, target / entry.name)


def _link_part(source: Path, target: Path) -> None:
    """A part that goes meanwhile has been replaced minutes ago by one that is there too."""
    try:
        for at, _, files in os.walk(source, onerror=_raise):
            there = target / Path(at).relative_to(source)
            there.mkdir()
            for name in files:
                os.link(Path(at) / name, there / name)
        if not (target / "checksums.txt").exists():
            raise FileNotFoundError(target)
    except FileNotFoundError:
        shutil.rmtree(target, ignore_errors=True)


def _raise(err: OSError) -> None:
    raise err
