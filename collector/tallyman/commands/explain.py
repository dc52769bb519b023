"""`tallyman explain`: what an invoice is made of, and what a line of it is, down to the requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Protocol
from urllib.parse import quote, urlencode

import click
import msgspec
from rich.console import Console
from rich.table import Table

from tallyman.api.explanation_answers import explanation_answer, lines_answer
from tallyman.api.explanation_bodies import InvoiceLinesAnswer, LineUsageAnswer
from tallyman.billing.books import Books
from tallyman.billing.explain import explain as explained
from tallyman.billing.explain import explain_all
from tallyman.commands.asking import asked, books_here, server_of
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.domain.credit_note import is_note_number
from tallyman.domain.money import total, written
from tallyman.errors import NotFound

PAGE = 100


class _Explainer(Protocol):
    """Whoever explains: a server, or this process."""

    async def lines(self, invoice: str) -> InvoiceLinesAnswer: ...

    async def line(self, invoice: str, line: str, size: int, after: str) -> LineUsageAnswer: ...


@click.command()
@click.argument("invoice")
@click.argument("line", required=False)
@click.option(
    "--events", default=20, show_default=True, type=click.IntRange(min=1), help="How many to list."
)
@click.option(
    "--hours", default=24, show_default=True, type=click.IntRange(min=0), help="How many to list."
)
@click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Whose invoice.")
@with_settings
def explain(
    settings: Settings, invoice: str, line: str | None, events: int, hours: int, namespace: str
) -> None:
    """Show the lines of INVOICE, by number or id, or down to the requests its LINE: 1, 2, or an id.

    A credit note that corrects can be shown like an invoice.
    Ends with status 1 if what is listed is not the line.
    """
    console = Console(width=None if Console().is_terminal else 200, markup=False)
    whole, found = asyncio.run(_explain(settings, namespace, invoice, line, events))
    if found is None:
        print_lines(console, whole)
    else:
        _print_line(console, found, hours)
    if not all(one.check.ok for one in whole.lines):
        raise SystemExit(1)


async def _explain(
    settings: Settings, namespace: str, invoice: str, line: str | None, events: int
) -> tuple[InvoiceLinesAnswer, LineUsageAnswer | None]:
    async with _explainer(settings, namespace) as explainer:
        whole = await explainer.lines(invoice)
        if line is None:
            return whole, None
        if line.isdigit() and len(line) < 20:
            if not 1 <= int(line) <= len(whole.lines):
                raise NotFound(f"{invoice} has no line {line}, of {len(whole.lines)}")
            line = whole.lines[int(line) - 1].line.id
        size = min(events, PAGE)
        found = await explainer.line(invoice, line, size, "")
        page = found.events
        while page.page.next is not None and len(found.events.data) < events:
            page = (await explainer.line(invoice, line, size, page.page.next)).events
            found.events.data += page.data
            found.events.page = page.page
        return whole, found


@asynccontextmanager
async def _explainer(settings: Settings, namespace: str) -> AsyncIterator[_Explainer]:
    if server_of(settings):
        yield _Server(settings, namespace)
        return
    async with books_here(settings) as books:
        yield _Here(books, namespace)


class _Server:
    def __init__(self, settings: Settings, namespace: str) -> None:
        self._settings = settings
        self._namespace = namespace

    async def lines(self, invoice: str) -> InvoiceLinesAnswer:
        path = f"/api/v3/openmeter/billing/invoices/{quote(invoice, safe='')}/lines"
        async with asked(self._settings, self._namespace, "GET", path) as answer:
            return msgspec.json.decode(await answer.read(), type=InvoiceLinesAnswer)

    async def line(self, invoice: str, line: str, size: int, after: str) -> LineUsageAnswer:
        page = {"page[size]": size} | ({"page[after]": after} if after else {})
        path = (
            f"/api/v3/openmeter/billing/invoices/{quote(invoice, safe='')}/lines/{quote(line, safe='')}"
            f"/usage?{urlencode(page)}"
        )
        async with asked(self._settings, self._namespace, "GET", path) as answer:
            return msgspec.json.decode(await answer.read(), type=LineUsageAnswer)


class _Here:
    def __init__(self, books: Books, namespace: str) -> None:
        self._books = books
        self._namespace = namespace

    async def lines(self, invoice: str) -> InvoiceLinesAnswer:
        return lines_answer(await explain_all(self._books, self._namespace, invoice))

    async def line(self, invoice: str, line: str, size: int, after: str) -> LineUsageAnswer:
        found = await explained(
            self._books, self._namespace, invoice, line, size=size, after=after or None
        )
        return explanation_answer(found, size)


def print_lines(console: Console, whole: InvoiceLinesAnswer) -> None:
    """Show an invoice, or a credit note as one."""
    invoice = whole.invoice
    kind = "Credit note" if is_note_number(invoice.number) else "Invoice"
    console.print(
        f"{kind} {invoice.number} to {invoice.customer}, {invoice.status}, "
        f"counted of what was stored until {invoice.watermark or 'now: not counted yet'}"
    )
    table = Table("", "line", "service period", box=None)
    for name in ("quantity", f"total {invoice.currency}", "check"):
        table.add_column(name, justify="right")
    for number, one in enumerate(whole.lines, 1):
        period = f"{one.line.service_period.from_} – {one.line.service_period.to}"
        check = "adds up" if one.check.ok else "; ".join(one.check.problems)
        quantity = "" if one.quantity is None else one.quantity.raw
        table.add_row(str(number), one.line.name, period, quantity, one.line.total, check)
    console.print(table)


def _print_line(console: Console, found: LineUsageAnswer, hours: int) -> None:
    line, invoice = found.line, found.invoice
    period = f"{line.service_period.from_} – {line.service_period.to}"
    console.print(f"{invoice.number}, {line.name}: {line.total} {invoice.currency}")
    console.print(f"{line.plan}, {period}, of what was stored until {invoice.watermark}")
    console.print(f"price: {msgspec.json.encode(found.rate_card.get('price')).decode()}")
    for before in found.earlier:
        console.print(f"billed: {before.quantity} for {before.total} on {before.invoice}")
    if found.earlier and found.whole is not None:
        console.print(f"the whole period is now: {found.whole}")
    if line.let_off is not None:
        console.print(f"let off before by credit notes, and not given back again: {line.let_off}")
    console.print(_amounts(found))
    if line.credits is not None:
        console.print(f"paid by credit: {line.credits}")
    if found.quantity is not None:
        said = found.quantity
        console.print(
            f"quantity: {said.raw} by the meter {said.meter}, of {said.events} events in "
            f"{said.calls} calls; {said.discounted} free, {said.invoiced} priced"
        )
        how = ", ".join(
            f"{one.quantity or f'{one.events} events'} {one.usage_source or 'not said'}"
            for one in found.sources
        )
        console.print(f"how the numbers were obtained: {how or 'none'}")
        console.print(_hours(found, hours))
        console.print(_events(found))
    if found.events.page.next is not None:
        console.print(f"… and more than these {len(found.events.data)} events: --events N")
    check = "what is listed is the line" if found.check.ok else "; ".join(found.check.problems)
    console.print(f"check: {check}")


def _amounts(found: LineUsageAnswer) -> Table:
    table = Table("amount", box=None)
    for name in ("quantity", "unit price", "exact", f"amount {found.invoice.currency}"):
        table.add_column(name, justify="right")
    for one in found.amounts:
        table.add_row(one.name, one.quantity, one.unit_price, one.exact, one.amount)
    return table


def _hours(found: LineUsageAnswer, most: int) -> Table:
    """The first hours, and the rest of them in one row."""
    table = Table("hour", box=None)
    for name in ("events", "quantity"):
        table.add_column(name, justify="right")
    for one in found.hours[:most]:
        table.add_row(one.from_, str(one.events), one.quantity or "")
    rest = found.hours[most:]
    if rest:
        events = str(sum(one.events for one in rest))
        each = [Decimal(one.quantity) for one in rest if one.quantity is not None]
        quantity = written(total(each)) if len(each) == len(rest) else ""
        hours = "1 hour" if len(rest) == 1 else f"{len(rest)} hours"
        table.add_row(f"{hours} {'more' if most else 'in all'}", events, quantity)
    return table


def _events(found: LineUsageAnswer) -> Table:
    table = Table("time", "request", "subject", "model", "type", "counted by", box=None)
    table.add_column("quantity", justify="right")
    for one in found.events.data:
        table.add_row(
            one.time,
            one.request_id or f"{one.source} {one.id}",
            one.subject,
            one.model or "",
            one.type or "",
            one.usage_source or "",
            one.quantity or one.value,
        )
    return table
