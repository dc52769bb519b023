"""What was earned with customers, models and features, less what the providers took for it.

It gathers nothing: see `billing/margin.py`. Currencies stand apart: nothing is converted or added up.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import Final

from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.money import EXACT, split, total

NOTHING: Final = Decimal(0)
PERCENT: Final = Decimal(100)
TENTHS: Final = Decimal("0.1")


class MarginBy(StrEnum):
    """What a margin is split by."""

    CUSTOMER = "customer"
    MODEL = "model"
    FEATURE = "feature"
    MONTH = "month"


@dataclass(frozen=True)
class Earned:
    """A part of an invoice line: `model` and `feature` are empty where it has none."""

    customer_id: str
    model: str
    feature: str
    month: str
    currency: str
    amount: Decimal
    is_invoiced: bool


@dataclass(frozen=True)
class Spent:
    """What usage cost; `cost` None is not known, and `usage` says how much that is."""

    customer_id: str
    model: str
    feature: str
    month: str
    currency: str
    cost: Decimal | None
    usage: Decimal


@dataclass(frozen=True)
class MarginRow:
    """One key in one currency. `unknown_usage` has no price: with any, the cost is more than `cost`."""

    key: str
    currency: str
    invoiced: Decimal
    unbilled: Decimal
    cost: Decimal
    unknown_usage: Decimal

    @property
    def revenue(self) -> Decimal:
        """What is invoiced, and what is not yet."""
        return EXACT.add(self.invoiced, self.unbilled)

    @property
    def is_unknown(self) -> bool:
        """Whether nothing at all is known of the cost, which is not 0."""
        return bool(self.unknown_usage) and not self.cost

    @property
    def margin(self) -> Decimal:
        """The revenue less the cost that is known; negative for a loss."""
        return EXACT.subtract(self.revenue, self.cost)

    @property
    def percent(self) -> Decimal | None:
        """Of the revenue, rounded down to a tenth: 100 only where nothing was spent.

        None without any revenue, or where the cost is not known whole.
        """
        if self.revenue <= 0 or self.unknown_usage:
            return None
        return (self.margin / self.revenue * PERCENT).quantize(TENTHS, rounding=ROUND_FLOOR)


@dataclass
class _Sums:
    invoiced: list[Decimal] = field(default_factory=list)
    unbilled: list[Decimal] = field(default_factory=list)
    cost: list[Decimal] = field(default_factory=list)
    unknown: list[Decimal] = field(default_factory=list)


def earned_of(
    line: InvoiceLine,
    customer_id: str,
    month: str,
    *,
    is_invoiced: bool,
    taken_back: Decimal = NOTHING,
) -> list[Earned]:
    """The line by model: its net amount, before credits and without taxes, shared out by quantity.

    `taken_back` is what credit notes took of it.
    """
    gross = EXACT.subtract(line.totals.before_credits, taken_back)
    net = EXACT.subtract(gross, line.totals.taxes)
    feature = line.rate_card.feature
    key = "" if feature is None else feature.key or line.rate_card.key
    by_model: dict[str, Decimal] = defaultdict(Decimal)
    for window in () if line.usage is None else line.usage.windows:
        model = dict(window.dimensions).get("model", "")
        by_model[model] = EXACT.add(by_model[model], abs(window.quantity))
    models = list(by_model) or [""]
    shares = split(net, list(by_model.values()) or [Decimal(1)], line.currency)
    return [
        Earned(customer_id, model, key, month, line.currency, share, is_invoiced)
        for model, share in zip(models, shares, strict=True)
    ]


def margins(
    earned: Iterable[Earned], spent: Iterable[Spent], key: Callable[[Earned | Spent], str]
) -> list[MarginRow]:
    """A row for each key and currency, the largest cost and revenue first."""
    sums: dict[tuple[str, str], _Sums] = defaultdict(_Sums)
    for one in earned:
        found = sums[key(one), one.currency]
        (found.invoiced if one.is_invoiced else found.unbilled).append(one.amount)
    for other in spent:
        found = sums[key(other), other.currency]
        if other.cost is None:
            found.unknown.append(other.usage)
        else:
            found.cost.append(other.cost)
    rows = [
        MarginRow(
            name,
            currency,
            total(one.invoiced),
            total(one.unbilled),
            total(one.cost),
            total(one.unknown),
        )
        for (name, currency), one in sums.items()
    ]
    return sorted(
        (row for row in rows if any((row.invoiced, row.unbilled, row.cost, row.unknown_usage))),
        key=lambda row: (-max(row.revenue, row.cost), row.key, row.currency),
    )


def sum_margins(rows: Iterable[MarginRow]) -> list[MarginRow]:
    """One row for each currency."""
    by_currency: dict[str, list[MarginRow]] = defaultdict(list)
    for row in rows:
        by_currency[row.currency].append(row)
    return [
        MarginRow(
            "",
            currency,
            total(row.invoiced for row in some),
            total(row.unbilled for row in some),
            total(row.cost for row in some),
            total(row.unknown_usage for row in some),
        )
        for currency, some in sorted(by_currency.items())
    ]


def margin_key(by: MarginBy) -> Callable[[Earned | Spent], str]:
    """What a part of a line, or of a cost, is counted under."""
    name = "customer_id" if by is MarginBy.CUSTOMER else str(by)

    def key(one: Earned | Spent) -> str:
        return str(getattr(one, name))

    return key
