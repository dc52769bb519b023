"""`tallyman bill` and `tallyman preview`, by themselves and beside a server that holds the stores."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tallyman import connections
from tallyman.config import Settings
from tallyman.data_directory import is_served
from tallyman.domain.duration import Duration

from tests.rigs.shop import COLLECTED, Shop

# `preview` has no other clock than the machine's.
THIS_MONTH = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
DUE = (Duration(1).after(THIS_MONTH) + COLLECTED).isoformat()

COMMAND = [sys.executable, "-m", "tallyman"]
OPEN_SECONDS = 30


async def stock(directory: Path) -> None:
    """A customer who used 15,000 tokens this month, in a data directory."""
    settings = Settings(data_dir=directory)
    clickhouse, database = (
        connections.open_clickhouse(settings),
        connections.open_database(settings),
    )
    try:
        await database.migrate()
        shop = Shop(database, clickhouse, "default")
        await shop.events.migrate()
        await shop.plan(await shop.card())
        await shop.customer()
        await shop.subscribe(at=THIS_MONTH)
        await shop.use(15_000, THIS_MONTH)
    finally:
        await database.close()
        await clickhouse.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    subprocess.run(
        [sys.executable, "-m", "tests.integration.billing.test_commands", str(made)],
        check=True,
        env=environment(made),
    )
    return made


def environment(directory: Path) -> dict[str, str]:
    return {
        **os.environ,
        "TALLYMAN_DATA_DIR": str(directory),
        "TALLYMAN_PORT": "0",
        "TALLYMAN_BILLING_INTERVAL_SECONDS": "0",
        "PYTHONPATH": "collector:plugin:.",
    }


def tallyman(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(directory),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def serving(directory: Path) -> Iterator[None]:
    process = subprocess.Popen(
        [*COMMAND, "serve"], env=environment(directory), stdout=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + OPEN_SECONDS
        while not is_served(directory):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_bill_by_itself_and_beside_a_server_say_the_same(directory: Path) -> None:
    dry = tallyman(directory, "bill", "--dry-run", "--at", DUE)
    early = tallyman(directory, "bill", "--at", DUE)
    with serving(directory):
        unknown = tallyman(directory, "preview", "nobody")
        beside = tallyman(directory, "bill", "--ahead", "--at", DUE, "--customer", "acme")
        again = tallyman(directory, "bill", "--ahead", "--at", DUE)

    assert "1 invoice would be made or moved: 0.03 USD" in dry.stdout
    assert early.returncode == 1
    assert early.stderr.startswith("tallyman: at is to come: show what it would do with dry_run")
    assert (beside.returncode, beside.stderr) == (0, "")
    assert "INV-000001" in beside.stdout
    assert "1 invoice made or moved: 0.03 USD" in beside.stdout
    assert again.stdout == "Nothing is due.\n"
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "tallyman: no customer has the id or key nobody\n",
    )


def test_preview_shows_what_is_not_yet_billed(directory: Path) -> None:
    by_itself = tallyman(directory, "preview", "acme")
    with serving(directory):
        beside = tallyman(directory, "preview", "acme")

    assert by_itself.stderr == ""
    assert by_itself.stdout == beside.stdout
    row = " ".join(by_itself.stdout.splitlines()[1].split())
    assert row == "Tokens gpt-4o request 15,000 0.000002 per token = 2.00 per million 0.03"
    assert "Not yet billed: 0.03 USD" in by_itself.stdout


def test_diff_says_whose_next_invoice_by_itself_and_beside_a_server(directory: Path) -> None:
    catalogue = directory / "catalog.yaml"
    catalogue.write_text(tallyman(directory, "dump").stdout.replace("'0.000002'", "0.00001"))

    by_itself = tallyman(directory, "diff", str(catalogue))
    with serving(directory):
        beside = tallyman(directory, "diff", str(catalogue))
        applied = tallyman(directory, "apply", str(catalogue))

    assert by_itself.stdout.endswith(
        "0 to be made, 2 to be changed, 2 unchanged.\n"
        "The next invoice of acme, of what is not billed yet: 0.03 → 0.15 USD (+0.12)\n"
    )
    assert (by_itself.stderr, beside.stdout) == ("", by_itself.stdout)
    assert applied.stdout.endswith("0 made, 2 changed, 2 unchanged.\n")


def test_margin_and_backtest_say_the_same_by_themselves_and_beside_a_server(
    directory: Path,
) -> None:
    catalogue = directory / "catalog.yaml"
    catalogue.write_text(tallyman(directory, "dump").stdout.replace("'0.000002'", "0.00001"))
    tried = ("backtest", str(catalogue), "--month", THIS_MONTH.strftime("%Y-%m"))

    by_itself = [tallyman(directory, *one) for one in (("margin",), tried)]
    with serving(directory):
        beside = [tallyman(directory, *one) for one in (("margin",), tried)]

    assert [(one.returncode, one.stderr) for one in by_itself] == [(0, "")] * 2
    assert [one.stdout for one in beside] == [one.stdout for one in by_itself]
    margin, backtest = (" ".join(one.stdout.split()) for one in by_itself)
    # the events say no provider, so nobody knows what they cost
    assert "acme 0.00 0.03 unknown unknown 15,000 USD" in margin
    assert "acme 0.03 0.15 +0.12 USD" in backtest


def test_explain_says_the_same_by_itself_and_beside_a_server(directory: Path) -> None:
    tallyman(directory, "bill", "--at", DUE, "--ahead")
    by_itself = tallyman(directory, "explain", "INV-000001", "1")
    lines = tallyman(directory, "explain", "INV-000001")
    with serving(directory):
        beside = tallyman(directory, "explain", "INV-000001", "1")
        unknown = tallyman(directory, "explain", "INV-000002")

    assert (by_itself.returncode, by_itself.stderr) == (0, "")
    assert by_itself.stdout == beside.stdout
    assert "check: what is listed is the line\n" in by_itself.stdout
    assert "Tokens: usage in period 15000 0.000002 0.03 0.03" in " ".join(by_itself.stdout.split())
    assert lines.stdout.split()[-4:] == ["15000", "0.03", "adds", "up"]
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "tallyman: no invoice has the id or number INV-000002\n",
    )


def test_a_statement_is_checked_by_the_file_alone(directory: Path, tmp_path: Path) -> None:
    month = THIS_MONTH.strftime("%Y-%m")
    by_itself = tallyman(directory, "statement", "acme", "--month", month)
    until = json.loads(by_itself.stdout.splitlines()[0])["stored_until"]
    again = ("statement", "acme", "--month", month, "--stored-until", until)
    with serving(directory):
        beside = tallyman(directory, *again)
        unknown = tallyman(directory, "statement", "nobody", "--month", month)
    file = tmp_path / "statement.jsonl"
    file.write_text(by_itself.stdout)
    whole = tallyman(tmp_path / "elsewhere", "check-statement", str(file))
    file.write_text(by_itself.stdout.replace('"15000"', '"14000"'))
    changed = tallyman(tmp_path / "elsewhere", "check-statement", str(file))

    assert (by_itself.stderr, beside.stdout) == ("", by_itself.stdout)
    assert (whole.returncode, whole.stdout.splitlines()[1]) == (0, "15000 gpt-4o request")
    assert (changed.returncode, changed.stderr) == (
        1,
        "tallyman: line 2 was changed, or one before it is missing\n",
    )
    assert "no customer has the id or key nobody" in unknown.stderr


def test_credit_note_and_rerate_put_an_invoice_right(directory: Path) -> None:
    tallyman(directory, "bill", "--ahead", "--at", DUE)
    note = ["credit-note", "INV-000001", "--reason", "an outage", "--line", "1=0.01"]
    rerate = ["rerate", "acme", "--from", "2026-11-01", "--to", "2026-12-01", "--reason", "wrong"]

    by_itself = tallyman(directory, *note, "--key", "a")
    shown = tallyman(directory, *rerate, "--price", "tokens=0.000001", "--dry-run")
    with serving(directory):
        again = tallyman(directory, *note, "--key", "a")
        too_much = tallyman(directory, *note[:-1], "1=0.03")
        beside = tallyman(directory, *rerate, "--price", "tokens=0.000001", "--dry-run")

    assert by_itself.stdout.splitlines()[0] == "CN-000001: 0.01 USD of INV-000001 is taken back."
    assert (by_itself.stderr, again.stdout) == ("", by_itself.stdout)
    assert (too_much.returncode, too_much.stdout) == (1, "")
    assert "lines[0].amount is more than the 0.02 USD that are left" in too_much.stderr
    assert (shown.stderr, beside.stdout) == ("", shown.stdout)
    assert "Nothing that is billed comes to anything else." in shown.stdout


if __name__ == "__main__":
    asyncio.run(stock(Path(sys.argv[1])))
