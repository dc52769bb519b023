"""An invoice line as people read it: what was used, at what rate, and how it comes to the amount.

It computes nothing that is owed: where it shares a rounded amount out, the shares add up to it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import assert_never

from tallyman.console import figures
from tallyman.domain.invoice_line import InvoiceLine
from tallyman.domain.money import EXACT, split, total
from tallyman.domain.price import (
    FlatPrice,
    FreePrice,
    GraduatedPrice,
    Operation,
    PriceTier,
    Rounding,
    UnitConfig,
    UnitPrice,
    VolumePrice,
    per_million,
)
from tallyman.domain.rating.detailed_line import (
    AmountDiscount,
    Category,
    DetailedLine,
    DiscountReason,
)
from tallyman.domain.usage import Usage

FIRST_DIMENSIONS = ("model", "type")


@dataclass(frozen=True)
class Row:
    """One step of how a line comes about; the cells that it has nothing for are empty."""

    label: str
    quantity: str = ""
    rates: tuple[str, ...] = ()
    amount: str = ""


@dataclass(frozen=True)
class LineView:
    """`priced` are the tiers, discounts and commitments, which add up to the amount; `used` is where
    the quantity came from, such as each model and type, with its share of the amount.
    """

    name: str
    period: str
    quantity: str
    rates: tuple[str, ...]
    amount: str
    notes: tuple[str, ...] = ()
    priced: tuple[Row, ...] = ()
    used: tuple[Row, ...] = ()
    is_correction: bool = False


def line_view(line: InvoiceLine, numbers: Mapping[str, str], plan: str) -> LineView:
    """`numbers` are of the invoices that have the lines which this one may correct, by line id.

    `plan` is what the invoice says already; a line of another one says so.
    """
    unit = _unit(line)
    quantity = figures.counted(line.raw_quantity, unit) if line.raw_quantity is not None else ""
    return LineView(
        name=line.name,
        period=figures.period(line.service_period),
        quantity=quantity,
        rates=_rates(line, unit),
        amount=figures.money(line.totals.before_credits, line.currency),
        notes=tuple(_notes(line, numbers, plan)),
        priced=tuple(_priced(line, unit)),
        used=tuple(_used(line)),
        is_correction=line.corrects is not None,
    )


def _unit(line: InvoiceLine) -> str:
    return "unit" if line.usage is None else line.usage.unit


def _billed_unit(line: InvoiceLine, unit: str) -> str:
    config = line.rate_card.unit_config
    if config is None:
        return unit
    if config.display_unit:
        return config.display_unit
    if config.operation is Operation.DIVIDE:
        return f"{figures.number(config.conversion_factor)} {unit}s"
    return f"billed {unit}"


def _rates(line: InvoiceLine, unit: str) -> tuple[str, ...]:
    match line.rate_card.price:
        case FreePrice():
            return ("free",)
        case FlatPrice(amount):
            is_whole = line.corrects or all(one.amount == amount for one in line.detailed_lines)
            whole = f"{figures.rate(amount, line.currency)} for a whole period"
            return ("flat",) if is_whole else ("flat", whole)
        case UnitPrice(amount):
            return _unit_rates(line, unit, amount) if line.is_at_unit_price else ()
        case GraduatedPrice():
            return ("graduated tiers",)
        case VolumePrice():
            return ("volume tiers",)
        case _:
            assert_never(line.rate_card.price)


def _unit_rates(line: InvoiceLine, unit: str, amount: Decimal) -> tuple[str, ...]:
    """The price of a billed unit, of a metered one if that is another, and of a million."""
    config = line.rate_card.unit_config
    rates = [f"{figures.rate(amount, line.currency)} per {_billed_unit(line, unit)}"]
    each: Decimal | None = amount
    if config is not None:
        each = _price_of_one(config, amount)
        if each is not None:
            rates.append(f"{figures.rate(each, line.currency)} per {unit}")
    says_million = config is not None and config.conversion_factor == 1_000_000
    if each is not None and unit == "token" and not says_million:
        rates.append(f"{figures.rate(per_million(each), line.currency)} per million {unit}s")
    return tuple(rates)


def _price_of_one(config: UnitConfig, amount: Decimal) -> Decimal | None:
    """The price of a metered unit; None where units are billed in packages."""
    if config.rounding is not Rounding.NONE or config.conversion_factor <= 0:
        return None
    if config.operation is Operation.DIVIDE:
        return EXACT.divide(amount, config.conversion_factor)
    return EXACT.multiply(amount, config.conversion_factor)


def plan_of(line: InvoiceLine) -> str:
    """The plan's key, and the version that was in force."""
    return f"{line.plan_key}, version {line.plan_version}"


def _notes(line: InvoiceLine, numbers: Mapping[str, str], plan: str) -> Iterable[str]:
    if line.corrects is not None:
        number = numbers.get(line.corrects)
        where = f"invoice {number}" if number else "an earlier invoice"
        yield (
            f"Corrects line {line.corrects} of {where}: the difference to what is known now, "
            "after that invoice was final."
        )
    if line.usage is not None:
        yield _behind(line.usage)
    for one in line.credits_applied:
        amount, name = figures.money(abs(one.amount), line.currency), one.description or "credit"
        yield f"Credit pays {amount}: {name}." if one.amount > 0 else f"{amount} back to: {name}."
    if plan_of(line) != plan:
        yield f"Plan {plan_of(line)}."


def _behind(usage: Usage) -> str:
    """The number of calls and events, and what of the tokens is no provider's number."""
    parts = [
        f"From {figures.counted(usage.calls, 'call')}, {figures.counted(usage.events, 'event')}"
    ]
    if usage.estimated_tokens:
        parts.append(f"{figures.counted(usage.estimated_tokens, 'token')} estimated")
    if usage.waived_tokens:
        parts.append(f"{figures.counted(usage.waived_tokens, 'token')} waived and not charged")
    return "; ".join(parts) + "."


def _priced(line: InvoiceLine, unit: str) -> Iterable[Row]:
    """What lies between the quantity and the amount; nothing where that is one multiplication."""
    if line.discounted_quantity:
        quantity = figures.counted(-line.discounted_quantity, unit)
        yield Row("Not charged: usage discount", quantity)
    if line.rate_card.unit_config is not None and line.invoiced_quantity is not None:
        quantity = f"{figures.number(line.invoiced_quantity)} × {_billed_unit(line, unit)}"
        yield Row("Billed quantity", quantity)
    details = line.detailed_lines
    discounts = [off for one in details for off in one.discounts]
    if line.corrects or (len(details) <= 1 and not discounts and not line.tiers):
        return
    amounts = _gross(line)
    for one, amount in zip(details, amounts, strict=True):
        yield _detail(line, one, amount, unit)
    offs = (
        split(line.totals.discounts, [x.amount for x in discounts], line.currency)
        if (discounts)
        else ()
    )
    for off, amount in zip(discounts, offs, strict=True):
        yield Row(_reason(line, off), amount=figures.money(-amount, line.currency))


def _gross(line: InvoiceLine) -> list[Decimal]:
    """The amount of each detailed line before discounts, in whole minor units."""
    amounts = [Decimal(0)] * len(line.detailed_lines)
    for category, owed in (
        (Category.REGULAR, line.totals.amount),
        (Category.COMMITMENT, line.totals.charges),
    ):
        of_it = [i for i, one in enumerate(line.detailed_lines) if one.category is category]
        parts = [abs(line.detailed_lines[i].amount) for i in of_it]
        for i, share in zip(of_it, split(owed, parts, line.currency) if parts else (), strict=True):
            amounts[i] = share
    return amounts


def _detail(line: InvoiceLine, one: DetailedLine, amount: Decimal, unit: str) -> Row:
    written = figures.money(amount, line.currency)
    if one.category is Category.COMMITMENT:
        return Row("Up to the minimum spend", amount=written)
    label = one.name
    if one.tier is not None:
        label = f"Tier {one.tier}: {_bounds(_tiers(line), one.tier)}"
    if one.reference.endswith("flat"):
        return Row(label if one.tier is None else f"{label}, flat", amount=written)
    billed = _billed_unit(line, unit)
    quantity = f"{figures.number(one.quantity)} × {billed}"
    if billed == unit:
        quantity = figures.counted(one.quantity, unit)
    rates = () if one.tier is None else _unit_rates(line, unit, one.unit_price)
    return Row("Usage" if one.tier is None else label, quantity, rates, written)


def _reason(line: InvoiceLine, off: AmountDiscount) -> str:
    maximum = line.rate_card.commitments.maximum_amount
    if off.reason is DiscountReason.MAXIMUM_SPEND and maximum is not None:
        return f"Above the maximum spend of {figures.rate(maximum, line.currency)}"
    return off.description


def _tiers(line: InvoiceLine) -> tuple[PriceTier, ...]:
    price = line.rate_card.price
    return price.tiers if isinstance(price, GraduatedPrice | VolumePrice) else ()


def _bounds(tiers: Sequence[PriceTier], tier: int) -> str:
    up_to = tiers[tier - 1].up_to
    floor = tiers[tier - 2].up_to if tier > 1 else None
    if floor is None:
        return "all" if up_to is None else f"up to {figures.number(up_to)}"
    above = f"above {figures.number(floor)}"
    return above if up_to is None else f"{above}, up to {figures.number(up_to)}"


def _used(line: InvoiceLine) -> Iterable[Row]:
    """The usage by model and type, each with its share of the amount."""
    rows = used_by(line)
    amounts = _shares(line, [quantity for _, _, quantity in rows])
    for (label, written, _), amount in zip(rows, amounts, strict=True):
        yield Row(label, written, amount=amount)


def used_by(line: InvoiceLine) -> list[tuple[str, str, Decimal]]:
    """The usage by model and type, or whatever it is shown by, as text and as a number.

    The largest first.
    """
    if line.usage is None:
        return []
    unit = _unit(line)
    found: dict[tuple[tuple[str, str], ...], list[Decimal]] = defaultdict(list)
    for window in line.usage.windows:
        if window.dimensions:
            found[window.dimensions].append(window.quantity)
    sums = {dimensions: total(parts) for dimensions, parts in found.items()}
    rows = sorted(sums.items(), key=lambda row: (-abs(row[1]), row[0]))
    return [
        (_of(dimensions), figures.counted(quantity, unit), quantity)
        for dimensions, quantity in rows
    ]


def _shares(line: InvoiceLine, quantities: Sequence[Decimal]) -> list[str]:
    """Each one's share of the amount; none where some usage is taken back and some added."""
    signs = {quantity > 0 for quantity in quantities if quantity}
    if not quantities or len(signs) != 1 or not line.totals.before_credits:
        return [""] * len(quantities)
    parts = [abs(quantity) for quantity in quantities]
    return [
        figures.money(share, line.currency)
        for share in split(line.totals.before_credits, parts, line.currency)
    ]


def _of(dimensions: Iterable[tuple[str, str]]) -> str:
    def order(dimension: tuple[str, str]) -> tuple[int, str]:
        name = dimension[0]
        known = name in FIRST_DIMENSIONS
        return (FIRST_DIMENSIONS.index(name) if known else len(FIRST_DIMENSIONS), name)

    return " · ".join(value or f"no {name}" for name, value in sorted(dimensions, key=order))
