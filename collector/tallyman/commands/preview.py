"""`tallyman preview`: what a customer has used and not been billed for, by model and type."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import quote

import click
import msgspec
from rich.console import Console
from rich.table import Table

from tallyman.api.billing_runs import PreviewTables, preview_tables
from tallyman.billing.report import PreviewAnswer, PreviewRow
from tallyman.commands.asking import asked, books_here, server_of
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.console import figures
from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.domain.period import Period


@click.command()
@click.argument("customer")
@click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Whose customer.")
@with_settings
def preview(settings: Settings, customer: str, namespace: str) -> None:
    """Show what CUSTOMER, by key or id, is not yet billed for."""
    work = _ask if server_of(settings) else _read_here
    tables = asyncio.run(work(settings, namespace, customer))
    console = Console(width=None if Console().is_terminal else 200, markup=False)
    if not tables:
        console.print(f"Nothing is to be billed to {customer}.")
    for one in tables:
        console.print(_table(one))
        console.print(f"Not yet billed: {figures.with_code(Decimal(one.total), one.currency)}")


async def _ask(settings: Settings, namespace: str, customer: str) -> list[PreviewAnswer]:
    path = f"/api/v1/billing/customers/{quote(customer, safe='')}/preview"
    async with asked(settings, namespace, "GET", path) as answer:
        return msgspec.json.decode(await answer.read(), type=PreviewTables).tables


async def _read_here(settings: Settings, namespace: str, customer: str) -> list[PreviewAnswer]:
    async with books_here(settings) as books:
        now = await books.sandboxes.now(namespace, datetime.now(UTC))
        return await preview_tables(books, namespace, customer, now)


def _table(one: PreviewAnswer) -> Table:
    is_of_one_period = len({row.service_period for row in one.rows}) == 1
    table = Table("line", *([] if is_of_one_period else ["period"]), "model", "type", box=None)
    for name in ("quantity", f"rate {one.currency}", f"amount {one.currency}"):
        table.add_column(name, justify="right")
    for row in one.rows:
        quantity = figures.number(Decimal(row.quantity)) if row.quantity else ""
        amount = figures.without_code(Decimal(row.amount), one.currency)
        rate = _rate(row, one.currency)
        period = [] if is_of_one_period else [_period(row)]
        table.add_row(row.name, *period, row.model, row.type, quantity, rate, amount)
    return table


def _period(row: PreviewRow) -> str:
    return figures.period(Period(row.service_period.from_, row.service_period.to))


def _rate(row: PreviewRow, currency: str) -> str:
    """`0.000002 per token = 2.00 per million`: who mixes the two up sees it."""
    if not row.rate:
        return ""
    said = f"{figures.without_code(Decimal(row.rate), currency)} per {row.per}"
    if not row.rate_per_million:
        return said
    return f"{said} = {figures.without_code(Decimal(row.rate_per_million), currency)} per million"
