"""The SQLite file under the spool: opening it, transactions, setting a corrupt one aside.

It does not know what the rows mean to the sender; the statements on them are in `spool.py`.

Several processes use one file: the server, the sender, the metrics page, and in a rolling restart
two of each.
"""

import fcntl
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from tallyman_kong.durable_step import durable

log = logging.getLogger("tallyman_kong.spool")

BUSY_SECONDS = 5.0
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    position INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL,
    appended_at REAL NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS event_by_sink ON event (sink);
CREATE TABLE IF NOT EXISTS set_aside (
    position INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL,
    set_aside_at REAL NOT NULL, reason TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sink (id TEXT PRIMARY KEY, settings TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (
    name TEXT, labels TEXT, value INTEGER NOT NULL, PRIMARY KEY (name, labels)) WITHOUT ROWID;
"""
# Where a new file's positions begin: what a sender still holds of a file that was set aside must
# not be an event of this one, or its acknowledgement would delete an event that nobody has sent.
FIRST_POSITION = """
INSERT INTO sqlite_sequence (name, seq)
    SELECT 'event', {} WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'event');
"""
OF_NO_SINK = "SELECT 1 FROM event WHERE sink NOT IN (SELECT id FROM sink) LIMIT 1"
OF_ANOTHER_TYPE = """
SELECT 1 FROM event
    WHERE typeof(sink) <> 'text' OR typeof(appended_at) <> 'real' OR typeof(body) <> 'text'
UNION ALL SELECT 1 FROM set_aside
    WHERE typeof(sink) <> 'text' OR typeof(set_aside_at) <> 'real' OR typeof(body) <> 'text'
UNION ALL SELECT 1 FROM counter WHERE typeof(value) <> 'integer' LIMIT 1
"""
ROTTEN = ("no such column", "no such table", "has no column named", "Could not decode to UTF-8")
T = TypeVar("T")


class SpoolError(Exception):
    """The spool file cannot be used, and setting it aside would not help."""


class SpoolFile:
    """One process's connection to the spool file; used from one thread at a time.

    Opens anew when another process has set the file aside; sets it aside itself, once, when SQLite
    says that it is corrupt.
    """

    def __init__(self, path: Path, *, survives_power_loss: bool) -> None:
        """Open the file, or make it; `survives_power_loss` is an fsync per commit.

        Raises:
            SpoolError: it cannot be opened, or a newer version wrote it.
        """
        self._path = path
        self._synchronous = "FULL" if survives_power_loss else "NORMAL"
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        try:
            self.read(lambda _: None)
        except (sqlite3.Error, OSError) as err:
            raise SpoolError(f"the spool {path} cannot be opened: {err}") from err

    def check(self) -> None:
        """Read the whole file: mend an index that does not hold every row, set the file aside if it is corrupt."""
        if not self.read(_is_whole):
            self.write(_mend)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in one transaction that excludes all other writers.

        It may be called twice, the second time on a new file.

        Raises:
            sqlite3.OperationalError: the disk is full, or the file is locked for long.
        """
        return self._do(work, begin="BEGIN IMMEDIATE")

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self._do(work, begin="BEGIN")

    def close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _do(self, work: Callable[[sqlite3.Connection], T], begin: str) -> T:
        try:
            return self._try(work, begin)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as err:
            if not (_is_corruption(err) or _says_read_only(err, self._path)):
                raise
            self._set_aside(str(err))
        return self._try(work, begin)

    def _try(self, work: Callable[[sqlite3.Connection], T], begin: str) -> T:
        connection = self._current()
        connection.execute(begin)
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return result

    def _current(self) -> sqlite3.Connection:
        if self._connection is not None and _inode_of(self._path) != self._inode:
            self.close()  # SQLite leaves the files of that name alone, for they are not its own
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Never between another process's renames, which would leave the new file an old WAL.
            with self._locked():
                if not self._path.exists():
                    self._path.touch(mode=0o600)  # who called what is nobody else's business
                self._inode = _inode_of(self._path)
                self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                return self._try_to_open()
            except sqlite3.OperationalError as err:
                # SQLite does not wait for its lock where a file is just becoming a WAL file.
                if err.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def _try_to_open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA journal_size_limit = 67108864")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise SpoolError(
                    f"the spool {self._path} was written by a newer version (format {version})"
                )
            if version < SCHEMA_VERSION:
                first = FIRST_POSITION.format(secrets.randbits(30) << 32)
                connection.executescript(f"BEGIN IMMEDIATE;{SCHEMA}{first}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    @durable("spool.set_corrupt_aside")
    def _set_aside(self, reason: str) -> None:
        found_corrupt = self._inode
        with self._locked():
            if _inode_of(self._path) == found_corrupt:
                stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
                aside = f"{self._path}.corrupt-{stamp}"
                for suffix in ("-wal", "-shm", ""):
                    with suppress(FileNotFoundError):
                        os.rename(f"{self._path}{suffix}", f"{aside}{suffix}")
                log.error(
                    "the spool file is corrupt (%s): set aside as %s, and a new one begun. Events "
                    "in it that were not yet sent are missing: replay Kong's log for that time",
                    reason,
                    aside,
                )
        self.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = open_lock(self._path, ".lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def open_lock(spool: Path, suffix: str) -> int:
    """The descriptor of a lock file beside the spool."""
    return os.open(f"{spool}{suffix}", os.O_RDWR | os.O_CREAT, 0o600)


def replace_file(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file so that a reader, or a crash, finds the old one or the new one, and it stays."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.fchmod(descriptor, mode)
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(partial, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _is_corruption(err: sqlite3.DatabaseError | UnicodeDecodeError) -> bool:
    """Whether SQLite says so, or the file's rows or schema are not what we wrote: bits that rotted."""
    if isinstance(err, sqlite3.IntegrityError | UnicodeDecodeError):
        return True
    code = getattr(err, "sqlite_errorcode", None)
    said = str(err)
    return (
        code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    ) or any(sign in said for sign in ROTTEN)


def _says_read_only(err: sqlite3.DatabaseError | UnicodeDecodeError, path: Path) -> bool:
    """Whether it is the file that says so, by a rotten byte of its header, and not who owns it or its disk."""
    code = getattr(err, "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_READONLY and os.access(path, os.W_OK)


def _is_whole(connection: sqlite3.Connection) -> bool:
    """Whether every index holds its table's rows; raises where a table is corrupt."""
    found = _found(connection, "integrity_check")
    if found != "ok" and (in_tables := _found(connection, "quick_check")) != "ok":
        raise corruption(in_tables)
    if connection.execute(OF_ANOTHER_TYPE).fetchone() is not None:
        raise corruption("a value is of another type than was written")
    return found == "ok"


def _mend(connection: sqlite3.Connection) -> None:
    """Make the indexes anew; one transaction, so whoever is killed in it has the old ones."""
    if _is_whole(connection):  # another process was here before
        return
    connection.execute("REINDEX")
    if (found := _found(connection, "integrity_check")) != "ok":
        raise corruption(found)
    # It may be the row that is wrong, not the index: then no sink would ever send it.
    if connection.execute(OF_NO_SINK).fetchone() is not None:
        raise corruption("an event is of no sink")
    log.warning("an index of the spool file was corrupt, and is made anew: no event is missing")


def _found(connection: sqlite3.Connection, check: str) -> str:
    """What is wrong first, or `ok`; an integrity check sees the indexes' content too."""
    return str(connection.execute(f"PRAGMA {check}(1)").fetchone()[0])


def corruption(text: str) -> sqlite3.DatabaseError:
    """What `read` and `write` set the file aside for, where it is not SQLite that finds it."""
    err = sqlite3.DatabaseError(text)
    err.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return err


def _inode_of(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
