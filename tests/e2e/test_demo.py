"""`make demo`, as a new user runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

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


def run_demo(data_dir: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "tallyman", "demo", "--data-dir", str(data_dir)],
        env={**os.environ, "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    return result.stdout


def table_in(output: str) -> dict[tuple[str, str, str], tuple[int, int]]:
    rows: dict[tuple[str, str, str], tuple[int, int]] = {}
    consumer = ""
    for line in output.splitlines():
        cells = [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        if len(cells) != 5 or not cells[3].replace(",", "").isdecimal() or cells[0] == "all":
            continue
        consumer = cells[0] or consumer
        tokens, estimated = (int(cell.replace(",", "") or 0) for cell in cells[3:])
        rows[consumer, cells[1], cells[2]] = (tokens, estimated)
    return rows


def test_the_demo_shows_the_tokens_that_the_providers_reported_and_a_second_run_adds_nothing(
    tmp_path: Path,
) -> None:
    first, second = run_demo(tmp_path / "demo"), run_demo(tmp_path / "demo")

    assert table_in(first) == TABLE
    assert table_in(second) == TABLE
    assert "32 calls: 1 aborted, 29 complete, 1 failed, 1 refused." in first
    assert "tallyman serve" in first


def test_the_demo_leaves_no_key_on_disk(tmp_path: Path) -> None:
    output = run_demo(tmp_path / "demo")
    key = output.split("export KEY=")[1].split()[0]

    assert key.startswith("tm_")
    assert not [
        path for path in tmp_path.rglob("*") if path.is_file() and key.encode() in path.read_bytes()
    ]
    assert b"tm_" not in (tmp_path / "demo" / "serve.log").read_bytes()
