"""The page and the PDF: both show the whole invoice, and nothing that is not text stays markup."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader
from tallyman.console.invoice_page import CONTENT_SECURITY_POLICY, invoice_page
from tallyman.console.invoice_pdf import invoice_pdf
from tallyman.console.invoice_view import InvoiceView, view_of

from tests.rigs import invoices

EVERY = [
    pytest.param(view_of(invoices.invoice(invoices.every_kind())), id="every kind of line"),
    pytest.param(view_of(invoices.long_names()), id="long names, not Latin"),
    pytest.param(view_of(invoices.forty_lines()), id="forty lines"),
    pytest.param(view_of(invoices.invoice(())), id="no lines"),
]


class Texts(HTMLParser):
    """The text that a reader sees, and every tag and attribute that a browser would."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def texts_of(invoice: InvoiceView) -> Iterator[str]:
    """Everything that the view says."""
    yield from (invoice.title, invoice.status, invoice.notice, invoice.description, invoice.total)
    for party in invoice.parties:
        yield from (party.role, party.name, *party.lines)
    for pair in (*invoice.facts, *invoice.totals):
        yield from pair
    for line in invoice.lines:
        yield from (line.name, line.period, line.quantity, *line.rates, line.amount, *line.notes)
        for row in (*line.priced, *line.used):
            yield from (row.label, row.quantity, *row.rates, row.amount)
    yield from invoice.footnotes


def without_space(text: str) -> str:
    """As it is whatever lines it is broken into."""
    return re.sub(r"\s", "", text)


def pdf_text(document: bytes) -> str:
    pages = PdfReader(BytesIO(document)).pages
    return without_space("".join(page.extract_text() for page in pages))


def fonts_of(page: Any) -> dict[str, Any]:
    fonts: dict[str, Any] = page["/Resources"]["/Font"]
    return fonts


@pytest.mark.parametrize("invoice", EVERY)
def test_the_page_says_everything(invoice: InvoiceView) -> None:
    shown = without_space(Texts(invoice_page(invoice, "/x.pdf")).text)

    assert [text for text in texts_of(invoice) if without_space(text) not in shown] == []


@pytest.mark.parametrize("invoice", EVERY)
def test_the_pdf_says_everything(invoice: InvoiceView) -> None:
    shown = pdf_text(invoice_pdf(invoice))

    # A text that goes on on the next page has the foot of the page within it.
    assert [text for text in texts_of(invoice) if without_space(text) not in shown] == []


def test_names_are_no_markup_on_the_page() -> None:
    page = Texts(invoice_page(view_of(invoices.long_names()), "/x.pdf"))

    assert page.tags & {"script", "b", "img", "form", "iframe"} == set()


def test_the_page_loads_nothing() -> None:
    page = Texts(invoice_page(view_of(invoices.long_names()), "/x.pdf"))

    assert page.links == ["data:,", "/x.pdf"]
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY


def test_the_same_invoice_gives_the_same_bytes() -> None:
    first = invoice_pdf(view_of(invoices.long_names()))
    invoice_pdf(view_of(invoices.forty_lines()))  # which must leave nothing behind

    assert invoice_pdf(view_of(invoices.long_names())) == first


def test_the_pdf_has_a_title_and_its_fonts() -> None:
    reader = PdfReader(BytesIO(invoice_pdf(view_of(invoices.long_names()))))

    assert reader.metadata is not None
    assert str(reader.metadata.title).startswith("Invoice INV-000042 · 株式会社")
    fonts = {
        font["/BaseFont"]: font.get("/FontDescriptor", {})
        for page in reader.pages
        for font in (one.get_object() for one in fonts_of(page).values())
    }
    embedded = {name.partition("+")[2] for name, described in fonts.items() if described}
    assert embedded == {"NotoSans-Regular", "NotoSans-Bold", "DroidSansFallback"}


def test_what_no_font_has_is_seen_to_be_missing() -> None:
    made = invoices.invoice((), description="ไทย")

    assert "\N{REPLACEMENT CHARACTER}" * 3 in pdf_text(invoice_pdf(view_of(made)))


def test_pages_are_numbered() -> None:
    reader = PdfReader(BytesIO(invoice_pdf(view_of(invoices.forty_lines()))))

    last = len(reader.pages)
    assert last > 1
    assert f"Page {last} of {last}" in reader.pages[-1].extract_text()
