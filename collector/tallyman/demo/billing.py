"""The demo's second half: customers and plans from a file, what they owe, and one invoice of it.

It runs the commands that a user would; what they do is theirs.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any, Final

import aiohttp
from rich.console import Console

from tallyman.console import figures
from tallyman.demo import processes, show, traffic
from tallyman.domain.duration import Duration
from tallyman.errors import Unavailable

CUSTOMER: Final = "acme"
API: Final = "/api/v3/openmeter"


@dataclass(frozen=True)
class ShownInvoice:
    """An invoice as the API has it, and as a file."""

    body: dict[str, Any]
    pdf: bytes


def write_catalogue(data_dir: Path, month: datetime) -> Path:
    """The catalogue as a file; its subscriptions begin with the month."""
    text = (resources.files(__package__) / "catalog.yaml").read_text(encoding="utf-8")
    begin = f'"{month:%Y-%m-%dT%H:%M:%SZ}"'
    path = data_dir / "catalog.yaml"
    path.write_text(text.replace("active_from: THE_MONTH", f"active_from: {begin}"), "utf-8")
    return path


def sell_and_bill(console: Console, data_dir: Path, month: datetime) -> None:
    """From the file to invoices, beside the running collector."""
    billed_at = Duration(1).after(month) + traffic.SETTLED
    catalogue = str(write_catalogue(data_dir, month))
    for title, *command in (
        ("Customers and plans", "apply", catalogue),
        (f"What {CUSTOMER} has not been billed for", "preview", CUSTOMER),
        (
            f"Billed as on {figures.day(billed_at)}",
            *("bill", "--at", f"{billed_at:%Y-%m-%dT%H:%M:%SZ}"),
        ),
    ):
        _run(console, data_dir, title, *command)


def show_margin(console: Console, data_dir: Path, month: datetime) -> None:
    """What the month earned, less what the providers took for it."""
    _run(console, data_dir, "What it cost, what it earned", "margin", "--month", f"{month:%Y-%m}")


def explain_line(console: Console, data_dir: Path, invoice: dict[str, Any]) -> None:
    """The last line of an invoice, down to the requests, and whether they are the line."""
    named = invoice["number"], str(len(invoice["lines"]))
    title = "What is behind its last line"
    _run(console, data_dir, title, "explain", *named, "--hours", "2", "--events", "3")


def _run(console: Console, data_dir: Path, title: str, *command: str) -> None:
    """A command, said before it is run."""
    typed = f"TALLYMAN_DATA_DIR={data_dir} .venv/bin/tallyman {' '.join(command)}"
    console.print(f"\n{title}: {typed}", soft_wrap=True, markup=False)
    console.file.flush()  # before the command writes to the same file
    processes.tallyman(data_dir, *command)


def show_invoice(
    console: Console, data_dir: Path, address: str, key: str, month: datetime
) -> dict[str, Any]:
    """Print the customer's invoice of the month, and keep its PDF."""
    invoice = asyncio.run(_read_invoice(address, key, month))
    path = data_dir / f"{invoice.body['number']}.pdf"
    path.write_bytes(invoice.pdf)
    console.print()
    console.print(show.invoice_table(invoice.body))
    console.print(f"Its PDF: {path}", soft_wrap=True, markup=False)
    return invoice.body


async def _read_invoice(address: str, key: str, month: datetime) -> ShownInvoice:
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(address, headers=headers, raise_for_status=True) as session:
        async with session.get(f"{API}/customers/{CUSTOMER}") as answer:
            customer = await answer.json()
        filters = {
            "filter[customer_id]": customer["id"],
            "filter[service_period_start]": f"{month:%Y-%m-%dT%H:%M:%SZ}",
        }
        async with session.get(f"{API}/billing/invoices", params=filters) as answer:
            invoices = (await answer.json())["data"]
        if not invoices:
            raise Unavailable(f"{CUSTOMER} has no invoice of {month:%B %Y}")
        async with session.get(f"{API}/billing/invoices/{invoices[0]['id']}/pdf") as answer:
            return ShownInvoice(invoices[0], await answer.read())
