"""Killed anywhere and started again, billing goes on, and everything is billed once."""

import signal
import subprocess
import sys
from decimal import Decimal as D
from pathlib import Path

import pytest
from tallyman.domain.invoice_state import InvoiceState
from tallyman.store.credit_ledger import CreditLedger
from tallyman.store.database import Database
from tallyman.store.invoices import InvoiceStore

from tests.integration.billing.billing_until_killed import CUSTOMERS
from tests.integration.billing.test_commands import environment


def ends_of_runs(directory: Path, when: str) -> list[int]:
    """How each run ended: it dies at its first step, its second, and so on, until one is through."""
    module = "tests.integration.billing.billing_until_killed"
    done = subprocess.run(
        [sys.executable, "-m", module, str(directory), when],
        env=environment(directory),
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
        check=True,
    )
    stocked, *ends = map(int, done.stdout.split())
    assert stocked == 0
    return ends


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_every_durable_step_a_run_goes_on_and_bills_once(
    tmp_path: Path, when: str
) -> None:
    ends = ends_of_runs(tmp_path, when)

    database = Database.sqlite(tmp_path / "tallyman.sqlite3")
    invoices, total = await InvoiceStore(database).page("default", limit=100)
    ledger = [await CreditLedger(database).page(one.customer.id) for one in invoices]
    await database.close()
    assert ends[-1] == 0
    assert set(ends[:-1]) == {-signal.SIGKILL}
    assert len(ends) > 2
    assert total == CUSTOMERS
    assert {one.state for one in invoices} == {InvoiceState.PAYMENT_PENDING}
    assert sorted(one.totals.amount for one in invoices) == [
        D(at) for at in range(1, CUSTOMERS + 1)
    ]
    assert {one.totals.credits for one in invoices} == {D("0.50")}
    assert {tuple(x.amount for x in one) for one in ledger} == {(D("-0.50"), D("0.50"))}
    numbers = sorted(one.number for one in invoices)
    assert numbers == [f"INV-{at:06d}" for at in range(1, CUSTOMERS + 1)]
