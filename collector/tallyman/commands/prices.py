"""`tallyman prices`: what models cost: listed, imported, overridden, and decided, also while the server runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from tallyman import connections
from tallyman.commands.bill import MOMENT
from tallyman.commands.listing import Listing
from tallyman.commands.price_table import price_table, said, show_proposals
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.domain.llm_price import HeldPrice, LlmPrice
from tallyman.domain.price_book import PriceBook
from tallyman.domain.price_list import PriceList, read_price_list
from tallyman.domain.price_merge import Proposal
from tallyman.errors import InvalidInput, InvalidParameter
from tallyman.store.llm_prices import LlmPriceStore, built_in_list, overriding
from tallyman.store.price_changes import PriceChanges
from tallyman.store.sandboxes import Sandboxes

NOT_DONE: Final = 2  # there is something to do, and --yes was not given
HELD: Final = 3  # done, but for prices that wait for a decision
_NAMESPACE = click.option(
    "--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Whose prices."
)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(cls=Listing)
def prices() -> None:
    """What models cost you: the built-in list, imports, overrides, decisions."""


@prices.command("list")
@click.option("--provider", help="Only of this one, such as openai.")
@click.option("--model", help="Only with this in the name.")
@click.option("--at", type=MOMENT, help="In force at this time (UTC); default: now.")
@_NAMESPACE
@with_settings
def list_(
    settings: Settings, provider: str | None, model: str | None, at: datetime | None, namespace: str
) -> None:
    """Show the prices that are in force, for a million tokens."""
    found = asyncio.run(_in_force(settings, namespace, at))
    shown = [
        one
        for one in found
        if provider in (None, one.provider) and (model or "").lower() in one.model.lower()
    ]
    _console().print(price_table(shown))


@prices.command("import")
@click.argument("file", type=_FILE, required=False)
@click.option("--built-in", is_flag=True, help="The list of this version, in place of a file.")
@click.option("--from", "since", type=MOMENT, help="From when on changes hold; default: now.")
@click.option("--yes", is_flag=True, help="Put the changes in force.")
@_NAMESPACE
@with_settings
def import_(
    settings: Settings,
    file: Path | None,
    built_in: bool,
    since: datetime | None,
    yes: bool,
    namespace: str,
) -> None:
    """Show what the list in FILE changes and, with --yes, put it in force.

    FILE is LiteLLM's model_prices_and_context_window.json, models.dev's api.json, or a list of
    Tallyman's own form. A price that differs by more than 1 % from another list's is held: the one in
    force stays until `tallyman prices accept` or `reject`. Ends with 2 where there is something to do
    and --yes is not given, with 3 where prices were held.
    """
    if built_in == (file is not None):
        raise click.UsageError("Name a FILE, or --built-in.")
    offer = built_in_list() if file is None else _read(file)
    proposals = asyncio.run(_import(settings, namespace, offer, since, yes))
    show_proposals(proposals, offer)
    to_do = [one for one in proposals if one.verdict in ("new", "changed", "completed")]
    held = any(one.verdict == "held" for one in proposals)
    if (to_do or held) and not yes:
        click.echo("Nothing is changed yet: --yes puts it in force.")
        raise SystemExit(NOT_DONE)
    if held:
        click.echo("Decide with `tallyman prices held`, `accept ID` and `reject ID`.")
        raise SystemExit(HELD)


@prices.command()
@click.argument("file", type=_FILE)
@click.option("--from", "since", type=MOMENT, help="From when on they hold; default: now.")
@click.option("--yes", is_flag=True, help="Put them in force.")
@_NAMESPACE
@with_settings
def override(
    settings: Settings, file: Path, since: datetime | None, yes: bool, namespace: str
) -> None:
    """Override prices by those in FILE, which has any form that can be imported.

    Ends with 2 where there is something to do and --yes is not given.
    """
    offer = _read(file)
    made = asyncio.run(_override(settings, namespace, offer, since, yes))
    for one in made:
        click.secho(
            f"+ {one.provider}/{one.model} {said(one.pricing)} {one.currency} "
            f"from {one.effective_from:%Y-%m-%d %H:%M}",
            fg="green",
        )
    click.echo(f"{len(made)} overrides{'' if yes else ' to be made: --yes makes them'}.")
    if made and not yes:
        raise SystemExit(NOT_DONE)


@prices.command()
@_NAMESPACE
@with_settings
def held(settings: Settings, namespace: str) -> None:
    """Show the prices that wait for a decision."""
    rows = asyncio.run(_held(settings, namespace))
    if not rows:
        click.echo("No price waits for a decision.")
        return
    table = Table("id", "model", "list", "it says", "in force", box=None)
    for one, there in rows:
        offered = one.offered
        table.add_row(
            one.id,
            f"{offered.provider}/{offered.model}",
            one.origin,
            f"{said(offered.pricing)} {offered.currency}",
            "" if there is None else f"{said(there.pricing)} {there.currency} ({there.origin})",
        )
    _console().print(table)


@prices.command()
@click.argument("held_id", metavar="ID")
@click.option("--from", "since", type=MOMENT, help="From when on it holds; default: now.")
@_NAMESPACE
@with_settings
def accept(settings: Settings, held_id: str, since: datetime | None, namespace: str) -> None:
    """Put a price that waits in force."""
    one = asyncio.run(_decide(settings, namespace, held_id, since, accepted=True))
    click.echo(
        f"{one.offered.provider}/{one.offered.model} costs {said(one.offered.pricing)} "
        f"{one.offered.currency} from {(since or one.decided_at):%Y-%m-%d %H:%M} on."
    )


@prices.command()
@click.argument("held_id", metavar="ID")
@_NAMESPACE
@with_settings
def reject(settings: Settings, held_id: str, namespace: str) -> None:
    """Keep the price that is in force."""
    one = asyncio.run(_decide(settings, namespace, held_id, None, accepted=False))
    click.echo(f"The price of {one.offered.provider}/{one.offered.model} stays as it is.")


@asynccontextmanager
async def _store(
    settings: Settings, namespace: str
) -> AsyncIterator[tuple[LlmPriceStore, datetime]]:
    """The prices, and what time it is in the namespace."""
    database = connections.open_database(settings)
    try:
        await database.migrate()
        yield LlmPriceStore(database), await Sandboxes(database).now(namespace, datetime.now(UTC))
    finally:
        await database.close()


async def _in_force(settings: Settings, namespace: str, at: datetime | None) -> list[LlmPrice]:
    async with _store(settings, namespace) as (store, now):
        every = await store.every(namespace, now)
        book = PriceBook(every)
    names = dict.fromkeys((one.provider, one.model) for one in every)
    found = {name: book.price_at(*name, at or now) for name in sorted(names)}
    return [one for name, one in found.items() if one and (one.provider, one.model) == name]


async def _import(
    settings: Settings, namespace: str, offer: PriceList, since: datetime | None, yes: bool
) -> list[Proposal]:
    async with _store(settings, namespace) as (store, now):
        changes = PriceChanges(store)
        if yes:
            return await changes.put_in_force(namespace, offer, now, since)
        return await changes.propose(namespace, offer, now)


async def _override(
    settings: Settings, namespace: str, offer: PriceList, since: datetime | None, yes: bool
) -> list[LlmPrice]:
    async with _store(settings, namespace) as (store, now):
        wanted = [overriding(namespace, one, since, now) for one in offer.offered]
        if yes:
            async with store.database.together():
                for one in wanted:
                    await store.create_override(one)
    return wanted


async def _held(settings: Settings, namespace: str) -> list[tuple[HeldPrice, LlmPrice | None]]:
    async with _store(settings, namespace) as (store, now):
        by_id = {one.id: one for one in await store.every(namespace, now)}
        waiting = await PriceChanges(store).held(namespace, "open")
    return [(one, by_id.get(one.in_force)) for one in waiting]


async def _decide(
    settings: Settings, namespace: str, held_id: str, since: datetime | None, *, accepted: bool
) -> HeldPrice:
    async with _store(settings, namespace) as (store, now):
        return await PriceChanges(store).decide(
            namespace, held_id, now, accept=accepted, since=since
        )


def _read(file: Path) -> PriceList:
    try:
        return read_price_list(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as err:
        reason = f"{file} is not UTF-8"
        raise InvalidInput(reason, [InvalidParameter("file", "invalid", reason)]) from err


def _console() -> Console:
    return Console(width=None if Console().is_terminal else 200, markup=False)
