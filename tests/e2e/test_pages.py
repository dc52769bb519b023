"""The pages as a browser shows them."""

import shutil
import subprocess
from pathlib import Path

import pytest
from tallyman.demo import processes

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--virtual-time-budget=10000", "--dump-dom"),
)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_page_of_the_api_shows_every_operation(tmp_path: Path) -> None:
    key = processes.create_key(tmp_path / "data", "test")
    with processes.collector(tmp_path / "data", tmp_path / "serve.log") as address:
        page = address.replace("http://", f"http://key:{key}@") + "/docs"
        shown = subprocess.run(
            [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'browser'}", page],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout

    assert "OAS 3.1" in shown
    for summary in ("Take in events", "List events", "Make a meter", "Ask a meter"):
        assert summary in shown
