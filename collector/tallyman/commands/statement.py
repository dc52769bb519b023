"""`tallyman statement` and `check-statement`: a customer's month as a file, and whether it is whole.

Checking needs the file alone: no server, no settings, no key.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TextIO
from urllib.parse import quote, urlencode

import click

from tallyman.api.statements import read_month
from tallyman.billing.statement import statement as lines_of
from tallyman.commands.asking import asked, books_here, server_of
from tallyman.commands.bill import MOMENT
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.domain.statement import check
from tallyman.errors import InvalidInput


@click.command()
@click.argument("customer")
@click.option("--month", required=True, help="Which month (UTC), such as 2026-11.")
@click.option("--stored-until", type=MOMENT, help="As it was known then; default: now.")
@click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Whose customer.")
@with_settings
def statement(
    settings: Settings, customer: str, month: str, stored_until: object, namespace: str
) -> None:
    """Write the usage statement of CUSTOMER, by key or id, to the standard output."""
    read_month(month)
    query = {"month": month}
    if stored_until is not None:
        query["stored_until"] = MOMENT.convert(stored_until, None, None).isoformat()
    asyncio.run(_write(settings, namespace, customer, query))


@click.command("check-statement")
@click.argument("file", type=click.File(encoding="utf-8", errors="replace"))
def check_statement(file: TextIO) -> None:
    """Check that the statement in FILE is whole and unchanged, and show what it sums up to."""
    try:
        found = check(file)
    except InvalidInput as err:
        click.echo(f"tallyman: {err}", err=True)
        raise SystemExit(1) from err
    click.echo(f"{found.get('customer')}, {found.get('from')} – {found.get('to')}")
    for one in found["usage"]:
        click.echo(f"{one['quantity']} {one['model'] or '-'} {one['type'] or '-'}")
    click.echo(f"{found['events']} events, whole and unchanged; its hash is {found['hash']}")


async def _write(settings: Settings, namespace: str, customer: str, query: dict[str, str]) -> None:
    async for line in _lines(settings, namespace, customer, query):
        click.echo(line)


async def _lines(
    settings: Settings, namespace: str, customer: str, query: dict[str, str]
) -> AsyncIterator[str]:
    if server_of(settings):
        path = f"/api/v1/billing/customers/{quote(customer, safe='')}/statement?{urlencode(query)}"
        async with asked(settings, namespace, "GET", path) as answer:
            async for text in answer.content:
                yield text.decode().rstrip("\n")
        return
    until = query.get("stored_until")
    moment = None if until is None else MOMENT.convert(until, None, None)
    async with books_here(settings) as books:
        async for line in lines_of(books, namespace, customer, read_month(query["month"]), moment):
            yield line
