"""The demo's invoice as Stripe would get it, sent to stripe-mock where that is there.

stripe-mock is Stripe's own: it checks every parameter by Stripe's spec, and remembers nothing. So the
calls are made here one after the other; what a server does with Stripe is `payments/`'s.
"""

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tallyman import data_directory
from tallyman.console import figures
from tallyman.demo import processes
from tallyman.domain.invoice import Invoice
from tallyman.domain.stripe_amount import exact_amount
from tallyman.payments.stripe_calls import StripeCalls
from tallyman.payments.stripe_connection import StripeConnection
from tallyman.payments.stripe_lines import (
    StripeLine,
    customer_params,
    invoice_params,
    lines_of,
)
from tallyman.store.database import Database
from tallyman.store.invoices import InvoiceStore

NAMESPACE: Final = "default"  # where the demo's key is good
KEY: Final = "sk_test_demo"  # stripe-mock takes any
TIMEOUT_SECONDS: Final = 30.0
WITHOUT: Final = (
    "Stripe: stripe-mock is not here (make test installs it), so no invoice is sent there."
)


def show_stripe(console: Console, data_dir: Path, invoice_id: str) -> None:
    """Send the invoice, and print what was sent; without stripe-mock say so in a line."""
    program = find_stripe_mock()
    if program is None:
        console.print(f"\n{WITHOUT}", soft_wrap=True)
        return
    invoice = asyncio.run(_read(data_dir, invoice_id))
    with processes.stripe_mock(program, data_dir / "stripe-mock.log") as address:
        asyncio.run(_send(address, invoice))
    lines = lines_of(invoice)
    console.print()
    console.print(_table(lines, invoice.currency))
    console.print(
        f"stripe-mock took the customer, the draft of {invoice.number}, its {len(lines)} lines, the "
        "finalizing and the payment: each parameter fits Stripe's spec.",
        soft_wrap=True,
    )


def find_stripe_mock() -> str | None:
    """Where it is: beside Python's programs, or on the path."""
    beside = Path(sys.executable).with_name("stripe-mock")
    return str(beside) if beside.is_file() else shutil.which("stripe-mock")


async def _read(data_dir: Path, invoice_id: str) -> Invoice:
    """From beside the running collector."""
    database = Database.sqlite(data_directory.database_path(data_dir))
    try:
        return await InvoiceStore(database).get(NAMESPACE, invoice_id)
    finally:
        await database.close()


async def _send(address: str, invoice: Invoice) -> None:
    connection = StripeConnection(KEY, address, TIMEOUT_SECONDS)
    calls, key = StripeCalls(connection), f"tallyman-{invoice.id}-0"
    try:
        customer = await calls.create_customer(
            customer_params(invoice.customer, 0), f"tallyman-{invoice.customer.id}-customer-0"
        )
        draft = await calls.create_invoice(invoice_params(invoice, customer, 0), f"{key}-invoice")
        await calls.add_lines(draft.id, lines_of(invoice), f"{key}-lines-0")
        await calls.finalize(draft.id, f"{key}-finalize-0")
        await calls.pay(draft.id, f"{key}-collect-0")
    finally:
        await connection.close()


def _table(lines: list[StripeLine], currency: str) -> Table:
    table = Table("line at Stripe", title="The invoice as Stripe gets it")
    table.add_column("amount", justify="right")
    for line in lines:
        table.add_row(
            line.description, figures.without_code(exact_amount(line.amount, currency), currency)
        )
    return table
