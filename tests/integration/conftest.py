"""Owns the relational stores as fixtures: one suite runs on SQLite and on Postgres.

Migrating takes longer than most tests: it is done once, and each test gets a copy.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tallyman.store.database import Database

from tests.rigs.postgres import postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A Postgres for the whole run."""
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with every table, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "tallyman.sqlite3"
    _migrate(Database.sqlite(path))
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> str:
    """The name of a database with every table, to be copied."""
    _run(_execute(postgres_url, "CREATE DATABASE migrated"))
    _migrate(Database.postgres(_beside(postgres_url, "migrated")))
    return "migrated"


@pytest.fixture(params=["sqlite", "postgres"])
async def database(
    request: pytest.FixtureRequest, tmp_path: Path, migrated_sqlite: Path
) -> AsyncIterator[Database]:
    """An empty, migrated database."""
    if request.param == "sqlite":
        copy = tmp_path / "tallyman.sqlite3"
        shutil.copyfile(migrated_sqlite, copy)
        database = Database.sqlite(copy)
    else:
        url = request.getfixturevalue("postgres_url")
        template = request.getfixturevalue("migrated_postgres")
        await _execute(url, "DROP DATABASE IF EXISTS copy WITH (FORCE)")
        await _execute(url, f"CREATE DATABASE copy TEMPLATE {template} STRATEGY FILE_COPY")
        database = Database.postgres(_beside(url, "copy"))
    yield database
    await database.close()


def _beside(url: str, name: str) -> str:
    """Another database of the same server."""
    return f"{url.rpartition('/')[0]}/{name}"


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


def _migrate(database: Database) -> None:
    async def migrate() -> None:
        await database.migrate()
        await database.close()

    _run(migrate())


def _run(work: Coroutine[Any, Any, None]) -> None:
    with ThreadPoolExecutor(1) as thread:  # the test that asks first has a loop under way
        thread.submit(asyncio.run, work).result()
