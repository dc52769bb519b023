"""The margin as an HTML page: a picture, a table and the cards that make a loss, without a script.

It does not decide who may see it: see `api/margins.py`.
"""

import base64
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib.resources import files
from typing import Final

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from tallyman.billing.margin_report import (
    LossAnswer,
    MarginAnswer,
    MarginRowAnswer,
    months_until,
)
from tallyman.console import figures
from tallyman.console.margin_chart import charts
from tallyman.domain.margin import MarginBy

_TEMPLATES: Final = files("tallyman.console") / "templates"
_STYLE: Final = (_TEMPLATES / "margin.css").read_text(encoding="utf-8")
_PAGE: Final = Environment(
    loader=DictLoader({"margin": (_TEMPLATES / "margin.html").read_text(encoding="utf-8")}),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
).get_template("margin")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
# Nothing is loaded, run, sent elsewhere or framed; the pictures are in the page itself.
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_MONTHS_OFFERED: Final = 12


@dataclass(frozen=True)
class _Row:
    name: str
    key: str
    currency: str
    invoiced: str
    unbilled: str
    cost: str
    margin: str
    percent: str
    unknown: str
    is_loss: bool
    elsewhere: str


@dataclass(frozen=True)
class _LossView:
    card: str
    what: str
    price: str
    cost: str
    customers: str


def margin_page(answer: MarginAnswer, months: int, now: datetime) -> str:
    """The page; `months` is how many it is about, `now` which months can be chosen."""
    offered = [f"{month.from_:%Y-%m}" for month in months_until(now, _MONTHS_OFFERED)]
    span = answer.to if answer.from_ == answer.to else f"{answer.from_} to {answer.to}"
    earned: dict[str, list[str]] = defaultdict(list)
    for row in answer.rows:
        if Decimal(row.revenue) > 0:
            earned[row.key].append(row.currency)
    return _PAGE.render(
        by=str(answer.by),
        choices=[str(one) for one in MarginBy],
        span=span,
        month=answer.to,
        months=months,
        offered=sorted({*offered, answer.to}, reverse=True),
        rows=[_row(row, earned[row.key]) for row in answer.rows],
        totals=[_row(row, []) for row in answer.totals],
        charts=charts(answer.rows),
        losses=[_loss(one) for one in answer.losses],
        has_unknown=any(row.unknown_usage != "0" for row in answer.rows),
        style=Markup(_STYLE),  # noqa: S704 – this package's own, and as it was hashed
    )


def _row(row: MarginRowAnswer, earned: Sequence[str]) -> _Row:
    """A row; who pays in another currency makes no loss in this one, as far as is known."""

    def money(text: str | None, before: str = "") -> str:
        if text is None:
            return "unknown"
        return before + figures.rate(
            figures.short_amount(Decimal(text), row.currency), row.currency
        )

    is_partial = row.unknown_usage != "0"
    others = [] if Decimal(row.revenue) else sorted(set(earned) - {row.currency})
    return _Row(
        name=row.name or row.key,
        key=row.key if row.key != row.name else "",
        currency=row.currency,
        invoiced=money(row.invoiced),
        unbilled=money(row.unbilled),
        cost=money(row.cost, "over " if is_partial else ""),
        margin=money(row.margin, "under " if is_partial else ""),
        percent="" if row.margin_percent is None else f"{row.margin_percent} %",
        unknown="" if row.unknown_usage == "0" else figures.number(Decimal(row.unknown_usage)),
        is_loss=Decimal(row.margin or 0) < 0 and not set(earned) - {row.currency},
        elsewhere=f"earns in {', '.join(others)}" if others else "",
    )


def _loss(one: LossAnswer) -> _LossView:
    using = [x for x in one.customers if Decimal(x.usage)]
    named = [
        f"{x.key} ({figures.number(Decimal(x.usage))} used, "
        f"{figures.rate(figures.short_amount(Decimal(x.loss), one.currency), one.currency)} lost)"
        for x in using
    ]
    idle = len(one.customers) - len(using)
    if idle:
        named.append(f"{idle} without usage" if named else f"{idle} on it, none used it")
    return _LossView(
        card=f"{one.plan} version {one.plan_version}: {one.rate_card}",
        what=" ".join(part for part in (one.provider, one.model, one.type) if part) or "each unit",
        price=figures.rate(Decimal(one.price_per_million), one.currency),
        cost=figures.rate(Decimal(one.cost_per_million), one.currency),
        customers=", ".join(named) or "nobody is on it",
    )
