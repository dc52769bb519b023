"""A database of any version that was released comes to the newest one with everything that is in it."""

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import tallyman.store
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    DateTime,
    Integer,
    MetaData,
    Numeric,
    Table,
    not_,
    select,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import IntegrityError
from tallyman.domain.access import Scope
from tallyman.domain.price import FlatPrice
from tallyman.domain.service_period import EndProration
from tallyman.domain.subscription_change import EditTiming
from tallyman.store.api_keys import ApiKeyStore
from tallyman.store.database import Database
from tallyman.store.tables import invoice_lines

from tests.rigs.shop import COLLECTED, DECEMBER, NOVEMBER, Shop

MIGRATIONS = Path(tallyman.store.__file__).parent / "migrations"
Rows = dict[str, list[dict[str, Any]]]


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _downgrade(connection: Connection, version: str) -> None:
    command.downgrade(_config(connection), version)


def _upgrade(connection: Connection) -> None:
    command.upgrade(_config(connection), "head")


def _tables(connection: Connection) -> list[Table]:
    metadata = MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != "alembic_version"]


def _rows(connection: Connection) -> Rows:
    found = {}
    for table in _tables(connection):
        rows = connection.execute(select(table)).mappings()
        found[table.name] = sorted((dict(row) for row in rows), key=str)
    return found


def _fill(connection: Connection) -> None:
    """A row for each table that has none yet and takes any."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL session_replication_role = replica"))
    else:
        connection.execute(text("PRAGMA defer_foreign_keys = ON"))
    for table in _tables(connection):
        if connection.execute(select(table).limit(1)).first() is None:
            values = {column.name: _some(column.type) for column in table.columns}
            for key in table.foreign_keys:
                wanted = connection.execute(select(key.column).limit(1)).scalar_one_or_none()
                values[key.parent.name] = wanted or values[key.parent.name]
            with suppress(IntegrityError), connection.begin_nested():
                connection.execute(table.insert().values(values))


def _some(type_: Any) -> Any:
    for kind, value in (
        (Boolean, True),
        (Integer, 1),
        (Numeric, 1),
        (JSON, {"kept": [1, "as it is"]}),
        (DateTime, datetime(2026, 11, 1)),  # noqa: DTZ001 – SQLite has no time zones
    ):
        if isinstance(type_, kind):
            if isinstance(value, datetime) and getattr(type_, "timezone", False):
                return value.replace(tzinfo=UTC)
            return value
    return "kept as it is"[: getattr(type_, "length", None)]


def _is_kept(before: Rows, after: Rows) -> bool:
    """Whether all rows are there, with the columns that there were."""
    return all(
        rows == sorted(({name: row[name] for name in names} for row in after[table]), key=str)
        for table, rows in before.items()
        for names in [list(rows[0]) if rows else []]
    )


async def _sold(shop: Shop) -> str:
    """A customer with a subscription that ends, an invoice, and what goes with them."""
    await ApiKeyStore(shop.database).create(shop.namespace, "one", [Scope.READ])
    await shop.plan(await shop.card(), await shop.card("fee", FlatPrice(Decimal(30))))
    await shop.change_workflow(end_proration=EndProration.BILL_FULL_PERIOD)
    await shop.customer()
    begun = await shop.subscribe()
    await shop.use(1_000_000, NOVEMBER)
    await shop.bill(DECEMBER + COLLECTED)
    await shop.books.subscriptions.cancel(
        shop.namespace, begun.id, EditTiming.NEXT_BILLING_CYCLE, DECEMBER + COLLECTED
    )
    return begun.id


async def test_lines_are_found_by_their_indices(tmp_path: Path) -> None:
    """SQLite takes a partial index only for the very words of its condition."""
    database = Database.sqlite(tmp_path / "tallyman.sqlite3")
    await database.migrate()
    counts = select(invoice_lines.c.id).where(
        invoice_lines.c.billable_id.in_(["a", "b"]), not_(invoice_lines.c.freed)
    )
    freed = select(invoice_lines.c.id).where(
        invoice_lines.c.customer_id.in_(["a", "b"]), invoice_lines.c.freed
    )

    async with database.reading() as connection:
        for statement, index in ((counts, "invoice_lines_once"), (freed, "invoice_lines_freed")):
            compiled = statement.compile(
                dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}
            )
            plan = await connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}"))
            assert [index in row.detail for row in plan] == [True]
    await database.close()


async def test_every_version_comes_to_the_newest_with_what_is_in_it(shop: Shop) -> None:
    database: Database = shop.database
    subscription_id = await _sold(shop)
    invoices = await shop.invoices()
    script = ScriptDirectory(str(MIGRATIONS))
    *_, newest = versions = [one.revision for one in script.walk_revisions()][::-1]

    async with database.writing() as connection:
        await connection.run_sync(_fill)
    for version in versions[-2::-1]:
        async with database.writing() as connection:
            await connection.run_sync(_downgrade, version)
            before = await connection.run_sync(_rows)
            await connection.run_sync(_upgrade)
            after = await connection.run_sync(_rows)

        assert before["meters"], before["api_keys"]
        assert _is_kept(before, after), version
        if version == "0009":
            kept = await shop.books.subscriptions.get(shop.namespace, subscription_id)
            assert kept.end_proration is EndProration.BILL_FULL_PERIOD
            assert await shop.invoices() == invoices
    assert newest == script.get_current_head()
