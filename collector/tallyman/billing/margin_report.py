"""The margin and the cards that make a loss, as the API answers them and the commands print them.

It computes no money: see `margin.py` and `losses.py`.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from tallyman.billing.books import Books
from tallyman.billing.losses import losses
from tallyman.billing.margin import Asked, margin, month_name
from tallyman.domain.loss import Loss
from tallyman.domain.margin import MarginBy, MarginRow, sum_margins
from tallyman.domain.money import round_to_currency, total, written
from tallyman.domain.period import EPOCH, Period, month_of
from tallyman.domain.price import per_million


class MarginRowAnswer(msgspec.Struct, omit_defaults=True):
    """One key in one currency, amounts in that currency.

    `invoiced` and `unbilled` are the revenue. `unknown_usage` is the usage of models that no list has
    a price for: with any, the cost is more than `cost`, and the margin less than `margin`; both are
    null where nothing of the cost is known. `margin_percent` is of the revenue, and absent without
    any, or where the cost is not known whole.
    """

    key: str
    name: str
    currency: str
    invoiced: str
    unbilled: str
    revenue: str
    cost: str | None
    margin: str | None
    margin_percent: str | None = None
    unknown_usage: str = "0"


class CustomerLossAnswer(msgspec.Struct):
    """A customer on the plan: its usage of the last 31 days, and what that loses at today's prices."""

    key: str
    usage: str
    loss: str


class LossAnswer(msgspec.Struct):
    """A rate card that sells for `price` a unit what costs `cost`; per million for people."""

    plan: str
    plan_version: int
    rate_card: str
    provider: str
    model: str
    type: str
    currency: str
    price: str
    cost: str
    price_per_million: str
    cost_per_million: str
    customers: list[CustomerLossAnswer]


class MarginAnswer(msgspec.Struct, rename={"from_": "from"}):
    """The margin of the months, by one thing, and its sums by currency."""

    from_: str
    to: str
    by: MarginBy
    rows: list[MarginRowAnswer]
    totals: list[MarginRowAnswer]
    losses: list[LossAnswer]


class LossesAnswer(msgspec.Struct):
    """The rate cards that make a loss at today's prices."""

    losses: list[LossAnswer]


def months_until(last: datetime, count: int) -> list[Period]:
    """So many months of the calendar, the one that holds the moment last; none before 1970."""
    months = [month_of(last.astimezone(UTC).date(), UTC)]
    while len(months) < count and months[0].from_ > EPOCH:
        before = months[0].from_.date().replace(day=1)
        previous = before.replace(
            year=before.year - (before.month == 1), month=(before.month - 2) % 12 + 1
        )
        months.insert(0, month_of(previous, UTC))
    return months


async def margin_answer(books: Books, asked: Asked) -> MarginAnswer:
    """The margin with names for people, and what makes a loss."""
    rows = await margin(books, asked)
    names = await _names(books, asked, rows)
    return MarginAnswer(
        from_=month_name(asked.months[0]),
        to=month_name(asked.months[-1]),
        by=asked.by,
        rows=[_row(row, *names.get(row.key, (row.key, row.key))) for row in rows],
        totals=[_row(row, "", "") for row in sum_margins(rows)],
        losses=loss_answers(await losses(books, asked.namespace, asked.now)),
    )


async def losses_answer(
    books: Books, namespace: str, now: datetime, plan_keys: Collection[str] | None = None
) -> LossesAnswer:
    """The rate cards that make a loss now."""
    return LossesAnswer(loss_answers(await losses(books, namespace, now, plan_keys)))


def loss_answers(found: Iterable[Loss]) -> list[LossAnswer]:
    """The losses on the wire."""
    return [
        LossAnswer(
            plan=one.plan_key,
            plan_version=one.plan_version,
            rate_card=one.card_key,
            provider=one.cost.provider,
            model=one.cost.model,
            type=one.cost.token_type,
            currency=one.cost.currency,
            price=written(one.price),
            cost=written(one.cost.amount),
            price_per_million=written(per_million(one.price)),
            cost_per_million=written(per_million(one.cost.amount)),
            customers=[
                CustomerLossAnswer(x.customer_key, written(x.usage), written(x.loss))
                for x in one.customers
            ],
        )
        for one in found
    ]


def loss_line(one: LossAnswer, *, with_customers: bool = True) -> str:
    """A loss as one line for people."""
    what = " ".join(part for part in (one.model, one.type) if part) or "each unit"
    using = [x for x in one.customers if Decimal(x.usage)]
    lost = total(Decimal(x.loss) for x in using)
    said = f"{one.plan} version {one.plan_version}, {one.rate_card}: {what} is sold at "
    said += f"{one.price_per_million} and costs {one.cost_per_million} {one.currency} per million"
    if not with_customers:
        return said
    if not one.customers:
        return f"{said}; no customer is on it"
    if not using:
        return f"{said}; {len(one.customers)} on it, of whom nobody used it in 31 days"
    named = ", ".join(x.key for x in using[:5]) + (" …" if len(using) > 5 else "")
    rounded = round_to_currency(lost, one.currency)
    return f"{said}; it lost {rounded:f} {one.currency} in 31 days with {named}"


async def _names(
    books: Books, asked: Asked, rows: Iterable[MarginRow]
) -> dict[str, tuple[str, str]]:
    """The key and the name of what the rows are about, by what they are counted under."""
    match asked.by:
        case MarginBy.CUSTOMER:
            ids = {row.key for row in rows if row.key}
            found = await books.customers.with_ids(asked.namespace, ids)
            return {one.id: (one.key, one.name) for one in found} | {"": ("", "no customer")}
        case MarginBy.FEATURE:
            features, _ = await books.features.list(asked.namespace, limit=None)
            return {one.key: (one.key, one.name) for one in features} | {"": ("", "no feature")}
        case MarginBy.MODEL:
            return {"": ("", "no model")}
        case MarginBy.MONTH:
            return {}


def _row(row: MarginRow, key: str, name: str) -> MarginRowAnswer:
    return MarginRowAnswer(
        key=key,
        name=name,
        currency=row.currency,
        invoiced=written(row.invoiced),
        unbilled=written(row.unbilled),
        revenue=written(row.revenue),
        cost=None if row.is_unknown else written(row.cost),
        margin=None if row.is_unknown else written(row.margin),
        margin_percent=None if row.percent is None else written(row.percent),
        unknown_usage=written(row.unknown_usage),
    )
