"""Owns what is accepted and not yet in ClickHouse: it is on the disk at once, and moved there together.

It is for the one process that stores into chDB, where a few events cost as much to insert as hundreds. Whoever asks
ClickHouse waits until what was accepted before that has been moved; what a killed process leaves is
moved when the store is opened next. Moved twice, an event counts once.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from clickhouse_connect.driver.exceptions import ClickHouseError
from tallyman_kong.durable_step import durable

from tallyman.errors import Unavailable
from tallyman.store.incoming import Incoming
from tallyman.store.turns import asked_by

log = logging.getLogger(__name__)

T = TypeVar("T")
MOVED_AT_ONCE: Final = 32 << 20  # bytes; more where one batch has more
BUSY_SECONDS: Final = 60  # a backup reads the file
_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS ahead (
        number INTEGER PRIMARY KEY AUTOINCREMENT, rows BLOB NOT NULL, refused INTEGER NOT NULL
    )"""
_decode_rows: Final = msgspec.msgpack.Decoder(list[bytes]).decode


class WriteAhead:
    """A file of rows of `incoming`; used by one process at a time."""

    def __init__(self, path: Path, incoming: Incoming) -> None:
        """The file is made when there is something to keep."""
        self._path = path
        self._incoming = incoming
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write-ahead")
        self._connection: sqlite3.Connection | None = None
        self._moving = asyncio.Lock()
        self._newest = 0
        self._moved = 0

    @durable("ahead.append")
    async def append(self, rows: Sequence[bytes]) -> None:
        """Keep rows as `event_row.py` writes them anew; on return they are on the disk.

        Raises:
            Unavailable: they may be there.
        """
        number = await self._run(_append, msgspec.msgpack.encode(rows))
        self._newest = max(number, self._newest)

    async def settle(self) -> None:
        """Move what was appended before this call; on return it is in ClickHouse.

        A caller that goes away does not stop it halfway. What ClickHouse refuses is kept.

        Raises:
            Unavailable: some of it is not there.
        """
        if self._moved < self._newest:
            await asyncio.shield(asyncio.ensure_future(self._settle(self._newest)))

    async def recover(self) -> None:
        """Move what a process has left, and try again what was refused: a newer version may take it.

        Raises:
            Unavailable: some of it is not there.
        """
        if self._path.exists():
            self._newest = max(await self._run(_newest), self._newest)
            await self.settle()

    async def close(self) -> None:
        """Close the file, which the next call opens again."""
        if self._connection is not None:
            await self._run(sqlite3.Connection.close)
            self._connection = None

    async def _settle(self, newest: int) -> None:
        with asked_by(None):  # events wait for nobody's questions
            async with self._moving:
                await self._move(newest)

    async def _move(self, newest: int) -> None:
        while self._moved < newest:
            last, rows = await self._run(_oldest)
            if rows:
                await self._remove(last, await self._insert(rows))
            self._moved = last if rows else newest

    async def _insert(self, rows: Sequence[bytes]) -> list[bytes]:
        """Insert the rows, and return those that are refused."""
        try:
            await self._incoming.insert_json(rows)
        except ClickHouseError as err:
            if len(rows) > 1:
                half = len(rows) // 2
                return await self._insert(rows[:half]) + await self._insert(rows[half:])
            log.error(
                "ClickHouse refuses an event that was accepted (%s): it is kept in %s and not counted",
                type(err).__name__,
                self._path,
            )
            return [*rows]
        return []

    @durable("ahead.remove")
    async def _remove(self, last: int, refused: Sequence[bytes]) -> None:
        await self._run(_remove, last, refused)

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._with_file, work, *arguments
        )

    def _with_file(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            if self._connection is None:
                self._connection = _open(self._path)
            return work(self._connection, *arguments)
        except (sqlite3.Error, OSError) as err:
            raise Unavailable(f"{self._path.name} cannot be used: {err}") from err


def _open(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)  # who called what is nobody else's business
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # an fsync with each commit
        connection.execute(f"PRAGMA journal_size_limit = {MOVED_AT_ONCE}")
        connection.execute(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _append(connection: sqlite3.Connection, rows: bytes) -> int:
    made = connection.execute("INSERT INTO ahead (rows, refused) VALUES (?, 0)", (rows,))
    return made.lastrowid or 0


def _newest(connection: sqlite3.Connection) -> int:
    """The number of the newest rows, when those that were refused wait again."""
    connection.execute("UPDATE ahead SET refused = 0 WHERE refused")
    [(number,)] = connection.execute("SELECT coalesce(max(number), 0) FROM ahead")
    return int(number)


def _oldest(connection: sqlite3.Connection) -> tuple[int, list[bytes]]:
    """Some of the oldest rows, and the number up to which they go."""
    last, size, rows = 0, 0, []
    waiting = "SELECT number, rows FROM ahead WHERE NOT refused ORDER BY number"
    with closing(connection.execute(waiting)) as found:
        for number, blob in found:
            last, size = number, size + len(blob)
            rows += _decode_rows(blob)
            if size >= MOVED_AT_ONCE:
                break
    return last, rows


def _remove(connection: sqlite3.Connection, last: int, refused: Sequence[bytes]) -> None:
    """Forget what goes up to a number but what was refused of it."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM ahead WHERE number <= ? AND NOT refused", (last,))
        if refused:
            kept = msgspec.msgpack.encode(refused)
            connection.execute("INSERT INTO ahead (rows, refused) VALUES (?, 1)", (kept,))
