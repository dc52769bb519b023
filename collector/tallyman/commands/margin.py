"""`tallyman margin`: what was earned, what it cost, and the rate cards that make a loss."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import urlencode

import click
import msgspec
from rich.console import Console
from rich.table import Table

from tallyman.api.margins import MOST_MONTHS, read_month
from tallyman.billing.margin import Asked
from tallyman.billing.margin_report import (
    MarginAnswer,
    MarginRowAnswer,
    loss_line,
    margin_answer,
    months_until,
)
from tallyman.commands.asking import asked, books_here, server_of
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.console import figures
from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.domain.margin import MarginBy


@click.command()
@click.option("--month", help="Such as 2026-10; default: the current one.")
@click.option(
    "--months",
    type=click.IntRange(1, MOST_MONTHS),
    default=1,
    show_default=True,
    help="How many, up to that one.",
)
@click.option(
    "--by",
    type=click.Choice([str(one) for one in MarginBy]),
    default=str(MarginBy.CUSTOMER),
    show_default=True,
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Whose margin.")
@with_settings
def margin(
    settings: Settings, month: str | None, months: int, by: str, as_json: bool, namespace: str
) -> None:
    """Show revenue, invoiced and not yet billed, less what the providers took for it.

    Then the rate cards that make a loss at today's prices, and with whom.
    """
    if month is not None:
        read_month(month)
    work = _ask if server_of(settings) else _work_here
    answer = asyncio.run(work(settings, namespace, month, months, MarginBy(by)))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return
    console = Console(width=None if Console().is_terminal else 200, markup=False)
    console.print(margin_table(answer))
    if any(row.unknown_usage != "0" for row in answer.totals):
        console.print("Usage without a price has no cost here: see `tallyman prices override`.")
    for one in answer.losses:
        console.print(f"Loss: {loss_line(one)}.", soft_wrap=True)


async def _ask(
    settings: Settings, namespace: str, month: str | None, months: int, by: MarginBy
) -> MarginAnswer:
    query = {"by": str(by), "months": str(months)} | ({} if month is None else {"month": month})
    path = f"/api/v1/billing/margin?{urlencode(query)}"
    async with asked(settings, namespace, "GET", path) as answer:
        return msgspec.json.decode(await answer.read(), type=MarginAnswer)


async def _work_here(
    settings: Settings, namespace: str, month: str | None, months: int, by: MarginBy
) -> MarginAnswer:
    async with books_here(settings) as books:
        now = await books.sandboxes.now(namespace, datetime.now(UTC))
        last = now if month is None else read_month(month)
        return await margin_answer(books, Asked(namespace, months_until(last, months), by, now))


def margin_table(answer: MarginAnswer) -> Table:
    """The rows and the sums, for a terminal."""
    span = answer.to if answer.from_ == answer.to else f"{answer.from_} to {answer.to}"
    table = Table(str(answer.by), title=f"Margin by {answer.by}, {span}", box=None)
    has_unknown = any(row.unknown_usage != "0" for row in answer.rows)
    heads = ("invoiced", "not billed", "cost", "margin", "%")
    for name in (*heads, *(("no price",) if has_unknown else ())):
        table.add_column(name, justify="right")
    table.add_column("")
    _add(table, answer.rows, has_unknown)
    table.add_section()
    _add(table, answer.totals, has_unknown)
    return table


def _add(table: Table, rows: Iterable[MarginRowAnswer], has_unknown: bool) -> None:
    for row in rows:
        partly = "" if row.unknown_usage == "0" else "over "
        amounts = [
            _amount(row.invoiced, row.currency),
            _amount(row.unbilled, row.currency),
            _amount(row.cost, row.currency, partly),
            _amount(row.margin, row.currency, "under " if partly else ""),
        ]
        usage = Decimal(row.unknown_usage)
        unknown = [figures.number(usage) if usage else ""] if has_unknown else []
        name = row.name or row.key or "all"
        table.add_row(name, *amounts, row.margin_percent or "", *unknown, row.currency)


def _amount(text: str | None, currency: str, before: str = "") -> str:
    if text is None:
        return "unknown"
    short = figures.short_amount(Decimal(text), currency)
    return f"{before}{figures.without_code(short, currency)}"
