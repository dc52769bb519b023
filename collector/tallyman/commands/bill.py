"""`tallyman bill`: everything that is due becomes invoices, and every invoice goes as far as it can."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import click
import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tallyman.api.billing_runs import BillingRunRequest, RunLine, check_time, customer_ids
from tallyman.billing.report import RunAnswer, run_answer
from tallyman.billing.run import Order, run
from tallyman.commands.asking import asked, books_here, server_of
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.console import figures
from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.domain.period import in_utc
from tallyman.errors import Unavailable

MOST_SHOWN = 20
Report = Callable[[int, int], None]


class _Moment(click.ParamType[datetime]):
    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail("must be a time such as 2026-12-01 or 2026-12-01T01:00:00Z", param, ctx)
        return in_utc(moment)


MOMENT = _Moment()


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what it would do, and do nothing.")
@click.option("--at", type=MOMENT, help="Bill as if it were this time (UTC); default: now.")
@click.option("--ahead", is_flag=True, help="Bill what is not over yet, up to a time to come.")
@click.option("--customer", "customers", multiple=True, help="Only this one, by key or id.")
@click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Whose customers.")
@with_settings
def bill(
    settings: Settings,
    dry_run: bool,
    at: datetime | None,
    ahead: bool,
    customers: tuple[str, ...],
    namespace: str,
) -> None:
    """Bill everything that is due; a second time, nothing."""
    console = Console(width=None if Console().is_terminal else 200, markup=False)
    terminal = Console(stderr=True)
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("Billing customers", total=None)

        def report(done: int, all_: int) -> None:
            bar.update(task, completed=done, total=all_)

        work = _ask if server_of(settings) else _bill_here
        wanted = BillingRunRequest(
            at=at, customers=list(customers), dry_run=dry_run, ahead=ahead or dry_run
        )
        answer = asyncio.run(work(settings, namespace, wanted, report))
    _print(console, answer, dry_run=dry_run)
    if answer.not_corrected or any(one.issues for one in answer.invoices):
        raise SystemExit(1)


async def _ask(
    settings: Settings,
    namespace: str,
    wanted: BillingRunRequest,
    report: Report,
) -> RunAnswer:
    body = wanted.model_dump(mode="json", exclude_none=True)
    outcome = None
    async with asked(settings, namespace, "POST", "/api/v1/billing/run", body) as answer:
        async for text in answer.content:
            line = msgspec.json.decode(text, type=RunLine)
            report(line.done, line.all)
            outcome = line.outcome or outcome
    if outcome is None:
        raise Unavailable("the server stopped halfway; run it again, and it goes on")
    return outcome


async def _bill_here(
    settings: Settings,
    namespace: str,
    wanted: BillingRunRequest,
    report: Report,
) -> RunAnswer:
    async with books_here(settings) as books:
        now = await books.sandboxes.now(namespace, datetime.now(UTC))
        check_time(wanted.at, now, ahead=wanted.ahead)
        ids = await customer_ids(books, namespace, wanted.customers)
        order = Order(wanted.at or now, ids, dry_run=wanted.dry_run, report=report)
        return run_answer(await run(books, namespace, order))


def _print(console: Console, answer: RunAnswer, *, dry_run: bool) -> None:
    for text in answer.not_corrected:
        console.print(text)
    if not answer.invoices:
        console.print("Nothing is due.")
        return
    table = Table("invoice", "customer", "status", "lines", "corrections", "total", box=None)
    for one in answer.invoices[:MOST_SHOWN]:
        total = figures.with_code(Decimal(one.total), one.currency)
        problems = "".join(f" ({code})" for code in one.issues)
        table.add_row(
            one.number,
            one.customer,
            one.status + problems,
            str(one.lines),
            str(one.corrections),
            total,
        )
    console.print(table)
    if len(answer.invoices) > MOST_SHOWN:
        console.print(f"… and {len(answer.invoices) - MOST_SHOWN:,} more")
    totals = ", ".join(
        figures.with_code(Decimal(total), currency) for currency, total in answer.totals.items()
    )
    did = "would be made or moved" if dry_run else "made or moved"
    console.print(f"{figures.counted(len(answer.invoices), 'invoice')} {did}: {totals}")
    if answer.left:
        console.print(f"{answer.left:,} were billed by another run at the same time.")
