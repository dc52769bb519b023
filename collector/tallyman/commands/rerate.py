"""`tallyman rerate`: a customer's past periods are rated again, after a wrong price."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import click
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from tallyman.api.credit_note_bodies import ReRatedAnswer, ReRateRequest
from tallyman.api.problems import invalid_body
from tallyman.api.re_ratings import order_of
from tallyman.billing.re_rate import re_rate
from tallyman.commands.asking import asked, books_here, server_of
from tallyman.commands.bill import MOMENT
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.console import figures
from tallyman.domain.access import DEFAULT_NAMESPACE, LOCAL
from tallyman.domain.period import Period
from tallyman.errors import InvalidInput


@click.command()
@click.argument("customer")
@click.option("--from", "from_", required=True, type=MOMENT, help="Of periods that begin from then")
@click.option("--to", required=True, type=MOMENT, help="up to then.")
@click.option("--plan", help="By the prices of this version, such as starter:2.")
@click.option(
    "--price", "prices", multiple=True, help="RATE_CARD=AMOUNT: by this price of a single unit."
)
@click.option("--reason", required=True, help="Why; it is in the audit log.")
@click.option(
    "--timing",
    type=click.Choice(["next_invoice", "credit_note"]),
    default="next_invoice",
    show_default=True,
    help="Where what was billed too much goes.",
)
@click.option("--refund", is_flag=True, help="Give back what was paid of the credit notes.")
@click.option("--dry-run", is_flag=True, help="Show it, and keep nothing.")
@click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Whose customer.")
@with_settings
def rerate(
    settings: Settings,
    /,
    customer: str,
    from_: datetime,
    to: datetime,
    plan: str | None,
    prices: tuple[str, ...],
    namespace: str,
    **said: Any,
) -> None:
    """Rate the past periods of CUSTOMER, by key or id, again."""
    body = said | {"from": from_.isoformat(), "to": to.isoformat()} | _prices(plan, prices)
    found = asyncio.run(_re_rate(settings, namespace, customer, body))
    console = Console(width=None if Console().is_terminal else 200, markup=False)
    if found.differences:
        console.print(_table(found))
    for currency, amount in found.totals.items():
        console.print(f"Difference: {figures.with_code(amount, currency)}")
    if not found.differences:
        console.print("Nothing that is billed comes to anything else.")
    if found.open:
        console.print(f"{found.open} not billed yet, or on a draft, that will have the new price.")


async def _re_rate(
    settings: Settings, namespace: str, customer: str, body: dict[str, Any]
) -> ReRatedAnswer:
    if server_of(settings):
        path = f"/api/v3/openmeter/billing/customers/{quote(customer, safe='')}/re-rate"
        async with asked(settings, namespace, "POST", path, body) as answer:
            return ReRatedAnswer.model_validate_json(await answer.read())
    try:
        request = ReRateRequest.model_validate(body)
    except ValidationError as err:
        raise invalid_body(err) from err
    async with books_here(settings) as books:
        now = await books.sandboxes.now(namespace, datetime.now(UTC))
        found = await books.customers.get(namespace, customer)
        order = await order_of(books, namespace, found.id, request, LOCAL)
        return ReRatedAnswer.of(await re_rate(books, namespace, order, now))


def _prices(plan: str | None, prices: tuple[str, ...]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if plan is not None:
        key, _, version = plan.partition(":")
        if not version.isdigit():
            raise InvalidInput(f"{plan} is no version of a plan, such as starter:2")
        body["plan"] = {"key": key, "version": int(version)}
    if prices:
        pairs = [text.partition("=") for text in prices]
        body["prices"] = [
            {"key": key, "price": {"type": "unit", "amount": amount}} for key, _, amount in pairs
        ]
    return body


def _table(found: ReRatedAnswer) -> Table:
    table = Table("line", "service period", box=None)
    for name in ("billed", "rated again", "difference"):
        table.add_column(name, justify="right")
    table.add_column("")
    for one in found.differences:
        amounts = (one.billed, one.now, one.difference)
        period = figures.period(Period(one.service_period.from_, one.service_period.to))
        where = f"credit note {one.credit_note}" if one.credit_note else "next invoice"
        table.add_row(
            one.name, period, *(figures.with_code(x, one.currency) for x in amounts), where
        )
    return table
