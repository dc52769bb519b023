"""Revenue and cost as bars: a picture of the margin's table, and the same in words.

It computes nothing: what it shows is in the table too.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from reportlab.graphics import renderSVG
from reportlab.graphics.charts.barcharts import HorizontalBarChart
from reportlab.graphics.charts.legends import Legend
from reportlab.graphics.shapes import Drawing
from reportlab.lib.colors import HexColor

from tallyman.billing.margin_report import MarginRowAnswer
from tallyman.console import figures

MOST_SHOWN: Final = 12
_REVENUE: Final = HexColor("#2350c9")
_COST: Final = HexColor("#d9822b")
_SOFT: Final = HexColor("#5b6270")
_WIDTH: Final = 720
_LABELS: Final = 190
_LONGEST_LABEL: Final = 32
_BAR: Final = 11


@dataclass(frozen=True)
class Chart:
    """A picture, as an address that holds all of it, with what it says in words."""

    source: str
    words: str
    title: str
    width: int
    height: int


def charts(rows: Sequence[MarginRowAnswer]) -> list[Chart]:
    """One for each currency, of the rows with the largest amounts."""
    return [
        _chart([row for row in rows if row.currency == currency][:MOST_SHOWN], currency)
        for currency in sorted({row.currency for row in rows})
    ]


def _chart(rows: Sequence[MarginRowAnswer], currency: str) -> Chart:
    height = len(rows) * (2 * _BAR + 14) + 60
    drawing = Drawing(_WIDTH, height)
    bars = HorizontalBarChart()
    bars.x, bars.y = _LABELS, 28
    bars.width, bars.height = _WIDTH - _LABELS - 30, height - 62
    top_down = list(reversed(rows))
    # Of two bars that belong together the lower one is first.
    bars.data = [
        [float(row.cost or 0) for row in top_down],  # only the length of a bar
        [float(row.revenue) for row in top_down],
    ]
    for bar, color in ((0, _COST), (1, _REVENUE)):
        bars.bars[bar].fillColor = color
        bars.bars[bar].strokeColor = None
    bars.barWidth, bars.groupSpacing = _BAR, 14
    bars.categoryAxis.categoryNames = [_label(row) for row in top_down]
    bars.categoryAxis.labels.fontSize = 11
    bars.categoryAxis.strokeColor = bars.valueAxis.strokeColor = _SOFT
    bars.categoryAxis.visibleTicks = False
    bars.valueAxis.labels.fontSize = 10
    bars.valueAxis.labels.fillColor = _SOFT
    bars.valueAxis.visibleGrid = True
    bars.valueAxis.gridStrokeColor = HexColor("#dfe2e8")
    if not any(value < 0 for series in bars.data for value in series):
        bars.valueAxis.valueMin = 0
    drawing.add(bars)
    drawing.add(_legend(height))
    # Without a DOCTYPE, which would name an address outside.
    svg = renderSVG.drawToString(drawing)
    svg = svg[svg.index("<svg") :].replace("<title>...</title>", "").replace("<desc>...</desc>", "")
    encoded = base64.b64encode(svg.encode()).decode()
    return Chart(
        source=f"data:image/svg+xml;base64,{encoded}",
        words="; ".join(
            f"{_label(row)}: revenue {_amount(row.revenue, currency)}, cost {_cost(row)}"
            for row in rows
        ),
        title=f"Revenue and cost in {currency}",
        width=_WIDTH,
        height=height,
    )


def _legend(height: int) -> Legend:
    legend = Legend()
    legend.x, legend.y = _LABELS, height - 10
    legend.colorNamePairs = [(_REVENUE, "revenue"), (_COST, "cost")]
    legend.columnMaximum, legend.alignment = 1, "right"
    legend.fontSize, legend.dx, legend.dy = 11, 9, 9
    legend.deltax, legend.strokeColor = 90, None
    return legend


def _label(row: MarginRowAnswer) -> str:
    text = row.name or row.key
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"


def _cost(row: MarginRowAnswer) -> str:
    if row.cost is None:
        return "unknown"
    partly = "" if row.unknown_usage == "0" else "over "
    return f"{partly}{_amount(row.cost, row.currency)}"


def _amount(text: str, currency: str) -> str:
    return figures.with_code(figures.short_amount(Decimal(text), currency), currency)
