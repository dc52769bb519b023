"""The margin of a month: what invoices and drafts hold and what is not billed yet, and what it cost.

How it is put together is `domain/margin.py`'s.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from tallyman.billing.books import Books
from tallyman.billing.cost import feature_cost, llm_priced
from tallyman.billing.preview import previews
from tallyman.domain.feature import Feature, LlmUnitCost, ManualUnitCost
from tallyman.domain.margin import (
    Earned,
    MarginBy,
    MarginRow,
    Spent,
    earned_of,
    margin_key,
    margins,
)
from tallyman.domain.meter import Aggregation, Meter, MeterQuery
from tallyman.domain.meter_query import CUSTOMER
from tallyman.domain.money import EXACT
from tallyman.domain.period import Period
from tallyman.domain.price_book import PriceBook
from tallyman.domain.unit_cost import Priced
from tallyman.store.month_lines import lines_of_time

CUSTOMERS_AT_ONCE: Final = 2_000
TOKENS: Final = "kong_konnect_llm_tokens"
WAIVED: Final = "tallyman_llm_waived_tokens"  # nobody pays for them but the seller
BY_EVENT: Final = LlmUnitCost(
    provider_property="provider",
    model_property="model",
    token_type_property="type",  # noqa: S106 – a dimension
)


@dataclass(frozen=True)
class Asked:
    """What a margin is asked of: some months of a namespace, and what it is split by."""

    namespace: str
    months: Sequence[Period]
    by: MarginBy
    now: datetime


async def margin(books: Books, asked: Asked) -> list[MarginRow]:
    """The rows, by customer's id, model, feature's key or month."""
    book = await books.prices.book(asked.namespace, asked.now)
    earned = await revenue(books, asked)
    spent: list[Spent] = []
    for month in asked.months:
        if asked.by is MarginBy.FEATURE:
            spent += await _by_feature(books, asked.namespace, month, book)
        else:
            spent += await _by_call(books, asked, month, book)
    # in a thread of its own: of many customers it takes a second, and a server goes on answering
    return await asyncio.to_thread(margins, earned, spent, margin_key(asked.by))


async def revenue(books: Books, asked: Asked) -> list[Earned]:
    """What the months brought so far, invoiced and not."""
    earned = await _unbilled(books, asked)
    for month in asked.months:
        earned += await _invoiced(books, asked.namespace, month)
    return earned


def month_name(month: Period) -> str:
    """Such as 2026-11."""
    return f"{month.from_:%Y-%m}"


async def _invoiced(books: Books, namespace: str, month: Period) -> list[Earned]:
    name = month_name(month)
    return [
        part
        for one in await lines_of_time(books.database, namespace, month)
        for part in earned_of(
            one.line, one.customer_id, name, is_invoiced=one.is_final, taken_back=one.taken_back
        )
    ]


async def _unbilled(books: Books, asked: Asked) -> list[Earned]:
    """What is on no invoice yet of the months asked for; a line is of the month that it begins in."""
    begin, end = asked.months[0].from_, asked.months[-1].to
    found: list[Earned] = []
    ids = await books.billed.customers(asked.namespace)
    for at in range(0, len(ids), CUSTOMERS_AT_ONCE):
        accounts = await books.accounts(asked.namespace, ids[at : at + CUSTOMERS_AT_ONCE])
        for invoice in await previews(books, accounts, asked.now):
            for line in invoice.lines:
                if begin <= line.service_period.from_ < end:
                    name = f"{line.service_period.from_:%Y-%m}"
                    found += earned_of(line, invoice.customer.id, name, is_invoiced=False)
    return found


async def _by_call(books: Books, asked: Asked, month: Period, book: PriceBook) -> list[Spent]:
    """Every token that went through, charged for or not, and what else has a cost of its own."""
    by = (CUSTOMER,) if asked.by is MarginBy.CUSTOMER else ()
    owners = await books.customers.every_owner(asked.namespace, None) if by else ()
    query = MeterQuery(from_=month.from_, to=month.to, group_by=by)
    found: list[Spent] = []
    for key in (TOKENS, WAIVED):
        meter = await books.meters.get(asked.namespace, key)
        priced = await llm_priced(books, meter, query, owners, BY_EVENT, book)
        found += [_spent(one, month) for one in priced if one.row.value]
    for feature, meter in await _metered_features(books, asked.namespace):
        if isinstance(feature.unit_cost, ManualUnitCost) and not _is_of_tokens(meter):
            for row in await feature_cost(books, feature, meter, query, owners, book):
                customer = row.dimensions.get(CUSTOMER, "")
                name = month_name(month)
                found.append(
                    Spent(customer, "", feature.key, name, row.currency, row.cost, row.usage)
                )
    return found


def _spent(one: Priced, month: Period) -> Spent:
    dimensions, usage = one.row.dimensions, one.row.value
    cost = None if one.unit_price is None else EXACT.multiply(usage, one.unit_price)
    return Spent(
        dimensions.get(CUSTOMER, ""),
        dimensions.get("model", ""),
        "",
        month_name(month),
        one.currency,
        cost,
        usage,
    )


async def _by_feature(books: Books, namespace: str, month: Period, book: PriceBook) -> list[Spent]:
    """What the usage of each feature cost; features that count the same tokens each have them."""
    query = MeterQuery(from_=month.from_, to=month.to)
    found: list[Spent] = []
    for feature, meter in await _metered_features(books, namespace):
        costed = feature
        if feature.unit_cost is None:
            if not is_priced_by_event(meter):
                continue
            costed = replace(feature, unit_cost=BY_EVENT)
        found += [
            Spent("", "", feature.key, month_name(month), row.currency, row.cost, row.usage)
            for row in await feature_cost(books, costed, meter, query, (), book)
        ]
    return found


async def _metered_features(books: Books, namespace: str) -> list[tuple[Feature, Meter]]:
    features, _ = await books.features.list(namespace, limit=None)
    ids = {feature.meter.id for feature in features if feature.meter is not None}
    meters = await books.meters.by_ids(namespace, ids)
    return [
        (feature, meters[feature.meter.id])
        for feature in features
        if feature.meter is not None and feature.meter.id in meters
    ]


def is_priced_by_event(meter: Meter) -> bool:
    """Whether it sums up tokens of which each event says provider, model and type."""
    return (
        meter.aggregation is Aggregation.SUM
        and _is_of_tokens(meter)
        and {"provider", "model", "type"} <= meter.dimensions.keys()
    )


def _is_of_tokens(meter: Meter) -> bool:
    return meter.unit == "token"
