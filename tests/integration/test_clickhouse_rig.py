"""The ClickHouse that tests reach over HTTP answers clickhouse-connect's clients as a server does."""

import gzip
import time
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal

import clickhouse_connect
import lz4.frame
import pytest
from backports import zstd
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from tests.rigs.clickhouse import ClickHouse, Shim

AMOUNT = Decimal("12345678901234567890123456789012345678.123456789012345678")
EVENTS = """
CREATE TABLE events (id String, tokens Decimal(76, 18), version UInt64)
ENGINE = ReplacingMergeTree(version) ORDER BY id
SETTINGS non_replicated_deduplication_window = 100
"""


def _client(server: ClickHouse, database: str, compress: str | bool = True) -> Client:
    return clickhouse_connect.get_client(
        host=server.host,
        port=server.port,
        username=server.username,
        password=server.password,
        database=database,
        compress=compress,
    )


@pytest.fixture
def client(clickhouse_server: ClickHouse, clickhouse_database: str) -> Iterator[Client]:
    with _client(clickhouse_server, clickhouse_database) as client:
        client.command(EVENTS)
        yield client


@pytest.fixture
async def async_client(client: Client, clickhouse_server: ClickHouse) -> AsyncIterator[AsyncClient]:
    async with await clickhouse_connect.get_async_client(
        host=clickhouse_server.host,
        port=clickhouse_server.port,
        username=clickhouse_server.username,
        password=clickhouse_server.password,
        database=client.database,
    ) as async_client:
        yield async_client


def _line(name: str, tokens: int = 1, version: int = 1) -> bytes:
    return b'{"id":"%s","tokens":"%d","version":%d}\n' % (name.encode(), tokens, version)


def _count(client: Client) -> int:
    return len(client.query("SELECT id FROM events").result_rows)


def test_json_lines_are_inserted_raw(client: Client) -> None:
    lines = _line("a", 5) + _line("b", 7)

    summary = client.raw_insert("events", insert_block=lines, fmt="JSONEachRow")
    rows = client.query("SELECT id, tokens FROM events ORDER BY id").result_rows

    assert (summary.written_rows, rows) == (2, [("a", Decimal(5)), ("b", Decimal(7))])


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("lz4", lambda data: lz4.frame.compress(data[:40]) + lz4.frame.compress(data[40:])),
        ("zstd", zstd.compress),
        ("gzip", gzip.compress),
    ],
)
def test_raw_inserts_and_answers_travel_compressed(
    clickhouse_server: ClickHouse,
    clickhouse_database: str,
    encoding: str,
    compress: Callable[[bytes], bytes],
) -> None:
    lines = b"".join(_line(f"event {number}") for number in range(1000))

    with _client(clickhouse_server, clickhouse_database, encoding) as client:
        client.command(EVENTS)
        client.raw_insert(
            "events", insert_block=compress(lines), fmt="JSONEachRow", compression=encoding
        )
        rows = client.query("SELECT id FROM events").result_rows

    assert {name for (name,) in rows} == {f"event {number}" for number in range(1000)}


@pytest.mark.parametrize("compress", [True, False])
def test_columns_are_inserted(
    clickhouse_server: ClickHouse, clickhouse_database: str, compress: bool
) -> None:
    with _client(clickhouse_server, clickhouse_database, compress) as client:
        client.command(EVENTS)
        client.insert(
            "events",
            [["a;\n'", "b"], [Decimal("0.5"), Decimal(7)], [1, 1]],
            column_names=["id", "tokens", "version"],
            column_oriented=True,
        )
        rows = client.query("SELECT id, tokens FROM events ORDER BY id").result_rows

    assert rows == [("a;\n'", Decimal("0.5")), ("b", Decimal(7))]


def test_parameters_are_bound_by_the_server(client: Client) -> None:
    client.raw_insert("events", insert_block=_line("it's") + _line("b"), fmt="JSONEachRow")

    rows = client.query(
        "SELECT id, {number:UInt64} FROM events WHERE id IN {ids:Array(String)}",
        parameters={"ids": ["it's", "a\tb\\"], "number": 2**63},
    ).result_rows

    assert rows == [("it's", 2**63)]


def test_a_long_query_travels_as_a_form(client: Client) -> None:
    ids = [f"event {number}" for number in range(3000)]

    found = client.query("SELECT length({ids:Array(String)})", parameters={"ids": ids})

    assert found.result_rows == [(3000,)]


def test_settings_hold_for_their_query_alone(client: Client) -> None:
    setting = "SELECT value FROM system.settings WHERE name = 'max_block_size'"
    before = client.query(setting).result_rows

    changed = client.query(setting, settings={"max_block_size": 1234}).result_rows

    assert (changed, client.query(setting).result_rows) == ([("1234",)], before)


def test_a_decimal_of_76_digits_comes_back_exact(client: Client) -> None:
    client.insert("events", [["a", AMOUNT, 1]], column_names=["id", "tokens", "version"])

    rows = client.query("SELECT tokens, toString(tokens) FROM events").result_rows

    assert rows == [(AMOUNT, str(AMOUNT))]


def test_a_raw_query_answers_in_the_format_it_asks_for(client: Client) -> None:
    client.raw_insert("events", insert_block=_line("a", 5), fmt="JSONEachRow")

    body = client.raw_query("SELECT id FROM events", fmt="JSONEachRow")

    assert body == b'{"id":"a"}\n'


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("SELECT * FROM nothing", "UNKNOWN_TABLE"),
        ("SELECT FROM WHERE", "SYNTAX_ERROR"),
        ("SELECT throwIf(1)", "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
    ],
)
def test_what_the_server_refuses_is_a_database_error_with_its_name(
    client: Client, sql: str, name: str
) -> None:
    with pytest.raises(DatabaseError, match=name) as raised:
        client.query(sql)

    assert raised.value.name == name


def test_a_broken_line_fails_its_whole_batch(client: Client) -> None:
    with pytest.raises(DatabaseError, match="CANNOT_PARSE"):
        client.raw_insert("events", insert_block=_line("a") + b'{"id":', fmt="JSONEachRow")

    assert _count(client) == 0


def test_an_insert_token_drops_a_repeated_batch(client: Client) -> None:
    for token in ("first", "first", "second"):
        client.raw_insert(
            "events",
            insert_block=_line("a"),
            fmt="JSONEachRow",
            settings={"insert_deduplication_token": token},
        )

    assert _count(client) == 2


def test_final_keeps_the_last_version_of_a_row(client: Client) -> None:
    for version, tokens in [(1, 5), (3, 9), (2, 7)]:
        client.raw_insert("events", insert_block=_line("a", tokens, version), fmt="JSONEachRow")

    rows = client.query("SELECT id, tokens FROM events FINAL").result_rows

    assert rows == [("a", Decimal(9))]


async def test_the_async_client_inserts_and_queries(async_client: AsyncClient) -> None:
    await async_client.raw_insert("events", insert_block=_line("a", 5), fmt="JSONEachRow")
    await async_client.insert(
        "events", [["b", AMOUNT, 1]], column_names=["id", "tokens", "version"]
    )

    result = await async_client.query(
        "SELECT id, tokens FROM events WHERE version = {v:UInt64} ORDER BY id", parameters={"v": 1}
    )

    assert result.result_rows == [("a", Decimal(5)), ("b", AMOUNT)]


async def test_the_async_client_raises_what_the_server_refuses(async_client: AsyncClient) -> None:
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        await async_client.query("SELECT * FROM nothing")


@pytest.fixture
def shim_client(clickhouse_shim: Shim) -> Iterator[Client]:
    with (
        clickhouse_shim.address.database() as database,
        _client(clickhouse_shim.address, database) as client,
    ):
        client.command(EVENTS)
        yield client


def test_an_insert_told_to_fail_before_storing_stores_nothing(
    clickhouse_shim: Shim, shim_client: Client
) -> None:
    clickhouse_shim.fail_inserts(before=1)
    with pytest.raises(DatabaseError, match="KEEPER_EXCEPTION"):
        shim_client.raw_insert("events", insert_block=_line("a"), fmt="JSONEachRow")

    assert _count(shim_client) == 0
    shim_client.raw_insert("events", insert_block=_line("a"), fmt="JSONEachRow")
    assert _count(shim_client) == 1


def test_an_insert_told_to_fail_after_storing_is_stored(
    clickhouse_shim: Shim, shim_client: Client
) -> None:
    clickhouse_shim.fail_inserts(after=1)
    with pytest.raises(DatabaseError, match="UNKNOWN_STATUS_OF_INSERT"):
        shim_client.raw_insert("events", insert_block=_line("a"), fmt="JSONEachRow")

    assert _count(shim_client) == 1


def test_an_insert_told_to_wait_waits(clickhouse_shim: Shim, shim_client: Client) -> None:
    clickhouse_shim.fail_inserts(delay_seconds=0.3)
    began = time.monotonic()
    shim_client.raw_insert("events", insert_block=_line("a"), fmt="JSONEachRow")

    assert time.monotonic() - began >= 0.3


def test_kill_9_keeps_what_was_inserted(clickhouse_shim: Shim, shim_client: Client) -> None:
    shim_client.raw_insert("events", insert_block=_line("a"), fmt="JSONEachRow")

    clickhouse_shim.kill()
    with pytest.raises(OperationalError):
        shim_client.query("SELECT 1")
    clickhouse_shim.start()

    assert _count(shim_client) == 1
