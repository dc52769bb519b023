"""The event tables come from any version to the newest, also by several processes at once."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from tallyman import connections
from tallyman.config import Settings
from tallyman.store import event_schema
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.event_schema import MIGRATIONS, Layout, migrate
from tallyman.store.events import EventStore

from tests.rigs.clickhouse import ClickHouse as Server


@pytest.fixture
async def empty(clickhouse_server: Server, clickhouse_database: str) -> AsyncIterator[ClickHouse]:
    credentials = f"{clickhouse_server.username}:{clickhouse_server.password}"
    address = f"{clickhouse_server.host}:{clickhouse_server.port}"
    opened = ClickHouse.server(f"http://{credentials}@{address}/{clickhouse_database}")
    yield opened
    await opened.close()


async def test_the_settings_name_the_cluster_that_tables_are_made_on(
    clickhouse_server: Server, clickhouse_database: str
) -> None:
    address = f"{clickhouse_server.host}:{clickhouse_server.port}"
    url = f"http://{clickhouse_server.username}:{clickhouse_server.password}@{address}/{clickhouse_database}"
    opened = connections.open_clickhouse(
        Settings(clickhouse_url=SecretStr(url), clickhouse_cluster="fleet")
    )

    assert opened.cluster == "fleet"

    await opened.close()


async def tables(clickhouse: ClickHouse) -> set[str]:
    return {row[0] for row in await clickhouse.rows("SHOW TABLES")}


NEWEST = {
    "changes_to_events",
    "dropped",
    "events",
    "incoming",
    "incoming_changes",
    "incoming_to_events",
    "reconciliation",
    "rollup",
    "schema_version",
    "seen",
    "seen_by_id",
}


@pytest.mark.parametrize("version", range(len(MIGRATIONS) + 1))
async def test_every_version_comes_to_the_newest(
    empty: ClickHouse, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(event_schema, "MIGRATIONS", MIGRATIONS[:version])
        await migrate(empty, Layout())

    assert await migrate(empty, Layout()) == len(MIGRATIONS)
    assert await tables(empty) == NEWEST


async def test_processes_that_start_at_once_may_all_migrate(empty: ClickHouse) -> None:
    await asyncio.gather(*(EventStore(empty).migrate() for _ in range(4)))

    assert await tables(empty) == NEWEST
    assert await EventStore(empty).count("default") == 0


async def test_a_migration_that_was_cut_off_is_done_again(empty: ClickHouse) -> None:
    for statement in MIGRATIONS[0](Layout())[:2]:
        await empty.command(statement)

    await EventStore(empty).migrate()

    assert await tables(empty) == NEWEST
