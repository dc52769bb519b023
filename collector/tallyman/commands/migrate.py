"""`tallyman migrate`: bring the tables of both stores to this version's form."""

import asyncio

import click

from tallyman import connections, data_directory
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.store.events import EventStore


@click.command()
@with_settings
def migrate(settings: Settings) -> None:
    """Bring the tables to this version's form; `serve` does so itself when it starts."""
    if settings.clickhouse_url is None:
        with data_directory.locked(settings.data_dir):
            asyncio.run(_migrate(settings))
    else:
        asyncio.run(_migrate(settings))
    click.echo("The tables are up to date.")


async def _migrate(settings: Settings) -> None:
    database = connections.open_database(settings)
    try:
        await database.migrate()
    finally:
        await database.close()
    clickhouse = connections.open_clickhouse(settings)
    try:
        await EventStore(clickhouse).migrate()
    finally:
        await clickhouse.close()
