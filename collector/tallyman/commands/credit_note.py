"""`tallyman credit-note`: something is taken back of an invoice, as a record of its own."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import click

from tallyman.api.credit_note_bodies import CreateCreditNoteRequest, CreditNoteAnswer
from tallyman.api.credit_notes import make_note
from tallyman.billing.credit import Order
from tallyman.commands.asking import asked, books_here, server_of
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.console import figures
from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.errors import InvalidInput, NotFound


@click.command("credit-note")
@click.argument("invoice")
@click.option("--reason", required=True, help="Why; it is on the credit note.")
@click.option(
    "--line",
    "lines",
    multiple=True,
    help="LINE=AMOUNT, or LINE for all that is left of it: 1, 2, or an id. Default: every line.",
)
@click.option(
    "--correct", is_flag=True, help="What the lines are too high by, counted and rated anew."
)
@click.option("--refund", is_flag=True, help="Give back what was paid of it.")
@click.option("--key", help="Asked again with the same key, it is made once.")
@click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Whose invoice.")
@with_settings
def credit_note(
    settings: Settings, /, invoice: str, lines: tuple[str, ...], namespace: str, **said: Any
) -> None:
    """Take amounts back of INVOICE, by number or id."""
    if said.pop("correct"):
        said["kind"] = "correction"
    made = asyncio.run(_make(settings, namespace, invoice, lines, said))
    amount = figures.with_code(made.total, made.currency)
    click.echo(f"{made.number}: {amount} of {made.invoice.number} is taken back.")
    for line in made.lines:
        click.echo(f"  {line.name}: {figures.with_code(line.amount, made.currency)}")


async def _make(
    settings: Settings, namespace: str, invoice: str, lines: tuple[str, ...], said: dict[str, Any]
) -> CreditNoteAnswer:
    if server_of(settings):
        path = f"/api/v3/openmeter/billing/invoices/{quote(invoice, safe='')}"
        async with asked(settings, namespace, "GET", path) as answer:
            ids = [line["id"] for line in (await answer.json())["lines"]]
        body = said | _lines(lines, ids)
        async with asked(settings, namespace, "POST", f"{path}/credit-notes", body) as answer:
            return CreditNoteAnswer.model_validate_json(await answer.read())
    async with books_here(settings) as books:
        found = await books.invoices.get(namespace, invoice)
        wanted = _lines(lines, [line.id for line in found.lines])
        request = CreateCreditNoteRequest.model_validate(said | wanted)
        now = await books.sandboxes.now(namespace, datetime.now(UTC))
        order = Order(found.id, request.reason, key=request.key, refund=request.refund)
        return CreditNoteAnswer.of(await make_note(books, namespace, order, request, now))


def _lines(given: tuple[str, ...], ids: list[str]) -> dict[str, Any]:
    """The lines as the API has them.

    Raises:
        NotFound: the invoice has no such line.
    """
    wanted = []
    for text in given:
        line, _, amount = text.partition("=")
        if line.isdigit() and len(line) < 20:
            if not 1 <= int(line) <= len(ids):
                raise NotFound(f"the invoice has no line {line}, of {len(ids)}")
            line = ids[int(line) - 1]
        if "=" in text and not amount:
            raise InvalidInput(f"{text} has no amount")
        wanted.append({"line_id": line} | ({"amount": amount} if amount else {}))
    return {"lines": wanted} if wanted else {}
