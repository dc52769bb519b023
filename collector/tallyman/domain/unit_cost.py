"""What metered usage cost the seller, by a feature's unit cost: rows of a meter, priced and put together.

It does not ask the meter: see `billing/cost.py`.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from tallyman.domain.feature import LlmUnitCost
from tallyman.domain.meter import MeterQuery, MeterRow
from tallyman.domain.money import EXACT, total
from tallyman.domain.price_book import PriceBook

CURRENCY: Final = "USD"  # of what is given without one, and of what has no price
MOST_NAMED: Final = 5


@dataclass(frozen=True)
class CostRow:
    """What of one group of one window is priced in one currency; or, `cost` being None, is not."""

    usage: Decimal
    cost: Decimal | None
    currency: str
    from_: datetime
    to: datetime
    dimensions: dict[str, str]
    detail: str | None = None


@dataclass(frozen=True)
class Priced:
    """A row of the meter with the price of one unit, or with why it has none."""

    row: MeterRow
    unit_price: Decimal | None
    currency: str = CURRENCY
    reason: str = ""


def priced_dimensions(cost: LlmUnitCost) -> tuple[str, ...]:
    """The dimensions that the unit cost reads."""
    given = (cost.provider_property, cost.model_property, cost.token_type_property)
    return tuple(dict.fromkeys(name for name in given if name is not None))


def call_of(cost: LlmUnitCost, row: MeterRow) -> tuple[str, str, str]:
    """Provider, model and token type of a row that is split by the unit cost's dimensions."""

    def read(fixed: str | None, name: str | None) -> str:
        return fixed if name is None and fixed is not None else row.dimensions[name or ""]

    return (
        read(cost.provider, cost.provider_property),
        read(cost.model, cost.model_property),
        read(cost.token_type, cost.token_type_property),
    )


def price_rows(
    cost: LlmUnitCost, rows: Iterable[MeterRow], book: PriceBook, moment: datetime
) -> list[Priced]:
    """Each row at the price that holds at the moment, which must be the same for all of its time."""
    return [price_row(row, call_of(cost, row), book, moment) for row in rows]


def price_row(
    row: MeterRow, call: tuple[str, str, str], book: PriceBook, moment: datetime
) -> Priced:
    """One row at the price that holds at the moment for (provider, model, token type)."""
    provider, model, token_type = call
    price = book.price_at(provider, model, moment)
    if price is None:
        return Priced(row, None, reason=f"{provider or 'unknown'}/{model or 'unknown'}")
    unit = price.pricing.of(token_type)
    if unit is None:
        return Priced(row, None, reason=f"tokens of type {token_type or 'unknown'}")
    return Priced(row, unit, price.currency)


@dataclass
class _Sum:
    usage: list[Decimal] = field(default_factory=list)
    cost: list[Decimal] = field(default_factory=list)
    begins: list[datetime] = field(default_factory=list)
    ends: list[datetime] = field(default_factory=list)
    reasons: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))


def put_together(query: MeterQuery, priced: Sequence[Priced]) -> list[CostRow]:
    """The rows as the query asks for them: by its windows and dimensions, and by currency.

    What has no price is a row of its own, so that neither its usage is lost nor a cost invented.
    """
    groups: dict[tuple[object, ...], _Sum] = defaultdict(_Sum)
    for one in priced:
        row = one.row
        window = (row.from_, row.to) if query.granularity is not None else None
        dimensions = tuple(row.dimensions[name] for name in query.group_by)
        currency = None if one.unit_price is None else one.currency
        group = groups[window, dimensions, currency]
        group.usage.append(row.value)
        group.begins.append(row.from_)
        group.ends.append(row.to)
        if one.unit_price is None:
            group.reasons[one.reason] = EXACT.add(group.reasons[one.reason], row.value)
        else:
            group.cost.append(EXACT.multiply(row.value, one.unit_price))
    return sorted(
        (_row(query, key, group) for key, group in groups.items()),
        key=lambda x: (
            x.from_,
            [x.dimensions[n] for n in query.group_by],
            x.cost is None,
            x.currency,
        ),
    )


def _row(query: MeterQuery, key: tuple[object, ...], group: _Sum) -> CostRow:
    _, dimensions, currency = key
    assert isinstance(dimensions, tuple)  # noqa: S101 – as put there
    whole = query.granularity is None
    return CostRow(
        usage=_plain(total(group.usage)),
        cost=None if currency is None else _plain(total(group.cost)),
        currency=CURRENCY if currency is None else str(currency),
        from_=(query.from_ if whole else None) or min(group.begins),
        to=(query.to if whole else None) or max(group.ends),
        dimensions=dict(zip(query.group_by, dimensions, strict=True)),
        detail=_detail(group.reasons) if currency is None else None,
    )


def _detail(reasons: dict[str, Decimal]) -> str:
    named = [f"{name} ({_plain(usage):f})" for name, usage in sorted(reasons.items())]
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return f"no price is known: {', '.join(named[:MOST_NAMED])}{more}"


def _plain(number: Decimal) -> Decimal:
    return Decimal(f"{number.normalize(EXACT):f}")
