"""`tallyman backtest`: what a month would have brought under a new catalogue. It changes nothing."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from tallyman.api.catalogue.backtest import BacktestAnswer, BacktestRow, backtest
from tallyman.api.catalogue.shelf import Shelf
from tallyman.api.margins import read_month
from tallyman.commands.asking import asked, books_here, server_of
from tallyman.commands.catalogue import read_file
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.console import figures
from tallyman.domain.access import DEFAULT_NAMESPACE


@click.command("backtest")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--month", required=True, help="The month that it is tried on, such as 2026-10.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Whose catalogue.")
@with_settings
def backtest_command(
    settings: Settings, file: Path, month: str, as_json: bool, namespace: str
) -> None:
    """Show what a month would have brought with the catalogue in FILE, against what it brought.

    By customer, as if each subscription had been on FILE's version of its plan, or on the plan that
    FILE gives it. Nothing is changed. Ends with 1 where something could not be rated.
    """
    read_month(month)
    text, name = read_file(file)
    work = _ask if server_of(settings) else _work_here
    answer = asyncio.run(work(settings, namespace, text, name, month))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())
    else:
        console = Console(width=None if Console().is_terminal else 200, markup=False)
        console.print(_table(answer))
        for issue in answer.issues:
            console.print(f"Not rated: {issue}.", soft_wrap=True)
    if answer.issues:
        raise SystemExit(1)


async def _ask(
    settings: Settings, namespace: str, text: str, name: str, month: str
) -> BacktestAnswer:
    body = {"text": text, "name": name, "month": month}
    path = "/api/v1/catalogue/backtest"
    async with asked(settings, namespace, "POST", path, body) as answer:
        return msgspec.json.decode(await answer.read(), type=BacktestAnswer)


async def _work_here(
    settings: Settings, namespace: str, text: str, name: str, month: str
) -> BacktestAnswer:
    async with books_here(settings) as books:
        now = await books.sandboxes.now(namespace, datetime.now(UTC))
        return await backtest(Shelf(books.database, namespace, now), books, text, name, month)


def _table(answer: BacktestAnswer) -> Table:
    table = Table("customer", title=f"{answer.month} under the new catalogue", box=None)
    for name in ("brought", "would bring", "difference"):
        table.add_column(name, justify="right")
    table.add_column("")
    _add(table, answer.rows)
    table.add_section()
    _add(table, answer.totals)
    return table


def _add(table: Table, rows: Iterable[BacktestRow]) -> None:
    for row in rows:
        difference = Decimal(row.difference)
        sign = "+" if difference > 0 else ""
        table.add_row(
            row.customer or "all",
            figures.without_code(Decimal(row.brought), row.currency),
            figures.without_code(Decimal(row.would_bring), row.currency),
            f"{sign}{figures.without_code(difference, row.currency)}",
            row.currency,
        )
