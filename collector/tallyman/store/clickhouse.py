"""The way to ClickHouse: a server over HTTP(S), or chDB in this process; the same calls for both.

It knows no table: see `event_schema.py` and `events.py`.
"""

import asyncio
import queue
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import (
    ClickHouseError,
    OperationalError,
    StreamFailureError,
)

from tallyman.errors import ConfigurationError, Unavailable
from tallyman.store.json_sql import quote
from tallyman.store.turns import Turns

T = TypeVar("T")
CONNECTIONS: Final = 4  # a client serialises its calls, so one for each call at a time
CONNECT_TIMEOUT_SECONDS: Final = 10
ANSWER_TIMEOUT_SECONDS: Final = 120
# Tables are partitioned by month: ClickHouse refuses a batch of more than 100 of them, every time.
ANY_MONTHS: Final = {"max_partitions_per_insert_block": 0}

# ClickHouse's error codes for what is over after a while; any other is a bug of ours or bad SQL.
_PASSING: Final = frozenset(
    {
        159,  # TIMEOUT_EXCEEDED
        164,  # READONLY, while a server is being switched over
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        203,  # NO_FREE_CONNECTION
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        225,  # NO_ZOOKEEPER
        236,  # ABORTED
        241,  # MEMORY_LIMIT_EXCEEDED
        242,  # TABLE_IS_READ_ONLY
        243,  # NOT_ENOUGH_SPACE
        252,  # TOO_MANY_PARTS
        279,  # ALL_CONNECTION_TRIES_FAILED
        285,  # TOO_FEW_LIVE_REPLICAS
        286,  # UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
        319,  # UNKNOWN_STATUS_OF_INSERT
        394,  # QUERY_WAS_CANCELLED
        425,  # SYSTEM_ERROR
        439,  # CANNOT_SCHEDULE_TASK
        745,  # SERVER_OVERLOADED
        999,  # KEEPER_EXCEPTION
    }
)
_CODE: Final = re.compile(r"\b[Cc]ode:? (\d{1,4})\b")
# What a server takes in a URL or a field of a form is 128 KiB; the query itself, as a body, may be longer.
_LONG_TEXT: Final = 1_000
# Of the connection, not of each call: chDB's driver reads and sets a call's settings by statements of their own.
_LONG_QUERY: Final = {
    "max_query_size": 1 << 28,
    "max_ast_elements": 1 << 22,
    "max_expanded_ast_elements": 1 << 22,
}
_PLACES: Final = re.compile(
    r"'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'|\{(?P<name>\w+):(?P<type>Array\(\w+\)|String)\}", re.DOTALL
)


class ClickHouse:
    """A pool of clients, each used by one thread at a time; the event loop never waits for one.

    `cluster` names the cluster that tables are made on; with `fsync` what is inserted survives a
    power loss too, not only kill -9. At `write_ahead_path` is what waits to be inserted: see
    `write_ahead.py`. Every call raises Unavailable for what is over after a while: the network, a
    time-out, a server under too much load. Retrying is the caller's business: an insert that failed so
    may have been stored.
    """

    def __init__(
        self,
        open_client: Callable[[], Client],
        *,
        connections: int = CONNECTIONS,
        cluster: str | None = None,
        fsync: bool = False,
        write_ahead_path: Path | None = None,
    ) -> None:
        self.cluster = cluster
        self.fsync = fsync
        self.write_ahead_path = write_ahead_path
        self._settle: Callable[[], Awaitable[None]] | None = None
        self._clients: queue.SimpleQueue[Client] = queue.SimpleQueue()
        self._all: list[Client] = []
        try:
            with _translated():
                for _ in range(connections):
                    self._all.append(open_client())
        except BaseException:
            for client in self._all:
                client.close()
            raise
        for client in self._all:
            self._clients.put(client)
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="clickhouse")
        self._turns = Turns(connections)

    @classmethod
    def embedded(cls, path: str) -> "ClickHouse":
        """Open a chDB directory; one process at a time may, and a process one at a time."""
        return cls(
            lambda: clickhouse_connect.get_client(
                interface="chdb", path=path, settings=_LONG_QUERY
            ),
            fsync=True,
            write_ahead_path=Path(f"{path.partition('?')[0]}-ahead.sqlite3"),
        )

    @classmethod
    def server(
        cls,
        dsn: str,
        *,
        cluster: str | None = None,
        connect_timeout_seconds: int = CONNECT_TIMEOUT_SECONDS,
        answer_timeout_seconds: int = ANSWER_TIMEOUT_SECONDS,
    ) -> "ClickHouse":
        """Connect to a server, e.g. `https://user:password@clickhouse:8443/tallyman`.

        `https` verifies the server's certificate; `?ca_cert=…` names another authority.

        Raises:
            ConfigurationError: it is no such URL.
            Unavailable: nothing answers there.
        """
        if not _is_http(dsn):
            raise ConfigurationError("clickhouse_url must be http://… or https://… with a host")
        return cls(
            lambda: clickhouse_connect.get_client(
                dsn=dsn,
                settings=_LONG_QUERY,
                autogenerate_session_id=False,
                connect_timeout=connect_timeout_seconds,
                send_receive_timeout=answer_timeout_seconds,
                query_retries=0,
            ),
            cluster=cluster,
        )

    def settle_first(self, settle: Callable[[], Awaitable[None]]) -> None:
        """Await `settle` before each query and command: they see what it waits for.

        Inserts do not wait, and `raw` does not.
        """
        self._settle = settle

    async def run(self, call: Callable[[Client], T]) -> T:
        """Run a call in a thread with a client of its own, when it is its caller's turn."""
        async with self._turns.one():
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._with, call)

    async def command(
        self,
        sql: str,
        parameters: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        """Run one statement that returns nothing; its parameters are short."""
        await self._settled()
        await self.run(lambda client: client.command(sql, parameters=parameters, settings=settings))

    async def rows(
        self,
        sql: str,
        parameters: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> list[Any]:
        """The rows of a query, each a tuple; parameters may be lists and texts of any length."""
        await self._settled()
        sql, parameters = _with_long_ones(sql, parameters or {})
        result = await self.run(
            lambda client: client.query(sql, parameters=parameters, settings=settings)
        )
        return list(result.result_rows)

    async def raw(self, sql: str, form: str, settings: dict[str, Any] | None = None) -> bytes:
        """What a query gives, in one of ClickHouse's formats; the driver does not read the query."""
        return await self.run(lambda client: client.raw_query(sql, settings=settings, fmt=form))

    async def insert(
        self, table: str, block: bytes, form: str, settings: dict[str, Any] | None = None
    ) -> None:
        """Insert rows in one of ClickHouse's formats; on return they are stored, or none is."""
        await self.run(
            lambda client: client.raw_insert(
                table, insert_block=block, fmt=form, settings={**ANY_MONTHS, **(settings or {})}
            )
        )

    async def _settled(self) -> None:
        if self._settle is not None:
            await self._settle()

    async def close(self) -> None:
        """Close every client; calls under way end first."""
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        for client in self._all:
            client.close()

    def _with(self, call: Callable[[Client], T]) -> T:
        with self._borrowed() as client, _translated():
            return call(client)

    @contextmanager
    def _borrowed(self) -> Iterator[Client]:
        client = self._clients.get()
        try:
            yield client
        finally:
            self._clients.put(client)


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, or a port that is no number
        return False


def _with_long_ones(sql: str, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The query with lists and long texts in it, and the parameters that are left."""
    long = {name: value for name, value in parameters.items() if _is_long(value)}
    if not long:
        return sql, dict(parameters)

    def put(place: re.Match[str]) -> str:
        value = long.get(place["name"] or "")
        if value is None:
            return place[0]
        if isinstance(value, str):
            return quote(value)
        items = ",".join(quote(one) if isinstance(one, str) else str(one) for one in value)
        return f"CAST({quote(f'[{items}]')} AS {place['type']})"

    return _PLACES.sub(put, sql), {
        name: value for name, value in parameters.items() if name not in long
    }


def _is_long(value: Any) -> bool:
    return len(value) > _LONG_TEXT if isinstance(value, str) else isinstance(value, list)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what is over after a while into Unavailable; let bugs through."""
    try:
        yield
    except (OSError, StreamFailureError) as err:
        raise Unavailable(f"ClickHouse did not answer: {type(err).__name__}") from err
    except ClickHouseError as err:
        code = _CODE.search(str(err))
        if (code is None and isinstance(err, OperationalError)) or (
            code is not None and int(code[1]) in _PASSING
        ):
            # The driver's text may quote what was asked or stored, and this goes on the wire.
            known_as = "" if code is None else f" (its code {code[1]})"
            raise Unavailable(f"ClickHouse does not answer now{known_as}") from err
        raise
