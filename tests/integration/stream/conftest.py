"""Owns the stores behind the consumer: chDB in this process, and ClickHouse over HTTP."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore

from tests.rigs.clickhouse import Shim
from tests.rigs.kafka import Kafka
from tests.rigs.stream import Stream


@pytest.fixture
async def stream(kafka: Kafka) -> Stream:
    """Two fresh topics; the one for events has four partitions."""
    stream = Stream(kafka, partitions=4)
    await stream.create()
    return stream


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EventStore]:
    """An empty chDB."""
    async for store in _migrated(ClickHouse.embedded(str(tmp_path / "chdb"))):
        yield store


@pytest.fixture
def http_store_name(clickhouse_shim: Shim) -> Iterator[str]:
    """The database of `http_store`."""
    with clickhouse_shim.address.database() as name:
        yield name


@pytest.fixture
async def http_store(clickhouse_shim: Shim, http_store_name: str) -> AsyncIterator[EventStore]:
    """An empty database on a server that can be made to fail."""
    address = clickhouse_shim.address
    login = f"{address.username}:{address.password}"
    url = f"http://{login}@{address.host}:{address.port}/{http_store_name}"
    async for store in _migrated(ClickHouse.server(url)):
        yield store


@pytest.fixture(params=["chdb", "http"])
def any_store(request: pytest.FixtureRequest) -> EventStore:
    """Each of the two."""
    name = "store" if request.param == "chdb" else "http_store"
    store: EventStore = request.getfixturevalue(name)
    return store


async def _migrated(clickhouse: ClickHouse) -> AsyncIterator[EventStore]:
    store = EventStore(clickhouse)
    await store.migrate()
    yield store
    await clickhouse.close()
