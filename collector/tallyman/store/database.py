"""The way to the relational store: SQLite in a file, or Postgres; the same statements for both.

It knows no table but to migrate them: see `meters.py` and `api_keys.py`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec
from alembic import command
from alembic.config import Config
from asyncpg import InterfaceError, PostgresError
from sqlalchemy import Connection, Insert, Table, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, TimeoutError
from sqlalchemy.exc import InterfaceError as AdaptedInterfaceError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from tallyman.errors import ConfigurationError, Unavailable
from tallyman.store.turns import asked_by

CONNECT_SECONDS = 10
COMMAND_SECONDS = 30
BUSY_TIMEOUT_MS = 5000  # `tallyman keys` writes beside a running server
# SQLite: locked for too long, no disk space, the file cannot be opened.
UNAVAILABLE = (OperationalError, AdaptedInterfaceError)
MIGRATION_LOCK = 0x7A11_9A4E  # any number, the same in every version


class Database:
    """An engine with its connections."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._joined: ContextVar[AsyncConnection | None] = ContextVar("joined", default=None)

    @classmethod
    def sqlite(cls, file: Path) -> "Database":
        """Open the file, in WAL mode, and create it if it is not there."""
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{file}", hide_parameters=True, json_serializer=_json
        )
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return cls(engine)

    @classmethod
    def postgres(cls, url: str) -> "Database":
        """Connect to Postgres, `postgresql://user:password@host:port/name`.

        Raises:
            ConfigurationError: it is no such URL.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as err:
            raise ConfigurationError("database_url is no URL") from err
        if parsed.get_backend_name() not in ("postgresql", "postgres"):
            raise ConfigurationError("database_url must begin with postgresql://")
        return cls(
            create_async_engine(
                parsed.set(drivername="postgresql+asyncpg"),
                pool_pre_ping=True,
                hide_parameters=True,
                json_serializer=_json,
                connect_args={"timeout": CONNECT_SECONDS, "command_timeout": COMMAND_SECONDS},
            )
        )

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads.

        Raises:
            Unavailable: the database does not answer.
        """
        async with self._transaction(writes=False) as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at the end of the block; SQLite has one at a time.

        Raises:
            Unavailable: the database does not answer, or another process writes for too long.
        """
        async with self._transaction(writes=True) as connection:
            yield connection

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """One transaction for all that the block reads and writes: everything is kept, or nothing.

        The block must not start tasks that use the database. What it asks the event store waits for no
        turn, since others may wait for the transaction.

        Raises:
            Unavailable: the database does not answer, or another process writes for too long.
        """
        async with self.writing() as connection:
            token = self._joined.set(connection)
            try:
                with asked_by(None):
                    yield
            finally:
                self._joined.reset(token)

    @asynccontextmanager
    async def _transaction(self, *, writes: bool) -> AsyncIterator[AsyncConnection]:
        joined = self._joined.get()
        if joined is not None:
            yield joined
            return
        try:
            async with self._engine.execution_options(writes=writes).begin() as connection:
                yield connection
        except (OSError, PostgresError, InterfaceError, TimeoutError) as err:
            raise Unavailable(f"the database does not answer: {type(err).__name__}") from err
        except DBAPIError as err:
            if err.connection_invalidated or isinstance(err, UNAVAILABLE):
                raise Unavailable("the database does not answer") from err
            raise

    async def check(self) -> None:
        """Ask for nothing.

        Raises:
            Unavailable: the database does not answer.
        """
        async with self.reading() as connection:
            await connection.execute(text("SELECT 1"))

    async def migrate(self) -> None:
        """Bring the tables to the newest version; several servers may do so at once."""
        async with self.writing() as connection:
            if connection.dialect.name == "postgresql":
                await connection.execute(
                    text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK}
                )
            await connection.run_sync(_upgrade)

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


def upsert(connection: AsyncConnection, table: Table) -> Any:
    """An INSERT that can take `ON CONFLICT`, for the connection's database."""
    statement: Insert
    if connection.dialect.name == "sqlite":
        statement = sqlite.insert(table)
    else:
        statement = postgresql.insert(table)
    return statement


def _json(value: Any) -> str:
    """Values of the domain too: numbers as text, to the last digit."""
    return msgspec.json.encode(value).decode()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # Transactions are begun below: the driver's own begin comes only before a write.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that began as a reader fails at its first write if another wrote meanwhile.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
