"""A shop for each test of billing: real stores, chDB for its events, SQLite or Postgres for the rest."""

import asyncio
import uuid
from collections.abc import Iterator

import pytest
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.database import Database
from tallyman.store.events import EventStore

from tests.rigs.shop import Shop


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """A chDB with the tables in it; tests keep apart by their namespaces.

    It closes after each file: a process has one chDB directory open at a time.
    """
    opened = ClickHouse.embedded(str(tmp_path_factory.mktemp("chdb")))
    asyncio.run(EventStore(opened).migrate())
    yield opened
    asyncio.run(opened.close())


@pytest.fixture
async def shop(database: Database, clickhouse: ClickHouse) -> Shop:
    """An empty shop of a namespace that no other test has."""
    return Shop(database, clickhouse, f"ns-{uuid.uuid4().hex}")
