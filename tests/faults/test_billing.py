"""Killed before and after each of its transactions, billing goes on, and everything is billed once."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

from tallyman.billing.books import Books
from tallyman.store.database import Database

from tests.faults.billing_world import CUSTOMERS, VISITOR
from tests.faults.test_sweep import WHENS, lived
from tests.rigs.clickhouse import ClickHouse

STEPS = {
    "InvoiceStore.add": 4,
    "InvoiceStore.replace": 2,
    "CreditGrantStore.turn": 1,
}  # and how often
FIRST = {"BillingProfileStore._add_default": 1}  # with what is a namespace's first
IMPORTED = re.compile(r"^from (tallyman\.billing\.\w+) import", re.MULTILINE)
TOGETHER = ("database", "together")  # where somebody moves an invoice on
CALLED = re.compile(r"\bbooks\.(\w+)\.(\w+)\(")


def test_every_transaction_of_a_run_is_swept(tmp_path: Path) -> None:
    """Whatever of a store is called in a run's module, or in one of billing's that it imports."""
    modules, called = ["tallyman.billing.run"], set()
    for name in modules:  # which grows
        source = inspect.getsource(importlib.import_module(name))
        modules += [one for one in IMPORTED.findall(source) if one not in modules]
        called |= set(CALLED.findall(source))
    books = Books(Database.sqlite(tmp_path / "none"), Mock())
    methods = [getattr(getattr(books, store), method) for store, method in called - {TOGETHER}]
    writing = {one.__qualname__ for one in methods if ".writing()" in inspect.getsource(one)}

    assert writing == set(STEPS)


def test_killed_at_every_durable_step_a_run_goes_on_and_bills_once(
    tmp_path: Path, clickhouse_server: ClickHouse, clickhouse_database: str
) -> None:
    user = f"{clickhouse_server.username}:{clickhouse_server.password}"
    address = f"{clickhouse_server.host}:{clickhouse_server.port}/{clickhouse_database}"
    environment = {"CLICKHOUSE": f"http://{user}@{address}"}
    steps = {f"{when}:{step}": n for when in WHENS for step, n in (STEPS | FIRST).items()}
    faults = [f"{step}:{at}" for step, times in steps.items() for at in range(1, times + 1)]
    swept = {
        found["fault"]: found
        for found in lived("billing_world", tmp_path, 1, ["", *faults], environment)
    }

    assert swept[""]["reached"] == steps
    assert set(swept) == {"", *faults}
    for found in swept.values():
        check(found)


def check(found: dict[str, Any]) -> None:
    """It was killed where it should, and every customer is billed once; the first has paid it all by credit."""
    fault, customers = found["fault"], range(1, CUSTOMERS + 1)
    assert found["ends"] == ([-9, 0] if fault else [0]), fault
    assert found["invoices"] == [
        ["c1", "paid", "1.00", "1.00"],
        *(
            ["c" + str(at), "payment_processing.pending", f"{at}.00", "0.50"]
            for at in customers[1:]
        ),
    ], fault
    assert found["numbers"] == [f"INV-{at:06d}" for at in customers], fault
    assert found["ledger"] == {
        "c1": ["-1.00", "0.50", "0.50"],
        **{f"c{at}": ["-0.50", "0.50"] for at in customers[1:]},
        VISITOR: ["0.50"],
    }, fault
