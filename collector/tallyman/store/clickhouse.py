"""The way to ClickHouse: a server over HTTP(S), or chDB in this process; the same calls for both.

It knows no table: see `event_schema.py` and `events.py`.
"""

import asyncio
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import clickhouse_connect
from clickhouse_connect.driver.client import Client

T = TypeVar("T")
CONNECTIONS = 4  # a client serialises its calls, so one for each call at a time


class ClickHouse:
    """A pool of clients, each used by one thread at a time; the event loop never waits for one."""

    def __init__(self, open_client: Callable[[], Client], connections: int = CONNECTIONS) -> None:
        self._clients: queue.SimpleQueue[Client] = queue.SimpleQueue()
        self._all = [open_client() for _ in range(connections)]
        for client in self._all:
            self._clients.put(client)
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="clickhouse")

    @classmethod
    def embedded(cls, path: str) -> "ClickHouse":
        """Open a chDB directory; one process at a time may."""
        return cls(lambda: clickhouse_connect.get_client(interface="chdb", path=path))

    @classmethod
    def server(cls, dsn: str) -> "ClickHouse":
        """Connect to a server, e.g. `https://user:password@clickhouse:8443/tallyman`."""
        return cls(lambda: clickhouse_connect.get_client(dsn=dsn, autogenerate_session_id=False))

    async def run(self, call: Callable[[Client], T]) -> T:
        """Run a call in a thread with a client of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._with, call)

    async def command(self, sql: str, parameters: dict[str, Any] | None = None) -> None:
        """Run one statement that returns nothing."""
        await self.run(lambda client: client.command(sql, parameters=parameters))

    async def rows(self, sql: str, parameters: dict[str, Any] | None = None) -> list[Any]:
        """The rows of a query, each a tuple."""
        result = await self.run(lambda client: client.query(sql, parameters=parameters))
        return list(result.result_rows)

    async def insert_json(self, table: str, lines: bytes, settings: dict[str, Any]) -> None:
        """Insert JSONEachRow lines; on return they are stored."""
        await self.run(
            lambda client: client.raw_insert(
                table, insert_block=lines, fmt="JSONEachRow", settings=settings
            )
        )

    async def close(self) -> None:
        """Close every client; calls under way end first."""
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        for client in self._all:
            client.close()

    def _with(self, call: Callable[[Client], T]) -> T:
        with self._borrowed() as client:
            return call(client)

    @contextmanager
    def _borrowed(self) -> Iterator[Client]:
        client = self._clients.get()
        try:
            yield client
        finally:
            self._clients.put(client)
