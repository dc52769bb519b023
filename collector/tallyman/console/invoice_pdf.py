"""An invoice as a PDF: the page's content on A4, the same bytes for the same invoice.

It does not decide what is said: see `invoice_view.py`.
"""

from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from typing import Any, Final

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

from tallyman.console.invoice_line_view import LineView, Row
from tallyman.console.invoice_view import InvoiceView, Party
from tallyman.console.typeface import BOLD, REGULAR, marked_up

INK: Final = HexColor("#16181d")
SOFT: Final = HexColor("#5b6270")
RULE: Final = HexColor("#dfe2e8")
MARGIN: Final = 18 * mm
WIDTH: Final = A4[0] - 2 * MARGIN
COLUMNS: Final = tuple(WIDTH * share for share in (0.40, 0.19, 0.27, 0.14))
ROOM_FOR_A_LINE: Final = 28 * mm  # less is left white, so that a line's head is not left alone


def _style(size: float, font: str = REGULAR, color: Color = INK, **rest: Any) -> ParagraphStyle:
    return ParagraphStyle(
        f"{font}-{size}", fontName=font, fontSize=size, leading=size * 1.4, textColor=color, **rest
    )


_RIGHT: Final[dict[str, Any]] = {"alignment": TA_RIGHT}
TITLE: Final = _style(20, BOLD)
TITLE_RIGHT: Final = _style(20, BOLD, **_RIGHT)
TEXT: Final = _style(9)
TEXT_RIGHT: Final = _style(9, **_RIGHT)
STRONG: Final = _style(9, BOLD)
STRONG_RIGHT: Final = _style(9, BOLD, **_RIGHT)
TOTAL_RIGHT: Final = _style(12, BOLD, **_RIGHT)
SMALL: Final = _style(7.5, color=SOFT)
SMALL_RIGHT: Final = _style(7.5, color=SOFT, **_RIGHT)
DETAIL: Final = _style(8, color=SOFT, leftIndent=3 * mm)
DETAIL_RIGHT: Final = _style(8, color=SOFT, **_RIGHT)


def invoice_pdf(invoice: InvoiceView) -> bytes:
    """The document; its fonts are embedded."""
    marked_up("")  # the fonts are there before any style names one
    file = BytesIO()
    document = BaseDocTemplate(
        file,
        pagesize=A4,
        title=f"{invoice.title} · {invoice.parties[-1].name}",
        author=invoice.parties[0].name if len(invoice.parties) > 1 else "",
        subject=f"{invoice.status} · {invoice.total}",
        creator="Tallyman",
        lang="en",
        invariant=1,
    )
    document.addPageTemplates(
        [
            PageTemplate("first", [_frame(top=20 * mm)], autoNextPageTemplate="next"),
            PageTemplate("next", [_frame(top=26 * mm)], onPage=_draw_head),
        ]
    )
    document.build(list(_story(invoice)), canvasmaker=_numbered(invoice))
    return file.getvalue()


def _frame(top: float) -> Frame:
    return Frame(MARGIN, 22 * mm, WIDTH, A4[1] - 22 * mm - top, 0, 0, 0, 0)


def _draw_head(canvas: Canvas, _: BaseDocTemplate) -> None:
    head = _head()
    head.wrap(WIDTH, MARGIN)
    head.drawOn(canvas, MARGIN, A4[1] - 24 * mm)


def _head() -> Table:
    return _grid([_cells("Description", "Quantity", ("Rate",), "Amount", SMALL, SMALL_RIGHT)])


def _numbered(invoice: InvoiceView) -> type[Canvas]:
    """A canvas that writes the foot of every page when it knows how many there are."""
    foot = f"{invoice.title} · {invoice.parties[-1].name}"

    class Numbered(Canvas):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._pages: list[dict[str, Any]] = []

        def showPage(self) -> None:
            self._pages.append(dict(self.__dict__))
            self._startPage()  # type: ignore[attr-defined]  # the stubs leave it out

        def save(self) -> None:
            for number, page in enumerate(self._pages, 1):
                self.__dict__.update(page)
                _draw_foot(self, foot, f"Page {number} of {len(self._pages)}")
                super().showPage()
            super().save()

    return Numbered


def _draw_foot(canvas: Canvas, foot: str, page: str) -> None:
    short = foot if len(foot) <= 80 else f"{foot[:79]}…"
    for text, style in ((short, SMALL), (page, SMALL_RIGHT)):
        paragraph = _text(text, style)
        _, height = paragraph.wrap(WIDTH, MARGIN)
        paragraph.drawOn(canvas, MARGIN, 15 * mm - height)


def _story(invoice: InvoiceView) -> Iterator[Flowable]:
    yield _grid(
        [[_text(invoice.title, TITLE), _text(invoice.total, TITLE_RIGHT)]],
        (WIDTH * 0.62, WIDTH * 0.38),
    )
    yield _text(invoice.status, STRONG)
    for notice in filter(None, (invoice.notice, *invoice.issues)):
        yield Spacer(0, 2 * mm)
        yield _text(notice, TEXT)
    yield Spacer(0, 6 * mm)
    yield _about(invoice)
    yield Spacer(0, 6 * mm)
    if invoice.description:
        yield _text(invoice.description, TEXT)
        yield Spacer(0, 4 * mm)
    yield _head()
    for line in invoice.lines:
        yield CondPageBreak(ROOM_FOR_A_LINE)
        yield _line(line)
    if not invoice.lines:
        yield _text("There is nothing to bill.", TEXT)
    yield CondPageBreak(ROOM_FOR_A_LINE)
    yield _totals(invoice.totals)
    yield Spacer(0, 8 * mm)
    for footnote in invoice.footnotes:
        yield _text(footnote, SMALL)


def _about(invoice: InvoiceView) -> Table:
    facts: list[list[Flowable]] = [
        [_text(label, SMALL), _text(fact, TEXT_RIGHT)] for label, fact in invoice.facts
    ]
    width = WIDTH / 3
    columns: list[Any] = [_party(party) for party in invoice.parties]
    columns += [_grid(facts, (width * 0.36, width * 0.64))]
    widths = [width] * 3 if len(columns) == 3 else [2 * width, width]
    return _grid(
        [columns],
        widths,
        [
            ("LINEABOVE", (0, 0), (-1, -1), 0.5, RULE),
            ("LINEBELOW", (0, 0), (-1, -1), 0.5, RULE),
            ("TOPPADDING", (0, 0), (-1, -1), 10),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 10),
            ("RIGHTPADDING", (0, 0), (-2, -1), 5 * mm),
        ],
    )


def _party(party: Party) -> list[Flowable]:
    below = [_text(line, TEXT) for line in party.lines]
    return [_text(party.role, SMALL), _text(party.name, STRONG), *below]


def _line(line: LineView) -> Table:
    """One line, whose rows may go on on the next page."""
    head = _cells(line.name, line.quantity, line.rates, line.amount, STRONG, TEXT_RIGHT)
    head[0] = [_text(line.name, STRONG), _text(line.period, SMALL)]
    head[3] = _text(line.amount, STRONG_RIGHT)
    rows = [head]
    spans = []
    for title, details in (("How it is priced", line.priced), ("Where it comes from", line.used)):
        if details:
            spans.append(len(rows))
            rows.append([_text(title, SMALL), "", "", ""])
            rows += [_detail(row) for row in details]
    if line.notes:
        spans.append(len(rows))
        rows.append([[_text(note, SMALL) for note in line.notes], "", "", ""])
    style: list[tuple[Any, ...]] = [("SPAN", (0, row), (-1, row)) for row in spans]
    style += [("NOSPLIT", (0, row), (0, row + 1)) for row in spans if row + 1 < len(rows)]
    style += [
        ("LINEABOVE", (0, 0), (-1, 0), 0.5, RULE),
        ("TOPPADDING", (0, 0), (-1, 0), 6),
        ("BOTTOMPADDING", (0, -1), (-1, -1), 6),
    ]
    return _grid(rows, COLUMNS, style, between=3 * mm)


def _detail(row: Row) -> list[Any]:
    return _cells(row.label, row.quantity, row.rates, row.amount, DETAIL, DETAIL_RIGHT)


def _cells(
    label: str,
    quantity: str,
    rates: Iterable[str],
    amount: str,
    left: ParagraphStyle,
    right: ParagraphStyle,
) -> list[Any]:
    return [
        _text(label, left),
        _text(quantity, right),
        [_text(rate, right) for rate in rates],
        _text(amount, right),
    ]


def _totals(totals: Sequence[tuple[str, str]]) -> Table:
    last = len(totals) - 1
    rows: list[list[Any]] = [
        ["", *(_text(text, TOTAL_RIGHT if row == last else TEXT_RIGHT) for text in pair)]
        for row, pair in enumerate(totals)
    ]
    style = [("LINEABOVE", (0, 0), (-1, 0), 0.5, RULE), ("TOPPADDING", (0, 0), (-1, 0), 8)]
    return _grid(rows, (WIDTH * 0.35, WIDTH * 0.3, WIDTH * 0.35), style)


def _grid(
    rows: Sequence[list[Any]],
    widths: Sequence[float] = COLUMNS,
    style: Sequence[tuple[Any, ...]] = (),
    between: float = 0,
) -> Table:
    plain = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("LEFTPADDING", (1, 0), (-1, -1), between),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 1.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
    ]
    return Table(rows, colWidths=list(widths), style=[*plain, *style])


def _text(text: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(marked_up(text, style.fontName), style)
