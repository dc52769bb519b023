"""`make demo`, as a new user runs it."""

import os
import re
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from tallyman.demo import processes

from tests.rigs import stripe_mock

TABLE = {
    ("acme-corp", "claude-3-5-sonnet-20241022", "request"): (2 * 37, 0),
    ("acme-corp", "claude-3-5-sonnet-20241022", "response"): (2 * 15, 0),
    ("acme-corp", "gpt-4o", "request"): (0, 0),  # the provider's 429
    ("acme-corp", "gpt-4o", "response"): (0, 0),
    ("acme-corp", "gpt-4o-2024-08-06", "request"): (10 * 23, 0),
    ("acme-corp", "gpt-4o-2024-08-06", "response"): (10 * 11, 0),
    ("anonymous", "UNSPECIFIED", "request"): (0, 0),  # Kong's own 401
    ("anonymous", "UNSPECIFIED", "response"): (0, 0),
    ("globex", "claude-3-5-sonnet-20241022", "request"): (5 * 37, 0),
    ("globex", "claude-3-5-sonnet-20241022", "response"): (5 * 15, 0),
    ("globex", "gemini-1.5-pro-002", "request"): (3 * 19, 0),
    ("globex", "gemini-1.5-pro-002", "response"): (3 * 13, 0),
    ("globex", "gpt-4o-2024-08-06", "request"): (30, 30),  # 123 bytes / 4, the stream broke off
    ("globex", "gpt-4o-2024-08-06", "response"): (8, 8),
    ("initech", "gemini-1.5-pro-002", "request"): (2 * 19, 0),
    ("initech", "gemini-1.5-pro-002", "response"): (2 * 13, 0),
    ("initech", "gpt-4o-mini", "request"): (4 * 23, 0),
    ("initech", "gpt-4o-mini", "response"): (4 * 11, 0),
    ("initech", "mistral-tiny", "request"): (3 * 23, 0),
    ("initech", "mistral-tiny", "response"): (3 * 11, 0),
}


# 0.002 USD a token that was asked, 0.008 one that was answered, and 20.00 for the month:
# acme    74 + 230 = 304 → 0.608,  30 + 110 = 140 → 1.12                → 20 + 0.61 + 1.12 = 21.73
# globex  185 + 57 + 30 = 272 → 0.544,  75 + 39 + 8 = 122 → 0.976       → 20 + 0.54 + 0.98 = 21.52
# initech 38 + 92 + 69 = 199 → 0.398,  26 + 44 + 33 = 103 → 0.824       → 20 + 0.40 + 0.82 = 21.22
TOTALS = [("acme", "21.73"), ("globex", "21.52"), ("initech", "21.22")]
INVOICE = [
    ["Platform fee", "", "", "flat", "20.00"],
    ["Input tokens", "13", "304", "0.002 = 2,000.00 per million", "0.61"],
    ["Output tokens", "13", "140", "0.008 = 8,000.00 per million", "1.12"],
    ["total", "", "", "", "21.73 USD"],
]


def run_demo(data_dir: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "tallyman", "demo", "--data-dir", str(data_dir)],
        env={**os.environ, "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    return result.stdout


def cells_of(output: str) -> list[list[str]]:
    """The rows of all tables that have lines between their columns."""
    return [[cell.strip() for cell in re.split("[│┃]", x)[1:-1]] for x in output.splitlines()]


def table_in(output: str) -> dict[tuple[str, str, str], tuple[int, int]]:
    rows: dict[tuple[str, str, str], tuple[int, int]] = {}
    consumer = ""
    for cells in cells_of(output):
        if (
            len(cells) != 5
            or "." in cells[4]
            or not cells[3].replace(",", "").isdecimal()
            or cells[0] == "all"
        ):
            continue
        consumer = cells[0] or consumer
        tokens, estimated = (int(cell.replace(",", "") or 0) for cell in cells[3:])
        rows[consumer, cells[1], cells[2]] = (tokens, estimated)
    return rows


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "demo"


@pytest.fixture(scope="module")
def mock() -> str | None:
    """stripe-mock, made now if that can be done."""
    try:
        return stripe_mock.find() or stripe_mock.install()
    except stripe_mock.StripeMockUnavailable:
        return None


@pytest.fixture(scope="module")
def runs(directory: Path, mock: str | None) -> tuple[str, str]:
    """What it prints the first and the second time."""
    return run_demo(directory), run_demo(directory)


def test_the_demo_shows_the_tokens_that_the_providers_reported_and_a_second_run_adds_nothing(
    runs: tuple[str, str],
) -> None:
    first, second = runs

    assert table_in(first) == TABLE
    assert table_in(second) == TABLE
    assert "32 calls: 1 aborted, 29 complete, 1 failed, 1 refused." in first
    assert "tallyman serve" in first


def test_the_demo_bills_what_was_used_and_a_second_run_bills_nothing_more(
    runs: tuple[str, str],
) -> None:
    for output in runs:
        rows = cells_of(output)
        assert [row for row in rows if row in INVOICE] == INVOICE
        pdf = Path(output.split("Its PDF: ")[1].splitlines()[0])
        assert pdf.read_bytes().startswith(b"%PDF-")
    first, second = runs
    assert "9 made, 0 changed, 0 unchanged." in first
    assert "0 made, 0 changed, 9 unchanged." in second
    billed = re.findall(r"INV-\d+ +(\w+) .* ([\d.]+) USD", first)
    assert billed == TOTALS
    assert "3 invoices made or moved: 64.47 USD" in first
    # acme: 74 and 30 tokens at 3.00 and 15.00 a million, 230 and 110 at 2.50 and 10.00: 0.002347
    margin = " ".join(first.split("Margin by customer")[1].split())
    assert "Acme Corp 21.73 0.00 0.0023 21.73 99.9 USD" in margin
    assert "Nothing is due." in second


def test_the_demo_sends_the_invoice_to_stripe_mock_or_says_that_it_is_not_there(
    runs: tuple[str, str], mock: str | None
) -> None:
    sent = [["Platform fee: flat", "20.00"], ["Input tokens: 304 tokens at", "0.61"]]
    for output in runs:
        if mock is None:
            assert output.count("stripe-mock is not here") == 1
            continue
        rows = [cells for cells in cells_of(output) if len(cells) == 2]
        for start, amount in sent:
            assert [x for x in rows if x[0].startswith(start) and x[1] == amount], start
        assert re.search(
            r"stripe-mock took the customer, the draft of INV-\d+, its 3 lines", output
        )


def test_the_demo_ends_with_a_line_explained_down_to_its_requests(runs: tuple[str, str]) -> None:
    for output in runs:
        explained = output.split("What is behind its last line")[1].split("The same with curl")[0]

        assert "Output tokens: 1.12 USD" in explained
        assert "quantity: 140 by the meter" in explained
        assert "of 13 events in 13 calls; 0 free, 140 priced" in explained
        assert re.search("how the numbers were obtained: .*140 provider", explained)
        assert "check: what is listed is the line\n" in explained
        assert len(explained.splitlines()) < 25


def test_the_invoice_is_a_page_of_a_collector_that_stays(
    runs: tuple[str, str], directory: Path, tmp_path: Path
) -> None:
    first, _ = runs
    key, path = first.split("export KEY=")[1].split()[0], first.split("127.0.0.1:8888")[-1].strip()
    with processes.collector(directory, tmp_path / "serve.log") as address:
        page = Request(f"{address}{path}", headers={"Authorization": basic(key)})
        with urlopen(page) as answer:
            assert "21.73" in answer.read().decode()


def basic(key: str) -> str:
    return f"Basic {b64encode(f'me:{key}'.encode()).decode()}"


def test_the_demo_leaves_no_key_on_disk(runs: tuple[str, str], directory: Path) -> None:
    for output in runs:
        key = output.split("export KEY=")[1].split()[0]

        assert key.startswith("tm_")
        files = [path for path in directory.rglob("*") if path.is_file()]
        assert not [path for path in files if key.encode() in path.read_bytes()]
    assert b"tm_" not in (directory / "serve.log").read_bytes()
