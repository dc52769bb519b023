"""What the demo prints: meters and an invoice as tables, and the curl lines that give the same."""

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import aiohttp
from rich.console import Console
from rich.table import Table

from tallyman.api.wire import read_time
from tallyman.console import figures
from tallyman.domain.period import Period

TOKENS: Final = "kong_konnect_llm_tokens"
ESTIMATED: Final = "tallyman_llm_estimated_tokens"
CALLS: Final = "tallyman_llm_calls"
BY: Final = ("subject", "model", "type")

Values = dict[tuple[str, ...], Decimal]


def query_meters(address: str, key: str) -> dict[str, Values]:
    """The three meters of the table, each by the dimensions that it is shown by."""
    return asyncio.run(_query_meters(address, key))


def token_table(meters: dict[str, Values]) -> Table:
    """Tokens by consumer, model and type, and how many of them are estimates."""
    table = Table("consumer", "model", "type", title="Tokens that count")
    table.add_column("tokens", justify="right")
    table.add_column("estimated", justify="right")
    last = None
    for group, tokens in sorted(meters[TOKENS].items()):
        subject, *rest = group
        estimated = meters[ESTIMATED].get(group, Decimal(0))
        shown = f"{estimated:,}" if estimated else ""
        if last not in (None, subject):
            table.add_section()
        table.add_row(subject if subject != last else "", *rest, f"{tokens:,}", shown)
        last = subject
    table.add_section()
    table.add_row("all", "", "", f"{sum(meters[TOKENS].values()):,}", "")
    return table


def call_line(meters: dict[str, Values]) -> str:
    """How many calls there were, by how they went."""
    outcomes = {group[0]: int(count) for group, count in meters[CALLS].items()}
    parts = [f"{count} {outcome}" for outcome, count in sorted(outcomes.items()) if count]
    return f"{sum(outcomes.values())} calls: {', '.join(parts)}."


def invoice_table(invoice: dict[str, Any]) -> Table:
    """The lines of an invoice as the API has it: what was used, at what rate, and what it costs."""
    currency, period = invoice["currency"], invoice["service_period"]
    span = Period(read_time(period["from"]), read_time(period["to"]))
    name = f"{invoice['customer']['name']}, {figures.period(span)}"
    table = Table("line", title=f"Invoice {invoice['number']}: {name}")
    for heading in ("calls", "tokens", "rate per token", "amount"):
        table.add_column(heading, justify="right")
    for line in invoice["lines"]:
        usage = line["explanation"].get("usage")
        table.add_row(
            line["name"],
            str(usage["calls"]) if usage else "",
            f"{Decimal(line['usage_quantity_detail']['raw_quantity']):,}" if usage else "",
            _rate(line["rate_card"]["price"], currency),
            figures.without_code(Decimal(line["totals"]["total"]), currency),
        )
    table.add_section()
    total = figures.with_code(Decimal(invoice["totals"]["total"]), currency)
    table.add_row("total", "", "", "", total)
    return table


def _rate(price: dict[str, Any], currency: str) -> str:
    if price["type"] != "unit":
        return str(price["type"])
    each, million = (
        figures.without_code(Decimal(price[name]), currency)
        for name in ("amount", "amount_per_million")
    )
    return f"{each} = {million} per million"


def curl_lines(data_dir: Path, key: str, invoice_id: str) -> str:
    """How to ask the same of a collector that stays."""
    body = json.dumps({"group_by_dimensions": list(BY)})
    return (
        f"TALLYMAN_DATA_DIR={data_dir} .venv/bin/tallyman serve\n\n"
        f"export KEY={key}\n"
        f"curl http://127.0.0.1:8888/api/v3/openmeter/meters/{TOKENS}/query \\\n"
        f"  -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' \\\n"
        f"  -d '{body}'\n"
        "curl -G http://127.0.0.1:8888/api/v3/openmeter/events \\\n"
        "  -H \"Authorization: Bearer $KEY\" -d 'filter[subject]=globex' -d 'page[size]=3'\n\n"
        "The invoice as a page, for any user name and the key as the password:\n"
        f"http://127.0.0.1:8888/invoices/{invoice_id}"
    )


def show(console: Console, meters: dict[str, Values]) -> None:
    """Print the table and the calls."""
    console.print(token_table(meters))
    console.print(call_line(meters))


async def _query_meters(address: str, key: str) -> dict[str, Values]:
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(address, headers=headers, raise_for_status=True) as session:
        return {
            TOKENS: await _query(session, TOKENS, BY),
            ESTIMATED: await _query(session, ESTIMATED, BY),
            CALLS: await _query(session, CALLS, ("outcome",)),
        }


async def _query(session: aiohttp.ClientSession, meter: str, by: tuple[str, ...]) -> Values:
    asked: dict[str, Any] = {"group_by_dimensions": list(by)}
    async with session.post(f"/api/v3/openmeter/meters/{meter}/query", json=asked) as answer:
        rows = (await answer.json())["data"]
    return {
        tuple(row["dimensions"][name] or "" for name in by): Decimal(row["value"]) for row in rows
    }
