"""API keys and meters on both relational stores."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tallyman.domain.access import Caller, Scope
from tallyman.domain.builtin_meters import BUILTIN_METERS
from tallyman.domain.meter import Aggregation, Meter
from tallyman.errors import Conflict, Gone, NotFound
from tallyman.store.api_keys import REMEMBERED_SECONDS, ApiKeyStore
from tallyman.store.comparison import Comparison
from tallyman.store.database import Database
from tallyman.store.meters import MeterChange, MeterStore

BUILT_IN = [meter.key for meter in BUILTIN_METERS]


def tokens_meter(key: str = "tokens", namespace: str = "default", name: str = "Tokens") -> Meter:
    now = datetime.now(UTC)
    return Meter(
        id="",
        namespace=namespace,
        key=key,
        name=name,
        aggregation=Aggregation.SUM,
        event_type="call",
        value_property="$.tokens",
        dimensions={"model": "$.model"},
        created_at=now,
        updated_at=now,
    )


def _bytes_of(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.iterdir())


async def test_the_tables_are_those_that_the_code_declares(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import Connection
    from tallyman.store.tables import metadata

    def differences(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    async with database.reading() as connection:
        found = await connection.run_sync(differences)

    assert found == []


async def test_migrating_twice_changes_nothing(database: Database) -> None:
    await ApiKeyStore(database).create("default", "one", [Scope.READ])

    await database.migrate()

    assert await ApiKeyStore(database).count() == 1


async def test_a_key_says_whose_it_is_and_what_it_may(database: Database) -> None:
    store = ApiKeyStore(database)
    key, secret = await store.create("acme", "gateway", [Scope.INGEST])

    assert secret.startswith("tm_")
    assert len(secret) >= 40
    assert secret.startswith(key.hint)
    assert await store.caller(secret) == Caller("acme", frozenset({Scope.INGEST}), key.id)
    assert await store.caller(secret + "x") is None
    assert await store.list() == [key]


async def test_the_secret_is_not_in_the_store(tmp_path: Path) -> None:
    database = Database.sqlite(tmp_path / "tallyman.sqlite3")
    await database.migrate()
    _, secret = await ApiKeyStore(database).create("default", "gateway", [Scope.INGEST])
    await database.close()

    kept = _bytes_of(tmp_path)

    assert secret[:9].encode() in kept
    assert secret[:12].encode() not in kept


async def test_a_key_revoked_by_another_process_stops_working_within_a_second(
    database: Database,
) -> None:
    server, command = ApiKeyStore(database), ApiKeyStore(database)
    key, secret = await server.create("default", "gateway", [Scope.INGEST])
    assert await server.caller(secret) is not None

    revoked = await command.revoke(key.id)

    assert REMEMBERED_SECONDS < 1
    assert revoked.revoked_at is not None
    async with asyncio.timeout(1):
        while await server.caller(secret) is not None:  # noqa: ASYNC110 – a poll is what is tested
            await asyncio.sleep(0.02)


async def test_revoking_an_unknown_key_says_so(database: Database) -> None:
    with pytest.raises(NotFound, match="no API key has the id nothing"):
        await ApiKeyStore(database).revoke("nothing")


async def test_a_meter_is_read_by_its_id_and_by_its_key(database: Database) -> None:
    store = MeterStore(database)

    made = await store.create(tokens_meter())

    assert await store.get("default", made.id) == made
    assert await store.get("default", "tokens") == made


async def test_a_taken_key_is_a_conflict_and_a_deleted_one_is_free(database: Database) -> None:
    store = MeterStore(database)
    first = await store.create(tokens_meter())

    with pytest.raises(Conflict, match="another meter has the key tokens"):
        await store.create(tokens_meter())
    await store.delete("default", "tokens")
    with pytest.raises(Gone):
        await store.get("default", "tokens")
    second = await store.create(tokens_meter())

    assert (await store.get("default", "tokens")).id == second.id
    with pytest.raises(Gone):
        await store.get("default", first.id)


async def test_a_namespace_sees_only_its_own_meters(database: Database) -> None:
    store = MeterStore(database)
    theirs = await store.create(tokens_meter(namespace="theirs"))

    with pytest.raises(NotFound):
        await store.get("ours", theirs.id)
    page, total = await store.page("ours")

    assert sorted(meter.key for meter in page) == sorted(BUILT_IN)
    assert total == len(BUILT_IN)


async def test_built_in_meters_cannot_be_changed_or_deleted(database: Database) -> None:
    store = MeterStore(database)

    with pytest.raises(Conflict, match="built in and cannot be deleted"):
        await store.delete("default", BUILT_IN[0])
    with pytest.raises(Conflict, match="built in and cannot be changed"):
        await store.change("default", BUILT_IN[0], MeterChange(name="Mine"))


async def test_two_servers_that_start_at_once_make_one_set_of_built_in_meters(
    database: Database,
) -> None:
    stores = [MeterStore(database) for _ in range(4)]

    await asyncio.gather(*(store.add_built_in("default") for store in stores))

    assert (await stores[0].page("default"))[1] == len(BUILT_IN)


async def test_a_change_touches_only_what_is_given(database: Database) -> None:
    store = MeterStore(database)
    made = await store.create(tokens_meter())

    changed = await store.change(
        "default", made.id, MeterChange(name="Tokens used", labels={"team": "a"})
    )

    assert changed.name == "Tokens used"
    assert changed.labels == {"team": "a"}
    assert changed.dimensions == made.dimensions
    assert changed.updated_at > made.updated_at


@pytest.mark.parametrize(
    ("operator", "values", "found"),
    [
        pytest.param("eq", ("b_100%",), ["b_100%"], id="eq is the whole text"),
        pytest.param("neq", ("b_100%",), ["A", "bx100y"], id="neq is any other"),
        pytest.param("oeq", ("A", "bx100y"), ["A", "bx100y"], id="oeq is any of several"),
        pytest.param("contains", ("B_100%",), ["b_100%"], id="contains has no wildcards"),
        pytest.param("ocontains", ("a", "100%"), ["A", "b_100%"], id="ocontains is any part"),
        pytest.param("gt", ("A",), ["b_100%", "bx100y"], id="gt goes by code point"),
        pytest.param("lte", ("b_100%",), ["A", "b_100%"], id="lte is inclusive"),
        pytest.param("exists", ("false",), [], id="every meter has a name"),
    ],
)
async def test_a_list_is_filtered(
    database: Database, operator: str, values: tuple[str, ...], found: list[str]
) -> None:
    store = MeterStore(database)
    for number, name in enumerate(["A", "b_100%", "bx100y"]):
        await store.create(tokens_meter(f"mine_{number}", name=name))

    page, total = await store.page(
        "default",
        [Comparison("key", "contains", ("mine_",)), Comparison("name", operator, values)],
        order_by="name",
    )

    assert [meter.name for meter in page] == found
    assert total == len(found)


async def test_a_list_is_paged_in_its_order(database: Database) -> None:
    store = MeterStore(database)
    for number in range(5):
        await store.create(tokens_meter(f"mine_{number}"))
    mine = [Comparison("key", "contains", ("mine_",))]

    page, total = await store.page(
        "default", mine, order_by="key", descending=True, offset=2, limit=2
    )

    assert [meter.key for meter in page] == ["mine_2", "mine_1"]
    assert total == 5
