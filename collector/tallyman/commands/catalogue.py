"""`tallyman apply|diff|dump`: the catalogue as a file, also while the server runs."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

import click
import msgspec

from tallyman import connections
from tallyman.api.catalogue.change import Change, InvoiceChange, Outcome
from tallyman.api.catalogue.dump import dump as dumped
from tallyman.api.catalogue.run import compare, put_in_force
from tallyman.api.catalogue.shelf import Shelf
from tallyman.billing.margin_report import LossesAnswer, loss_line
from tallyman.commands.asking import asked, books_here, server_of
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.console import figures
from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.errors import InvalidCatalogue, InvalidParameter, TallymanError
from tallyman.store.sandboxes import Sandboxes

STANDARD_INPUT: Final = "-"
DIFFERENT: Final = 2
_DONE: Final = {"made": ("made", "to be made"), "changed": ("changed", "to be changed")}
_MARK: Final = {"made": "+", "changed": "~"}

_FILE = click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
_NAMESPACE = click.option(
    "--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Whose catalogue."
)


@click.command()
@_FILE
@_NAMESPACE
@with_settings
def apply(settings: Settings, file: Path, namespace: str) -> None:
    """Put the catalogue in FILE in force: meters, features, plans, customers, subscriptions.

    All of it or, if anything is wrong, nothing. A second time it changes nothing. A published plan
    is never changed: a new version is made. What FILE does not have stays. FILE may be - for
    standard input.
    """
    outcome = asyncio.run(_apply(settings, namespace, *read_file(file)))
    _show(outcome.changes, to_be=False)
    if server_of(settings) and any(_is_of_a_plan(one) for one in outcome.changes):
        keys = {one.key for one in outcome.changes if one.kind == "plan"}
        _show_losses(asyncio.run(_losses(settings, namespace, keys)))


@click.command()
@_FILE
@_NAMESPACE
@click.option("--exit-code", is_flag=True, help="End with status 2 if anything would change.")
@with_settings
def diff(settings: Settings, file: Path, namespace: str, exit_code: bool) -> None:
    """Show what `tallyman apply FILE` would change, and change nothing.

    Also whose next invoice would come to something else, as if the plans were in force from the
    beginning of what is not billed yet.
    """
    outcome = asyncio.run(_diff(settings, namespace, *read_file(file)))
    _show(outcome.changes, to_be=True)
    for one in outcome.invoices or ():
        click.echo(
            f"The next invoice of {one.customer}, of what is not billed yet: "
            f"{_amount(one.before, one)} → {_amount(one.after, one)} {one.currency} "
            f"({'+' if Decimal(one.by) > 0 else ''}{_amount(one.by, one)})"
        )
    _show_losses(outcome.losses)
    if exit_code and any(one.action != "unchanged" for one in outcome.changes):
        raise SystemExit(DIFFERENT)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), default=STANDARD_INPUT)
@_NAMESPACE
@with_settings
def dump(settings: Settings, file: Path, namespace: str) -> None:
    """Write the catalogue that is in force to FILE, by default to standard output."""
    text = asyncio.run(_dump(settings, namespace))
    if str(file) == STANDARD_INPUT:
        click.echo(text, nl=False)
    else:
        file.write_text(text, encoding="utf-8")


async def _apply(settings: Settings, namespace: str, text: str, name: str) -> Outcome:
    async with _shelf(settings, namespace) as shelf:
        outcome = await put_in_force(shelf, text, name)
    if not outcome.has_filters:
        return outcome
    try:  # it is in force, whatever the events say
        tried = await _tried(settings, namespace, text, name)
    except TallymanError as err:
        click.echo(f"The filters of features were not tried on events: {err}", err=True)
        return outcome
    return outcome.warned_as(tried)


async def _diff(settings: Settings, namespace: str, text: str, name: str) -> Outcome:
    async with _shelf(settings, namespace) as shelf:
        outcome = await compare(shelf, text, name)
    needs_events = outcome.has_filters or any(
        one.customer_id or _is_of_a_plan(one) for one in outcome.changes
    )
    if not needs_events:
        return outcome
    return await _tried(settings, namespace, text, name)


async def _tried(settings: Settings, namespace: str, text: str, name: str) -> Outcome:
    """What the file would do, as far as only the events can tell too."""
    if server_of(settings):  # which alone may read the events
        body = {"text": text, "name": name}
        path = "/api/v1/catalogue/compare"
        async with asked(settings, namespace, "POST", path, body) as answer:
            return msgspec.json.decode(await answer.read(), type=Outcome)
    async with books_here(settings) as books:
        now = await books.sandboxes.now(namespace, datetime.now(UTC))
        return await compare(Shelf(books.database, namespace, now), text, name, books)


async def _losses(settings: Settings, namespace: str, keys: set[str]) -> list[str]:
    """What the plans in force lose, by the server, which alone may read what is used."""
    async with asked(settings, namespace, "GET", "/api/v1/billing/losses") as answer:
        found = msgspec.json.decode(await answer.read(), type=LossesAnswer).losses
    newest: dict[str, int] = {}
    for one in found:
        newest[one.plan] = max(one.plan_version, newest.get(one.plan, 0))
    return [
        loss_line(one) for one in found if one.plan in keys and one.plan_version == newest[one.plan]
    ]


def _is_of_a_plan(change: Change) -> bool:
    return change.kind == "plan" and change.action != "unchanged"


def _show_losses(sentences: list[str]) -> None:
    for one in sentences:
        click.secho(f"! At today's prices a loss: {one}.", fg="yellow")


async def _dump(settings: Settings, namespace: str) -> str:
    async with _shelf(settings, namespace) as shelf:
        return await dumped(shelf)


@asynccontextmanager
async def _shelf(settings: Settings, namespace: str) -> AsyncIterator[Shelf]:
    database = connections.open_database(settings)
    try:
        await database.migrate()
        now = await Sandboxes(database).now(namespace, datetime.now(UTC))
        yield Shelf(database, namespace, now)
    finally:
        await database.close()


def read_file(file: Path) -> tuple[str, str]:
    """The text and the name that errors have."""
    try:
        with click.open_file(str(file), encoding="utf-8") as opened:
            return opened.read(), "standard input" if str(file) == STANDARD_INPUT else str(file)
    except (OSError, UnicodeDecodeError) as err:
        reason = "is not UTF-8" if isinstance(err, UnicodeDecodeError) else "cannot be read"
        parameter = InvalidParameter("", "invalid", reason, extra={"at": str(file)})
        raise InvalidCatalogue([parameter]) from err


def _amount(amount: str, of: InvoiceChange) -> str:
    return figures.without_code(Decimal(amount), of.currency)


def _show(changes: list[Change], *, to_be: bool) -> None:
    for one in changes:
        if one.warning:
            click.secho(f"! {one.kind} {one.key}: {one.warning}", fg="yellow")
        if one.action == "unchanged":
            continue
        note = f" ({one.note})" if one.note else ""
        done = _DONE[one.action][to_be]
        click.secho(f"{_MARK[one.action]} {one.kind} {one.key} {done}{note}", bold=True)
        for line in one.lines if one.action == "changed" or to_be else ():
            click.secho(f"    {line}", fg="red" if line.startswith("-") else "green")
    counted: Counter[str] = Counter(one.action for one in changes)
    said = ", ".join(f"{counted[action]} {words[to_be]}" for action, words in _DONE.items())
    click.echo(f"{said}, {counted['unchanged']} unchanged.")
