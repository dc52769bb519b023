"""The event store both ways in: chDB in this process, and ClickHouse over HTTP."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore

from tests.rigs.clickhouse import ClickHouse as Server


@pytest.fixture(scope="package", params=["embedded", "server"])
def clickhouse(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClickHouse]:
    """A ClickHouse with the tables in it; tests keep apart by their namespaces."""
    if request.param == "embedded":
        opened = ClickHouse.embedded(str(tmp_path_factory.mktemp("chdb")))
        asyncio.run(EventStore(opened).migrate())
        yield opened
        asyncio.run(opened.close())
        return
    server: Server = request.getfixturevalue("clickhouse_server")
    with server.database() as database:
        credentials = f"{server.username}:{server.password}"
        opened = ClickHouse.server(f"http://{credentials}@{server.host}:{server.port}/{database}")
        asyncio.run(EventStore(opened).migrate())
        yield opened
        asyncio.run(opened.close())


@pytest.fixture
async def empty(clickhouse_server: Server, clickhouse_database: str) -> AsyncIterator[ClickHouse]:
    """A database of its own, without tables."""
    credentials = f"{clickhouse_server.username}:{clickhouse_server.password}"
    address = f"{clickhouse_server.host}:{clickhouse_server.port}"
    opened = ClickHouse.server(f"http://{credentials}@{address}/{clickhouse_database}")
    yield opened
    await opened.close()


@pytest.fixture
def event_store(clickhouse: ClickHouse) -> EventStore:
    """The store as a process has it that has just started."""
    return EventStore(clickhouse)


@pytest.fixture
def namespace() -> str:
    """One that no other test has."""
    return f"ns-{uuid.uuid4().hex}"
