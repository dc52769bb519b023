"""Owns the relational stores as fixtures: one suite runs on SQLite and on Postgres."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from tallyman.store.database import Database

from tests.rigs.postgres import postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A Postgres for the whole run."""
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An empty, migrated database."""
    if request.param == "sqlite":
        database = Database.sqlite(tmp_path / "tallyman.sqlite3")
    else:
        url = request.getfixturevalue("postgres_url")
        connection = await asyncpg.connect(url)
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await connection.close()
        database = Database.postgres(url)
    await database.migrate()
    yield database
    await database.close()
