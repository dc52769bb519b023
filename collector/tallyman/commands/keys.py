"""`tallyman keys`: API keys are made, listed and revoked, also while the server runs."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tallyman import connections
from tallyman.commands.listing import Listing
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.domain.access import DEFAULT_NAMESPACE, Scope
from tallyman.store.api_keys import ApiKey, ApiKeyStore
from tallyman.store.database import Database
from tallyman.store.meters import MeterStore
from tallyman.store.sandboxes import Sandboxes


@click.group(cls=Listing)
def keys() -> None:
    """Make, list and revoke API keys."""


@keys.command()
@click.option("--name", default="", help="What the key is for.")
@click.option(
    "--role",
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    required=True,
    help="What it may do; give the option again for more.",
)
@click.option(
    "--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Whose events it reaches."
)
@click.option(
    "--sandbox",
    is_flag=True,
    help="Begin the namespace as a sandbox, which may have a clock of its own.",
)
@with_settings
def create(
    settings: Settings, name: str, scopes: tuple[str, ...], namespace: str, sandbox: bool
) -> None:
    """Make a key and print it: it cannot be shown again."""
    if not namespace:
        raise click.BadParameter("must not be empty", param_hint="--namespace")
    _run(_create(settings, name, [Scope(scope) for scope in scopes], namespace, sandbox))


@keys.command("list")
@with_settings
def list_(settings: Settings) -> None:
    """Show every key by its beginning, revoked ones too."""
    _run(_list(settings))


@keys.command()
@click.argument("key_id", metavar="ID")
@with_settings
def revoke(settings: Settings, key_id: str) -> None:
    """Let the key with this ID work no more; running servers follow within a second."""
    _run(_revoke(settings, key_id))


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def _create(
    settings: Settings, name: str, scopes: list[Scope], namespace: str, sandbox: bool
) -> None:
    async with _database(settings) as database:
        store, meters = ApiKeyStore(database), MeterStore(database)
        if sandbox:
            await Sandboxes(database).open(namespace)
        key, secret = await store.create(namespace, name, scopes)
        await meters.add_built_in(namespace)
    click.echo(secret)
    click.echo(
        f"Key {key.id} with {', '.join(sorted(key.scopes))} in the namespace {namespace}. "
        "It is shown only now.",
        err=True,
    )


async def _list(settings: Settings) -> None:
    async with _database(settings) as database:
        found = await ApiKeyStore(database).list()
    table = Table("id", "key", "name", "scopes", "namespace", "made", "revoked")
    for key in found:
        table.add_row(*_row(key))
    Console(width=None if Console().is_terminal else 200).print(table)


async def _revoke(settings: Settings, key_id: str) -> None:
    async with _database(settings) as database:
        key = await ApiKeyStore(database).revoke(key_id)
    click.echo(f"Key {key.id} ({key.hint}…) is revoked.")


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    database = connections.open_database(settings)
    try:
        await database.migrate()
        yield database
    finally:
        await database.close()


def _row(key: ApiKey) -> tuple[str, ...]:
    revoked = "" if key.revoked_at is None else f"{key.revoked_at:%Y-%m-%d %H:%M}"
    scopes = ", ".join(sorted(key.scopes))
    made = f"{key.created_at:%Y-%m-%d %H:%M}"
    return key.id, f"{key.hint}…", key.name, scopes, key.namespace, made, revoked
