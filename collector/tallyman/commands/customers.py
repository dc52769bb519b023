"""`tallyman customers import`: the gateway's consumers become customers, also while the server runs."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, get_args

import click
from rich.console import Console
from rich.table import Table
from tallyman_kong.usage import UsageConfiguration

from tallyman import connections
from tallyman.commands.listing import Listing
from tallyman.commands.settings_option import FAILED, with_settings
from tallyman.config import Settings
from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.domain.consumer_import import Action, Step, SubjectValue, plan_import
from tallyman.errors import ConfigurationError
from tallyman.kong_config import load_usage_configuration
from tallyman.kong_consumers import Gateway, read_admin_api, read_deck_file, subject_value
from tallyman.store.customers import CustomerChange, CustomerStore
from tallyman.store.sandboxes import Sandboxes

_DONE: Final = {
    Action.MAKE: "made",
    Action.CHANGE: "changed",
    Action.LEAVE: "left",
    Action.REFUSE: "refused",
}


@click.group(cls=Listing)
def customers() -> None:
    """Make customers of the gateway's consumers."""


@customers.command("import")
@click.option(
    "--deck",
    "files",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A decK file; give the option again for more.",
)
@click.option("--kong-admin", "url", metavar="URL", help="Kong's Admin API, with the workspace.")
@click.option(
    "--kong-admin-token",
    "token",
    envvar="KONG_ADMIN_TOKEN",
    metavar="TOKEN",
    help="Sent as Kong-Admin-Token; better given as KONG_ADMIN_TOKEN.",
)
@click.option(
    "--subject",
    type=click.Choice(get_args(SubjectValue)),
    help="Which of a consumer's values is the subject of its events. By default what the plugin's "
    "configuration says, there or in kong_config.",
)
@click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Whose customers.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@with_settings
def import_(
    settings: Settings,
    files: tuple[Path, ...],
    url: str | None,
    token: str | None,
    subject: SubjectValue | None,
    namespace: str,
    dry_run: bool,
) -> None:
    """Make a customer of every consumer that has none; again, it changes only what is new."""
    if bool(files) == (url is not None):
        raise click.UsageError("give either --deck or --kong-admin")
    value, steps = asyncio.run(_import(settings, (files, url, token), subject, namespace, dry_run))
    _show(value, steps, dry_run)
    if any(step.action is Action.REFUSE for step in steps):
        raise SystemExit(FAILED)


async def _import(
    settings: Settings,
    source: tuple[tuple[Path, ...], str | None, str | None],
    subject: SubjectValue | None,
    namespace: str,
    dry_run: bool,
) -> tuple[SubjectValue, list[Step]]:
    gateway = await _read(*source, subject)
    value = subject or subject_value(gateway.usage or _configured(settings))
    database = connections.open_database(settings)
    try:
        await database.migrate()
        store = CustomerStore(database)
        async with database.together():
            now = await Sandboxes(database).now(namespace, datetime.now(UTC))
            there = await store.every(namespace)
            steps = plan_import(gateway.consumers, value, there, namespace, now)
            if not dry_run:
                for step in steps:
                    await _do(store, step, now)
    finally:
        await database.close()
    return value, steps


async def _read(
    files: Sequence[Path], url: str | None, token: str | None, subject: SubjectValue | None
) -> Gateway:
    if url is not None:
        return await read_admin_api(url, token, subject)
    read = [read_deck_file(path, subject=subject) for path in files]
    usages = {one.usage for one in read if one.usage is not None}
    if subject is None and len({subject_value(usage) for usage in usages}) > 1:
        raise ConfigurationError("the files disagree on the plugin's subject; give --subject")
    consumers = dict.fromkeys(consumer for one in read for consumer in one.consumers)
    return Gateway(tuple(consumers), next(iter(usages), None))


def _configured(settings: Settings) -> UsageConfiguration:
    if settings.kong_config is None:
        return UsageConfiguration()
    return load_usage_configuration(settings.kong_config)


async def _do(store: CustomerStore, step: Step, now: datetime) -> None:
    customer = step.customer
    if customer is None or step.action not in (Action.MAKE, Action.CHANGE):
        return
    if step.action is Action.MAKE:
        await store.create(customer)
        return
    change = CustomerChange(
        name=customer.name,
        subject_keys=customer.subject_keys,
        primary_email=customer.primary_email,
        currency=customer.currency,
        billing_address=customer.billing_address,
        description=customer.description,
        labels=customer.labels,
    )
    await store.replace(customer.namespace, customer.key, change, now)


def _show(value: SubjectValue, steps: Sequence[Step], dry_run: bool) -> None:
    table = Table("consumer", "subject", "customer", "", "note")
    for step in steps:
        table.add_row(
            step.consumer.name,
            ", ".join(step.subjects),
            "" if step.customer is None else step.customer.key,
            f"to be {_DONE[step.action]}" if dry_run else _DONE[step.action],
            step.note,
        )
    console = Console(width=None if Console().is_terminal else 200, markup=False)
    if steps:
        console.print(table)
    counted = Counter(step.action for step in steps)
    summary = ", ".join(f"{counted[action]} {done}" for action, done in _DONE.items())
    consumers = "1 consumer" if len(steps) == 1 else f"{len(steps):,} consumers"
    click.echo(f"{consumers}, by {value}: {summary}{'; nothing was done' * dry_run}.")
