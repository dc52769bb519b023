"""What a run did and what a preview shows, as the commands print them and the server answers.

It computes no money: see `run.py` and `preview.py`.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from tallyman.billing.outcome import Outcome
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.money import split, written
from tallyman.domain.price import MILLION, Operation, UnitConfig, per_metered_unit, per_million


class BilledAnswer(msgspec.Struct):
    """An invoice that was made or moved."""

    id: str
    number: str
    customer: str
    status: str
    currency: str
    total: str
    lines: int
    corrections: int
    issues: list[str]


class RunAnswer(msgspec.Struct):
    """What a run did; `left` is how many invoices another run was first with.

    `not_corrected` says what came late, could not be rated, and is on no invoice.
    """

    invoices: list[BilledAnswer]
    left: int
    totals: dict[str, str]
    by_status: dict[str, int]
    not_corrected: list[str]


class PreviewPeriod(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """[from, to)."""

    from_: datetime
    to: datetime


class PreviewRow(msgspec.Struct):
    """One model and type of a line; `rate` is empty where there is not one for all units.

    The rate is for each `per`, and `rate_per_million` the same for a million tokens, where the
    line is of tokens and they are not billed by the million, or in packages, anyway.
    """

    name: str
    service_period: PreviewPeriod
    model: str
    type: str
    quantity: str
    rate: str
    per: str
    rate_per_million: str
    amount: str


class PreviewAnswer(msgspec.Struct):
    """What is not yet billed in one currency."""

    customer: str
    currency: str
    total: str
    rows: list[PreviewRow]


def run_answer(outcome: Outcome) -> RunAnswer:
    """The outcome of a run, or of several."""
    return RunAnswer(
        invoices=[
            BilledAnswer(
                one.id,
                one.number,
                one.customer_key,
                str(one.state),
                one.currency,
                written(one.total),
                one.lines,
                one.corrections,
                list(one.issues),
            )
            for one in outcome.invoices.values()
        ],
        left=outcome.left,
        totals={currency: written(total) for currency, total in outcome.totals().items()},
        by_status=dict(outcome.by_status()),
        not_corrected=list(outcome.not_corrected),
    )


def preview_answer(invoice: Invoice) -> PreviewAnswer:
    """A preview as a table."""
    return PreviewAnswer(
        customer=invoice.customer.key,
        currency=invoice.currency,
        total=written(invoice.totals.total),
        rows=[row for line in invoice.lines for row in line_rows(line)] + _credit_rows(invoice),
    )


def _credit_rows(invoice: Invoice) -> list[PreviewRow]:
    """What credit pays of it, if it pays anything."""
    credit = invoice.totals.credits
    if not credit:
        return []
    period = PreviewPeriod(invoice.service_period.from_, invoice.service_period.to)
    return [PreviewRow("Credit", period, "", "", "", "", "", "", written(-credit))]


def line_rows(line: InvoiceLine) -> list[PreviewRow]:
    """A line by model and type; the amounts are shares of what it costs before credit."""
    windows = () if line.usage is None else line.usage.windows
    rates = _rates(line)
    period = PreviewPeriod(line.service_period.from_, line.service_period.to)
    if not windows:
        quantity = "" if line.raw_quantity is None else written(line.raw_quantity)
        cost = written(line.totals.before_credits)
        return [PreviewRow(line.name, period, "", "", quantity, *rates, cost)]
    shares = _shares(line, [abs(window.quantity) for window in windows])
    rows = []
    for window, share in zip(windows, shares, strict=True):
        shown = dict(window.dimensions)
        model, type_ = shown.get("model", ""), shown.get("type", "")
        quantity = written(window.quantity)
        rows.append(PreviewRow(line.name, period, model, type_, quantity, *rates, written(share)))
    return rows


def _rates(line: InvoiceLine) -> tuple[str, str, str]:
    """The rate, what it is for, and the rate for a million tokens."""
    if line.unit_price is None or not line.is_at_unit_price:
        return "", "", ""
    price, config = line.unit_price, line.rate_card.unit_config
    if line.usage is None:
        return written(price), "period", ""
    unit = line.usage.unit
    each = per_metered_unit(price, config)
    says_million = config is not None and config.conversion_factor == MILLION
    million = "" if unit != "token" or each is None or says_million else written(per_million(each))
    return written(price), unit if config is None else _billed_unit(config, unit), million


def _billed_unit(config: UnitConfig, unit: str) -> str:
    if config.display_unit:
        return config.display_unit
    if config.operation is Operation.DIVIDE:
        return f"{written(config.conversion_factor)} {unit}s"
    return f"billed {unit}"


def _shares(line: InvoiceLine, parts: Sequence[Decimal]) -> tuple[Decimal, ...]:
    return split(line.totals.before_credits, parts, line.currency)
