"""Owns an event store for the tests of billing: chDB in this process, tests apart by namespace."""

import asyncio
from collections.abc import Iterator

import pytest
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """A chDB with the tables in it."""
    opened = ClickHouse.embedded(str(tmp_path_factory.mktemp("chdb")))
    asyncio.run(EventStore(opened).migrate())
    yield opened
    asyncio.run(opened.close())
