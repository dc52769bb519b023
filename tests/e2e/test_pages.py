"""The pages as a browser shows them."""

import shutil
import subprocess
from pathlib import Path

import pytest
from tallyman.console.invoice_page import invoice_page
from tallyman.console.invoice_view import view_of
from tallyman.demo import processes

from tests.rigs import invoices

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
            timeout=600,
            check=True,
        ).stdout

    assert "OAS 3.1" in shown
    for summary in ("Take in events", "List events", "Make a meter", "Ask a meter"):
        assert summary in shown


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_no_invoice_is_wider_than_its_window(tmp_path: Path, width: int) -> None:
    """What sticks out would be cut off on a phone: a strip beside the page stays untouched."""
    for name, made in (("long", invoices.long_names()), ("forty", invoices.forty_lines())):
        page = invoice_page(view_of(made), "/x.pdf")
        # A script may not run on the page itself; the one that measures is in the page around it.
        frame = f'<iframe width="{width}" height="900" src="{name}.html"></iframe>'
        measure = (
            "onload = () => { const page = document.querySelector('iframe').contentDocument"
            ".documentElement; document.title = page.scrollWidth - page.clientWidth; }"
        )
        (tmp_path / f"{name}.html").write_text(page)
        (tmp_path / "around.html").write_text(f"{frame}<script>{measure}</script>")

        shown = subprocess.run(
            [
                str(CHROMIUM), *FLAGS, "--allow-file-access-from-files",
                f"--user-data-dir={tmp_path / 'browser'}", f"file://{tmp_path / 'around.html'}",
            ],
            capture_output=True,
            text=True,
            timeout=600,
            check=True,
        ).stdout  # fmt: skip

        assert "<title>0</title>" in shown, name
