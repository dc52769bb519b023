"""The event tables come from any version to the newest, also by several processes at once."""

import asyncio
import json
import random
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr
from tallyman import connections
from tallyman.config import Settings
from tallyman.domain.event import CloudEvent
from tallyman.domain.event_change import ChangeKind, EventChange
from tallyman.domain.meter import DimensionFilter, MeterQuery
from tallyman.store import event_schema
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.event_schema import MIGRATIONS, Layout, migrate
from tallyman.store.events import EventStore, Received
from tallyman.store.incoming import INSERT_SETTINGS

from tests.rigs.clickhouse import ClickHouse as Server
from tests.rigs.meters import tokens_meter


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
    "changed_namespaces",
    "changes_to_events",
    "changes_to_namespaces",
    "dropped",
    "events",
    "incoming",
    "incoming_changes",
    "incoming_read",
    "incoming_to_events",
    "read_to_events",
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


async def test_a_batch_of_events_is_one_file_and_what_was_merged_of_many_a_file_a_column(
    empty: ClickHouse,
) -> None:
    await migrate(empty, Layout())
    await empty.command("SYSTEM STOP MERGES events")
    for first in range(0, 150_000, 50_000):
        await empty.command(
            "INSERT INTO incoming (namespace, type, time, source, id, data) SELECT 'n', 't', "
            "toDateTime64('2026-11-01 00:00:00', 6, 'UTC'), 's', toString(number), repeat('x', 500) "
            f"FROM numbers({first}, 50000)"
        )
    parts = (
        "SELECT part_type, rows FROM system.parts WHERE active AND table = 'events' "
        "AND database = currentDatabase()"
    )

    assert await empty.rows(parts) == [("Compact", 50_000)] * 3
    await empty.command("SYSTEM START MERGES events")
    await empty.command("OPTIMIZE TABLE events FINAL")
    assert await empty.rows(parts) == [("Wide", 150_000)]


async def test_a_change_that_an_older_version_stored_counts_after_the_migration(
    empty: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    event = CloudEvent(
        id="1",
        source="s",
        type="llm.tokens",
        subject="acme",
        time=at,
        data=msgspec.Raw(b'{"tokens":8}'),
    )
    void = EventChange("1", "n", 1, ChangeKind.VOIDED, "a", "r", at, at, event, None)
    with monkeypatch.context() as older:
        older.setattr(event_schema, "MIGRATIONS", MIGRATIONS[:9])
        await migrate(empty, Layout())
    await EventStore(empty).accept([Received("n", event, at)])
    await EventStore(empty).store_change(void)

    await EventStore(empty).migrate()

    theirs = MeterQuery(filters=(DimensionFilter("subject", "eq", ("acme",)),))
    assert await EventStore(empty).query(tokens_meter("n"), theirs) == []


FIELDS = (
    "tokens",
    "type",
    "model",
    "provider",
    "usage_source",
    "waived_tokens",
    "tok\\u0065ns",
    "x",
)
LITERALS = (
    *("null", "true", "false", "0", "-0", "1", "-5", "1e3", "1E+2", "1.50", "-1.5e-7", "1e400"),
    *("123456789012345678", "1234567890123456789", "18446744073709551616", "0.1", "5e-324"),
)
PIECES = (
    *("[", "{", "]", "}", "[]", "{}", "[1]", "\\u005b", "\\u007b", '\\"', "\\\\", "\\n", "\\/"),
    *("\\u0000", "\\ud83d\\ude00", "\\ud800", "\\udc00", "é", "😀", "\x7f", "null", "1", " ", "a"),
)
NO_JSON = ("", "{", "[", '{"tokens": 01}', '{"tokens": "a}', '{"tokens": .5, "type": "a"}')


def odd_data(chance: random.Random) -> str:
    """The data of an event: mostly an object with the plugin's fields, some twice, of any kind."""
    if chance.random() < 0.05:
        return chance.choice((*NO_JSON, "null", "1", '"[x"', '[{"tokens": 1}]'))
    return odd_object(chance, 0)


def odd_object(chance: random.Random, depth: int) -> str:
    names = chance.choices(FIELDS, k=chance.randrange(7))
    space = chance.choice(("", " ", "\n"))
    members = (f'"{name}"{space}:{space}{odd_value(chance, depth)}' for name in names)
    return "{" + f",{space}".join(members) + "}"


def odd_value(chance: random.Random, depth: int) -> str:
    kind = chance.randrange(8 if depth < 2 else 6)
    if kind < 3:
        return '"' + "".join(chance.choices(PIECES, k=chance.randrange(5))) + '"'
    if kind < 6:
        return chance.choice((*LITERALS, str(chance.randrange(1000))))
    if kind == 6:
        return odd_object(chance, depth + 1)
    return "[" + ",".join(odd_value(chance, depth + 1) for _ in range(chance.randrange(3))) + "]"


async def test_the_newest_views_make_the_same_of_any_data_as_those_before(
    empty: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(7)
    data = [odd_data(chance) for _ in range(5000)]

    with monkeypatch.context() as older:
        older.setattr(event_schema, "MIGRATIONS", MIGRATIONS[:6])
        await migrate(empty, Layout())
    before = await read_by_the_view(empty, data, "before")
    await migrate(empty, Layout())
    after = await read_by_the_view(empty, data, "after")

    assert len(before) == len(data)
    assert [pair for pair in zip(data, before, after, strict=True) if pair[1] != pair[2]] == []


async def read_by_the_view(clickhouse: ClickHouse, data: list[str], source: str) -> list[Any]:
    """What is stored of each, in their order."""
    rows = [
        {"namespace": "n", "type": "t", "subject": "s", "time": "2026-11-01 00:00:00"}
        | {"source": source, "id": f"{number:06d}", "data": one, "place": number}
        for number, one in enumerate(data)
    ]
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    await clickhouse.insert("incoming", lines, "JSONEachRow", INSERT_SETTINGS)
    return await clickhouse.rows(
        "SELECT hex(data), tokens, hex(tokens_text), hex(token_type), hex(model), hex(provider), "
        "hex(usage_source), waived_tokens, place FROM events WHERE source = {source:String} "
        "ORDER BY id",
        {"source": source},
    )
