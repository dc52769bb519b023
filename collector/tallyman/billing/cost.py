"""What a feature's usage cost the seller: its meter asked, and priced as of each event's time.

Prices and sums are `domain/unit_cost.py`'s.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, assert_never

from tallyman.billing.books import Books
from tallyman.domain.attribution import Owner
from tallyman.domain.event import LATEST
from tallyman.domain.feature import Feature, LlmUnitCost, ManualUnitCost
from tallyman.domain.meter import Aggregation, Meter, MeterQuery, MeterRow
from tallyman.domain.meter_query import too_many_rows
from tallyman.domain.price_book import PriceBook
from tallyman.domain.unit_cost import (
    CostRow,
    Priced,
    call_of,
    price_rows,
    priced_dimensions,
    put_together,
)

_MICROSECOND: Final = timedelta(microseconds=1)
NO_UNIT_COST: Final = "the feature has no unit_cost"
NOT_A_SUM: Final = "a cost by model needs a meter that adds up what it counts"


async def feature_cost(
    books: Books,
    feature: Feature,
    meter: Meter,
    query: MeterQuery,
    owners: Sequence[Owner],
    book: PriceBook,
    most_rows: int | None = None,
) -> list[CostRow]:
    """The cost by the query's windows and dimensions; the query has passed `check_query`.

    Raises:
        InvalidQuery: the feature's filters and the query's are too many together, or there are
            more rows, where each row has one price.
    """
    filters = feature.meter.filters if feature.meter is not None else ()
    query = replace(query, filters=(*query.filters, *filters))
    match feature.unit_cost:
        case LlmUnitCost() as cost if meter.aggregation is Aggregation.SUM:
            priced = await llm_priced(books, meter, query, owners, cost, book, most_rows)
            return put_together(query, priced)
        case LlmUnitCost():
            rows = await books.events.query(meter, query, owners, most_rows)
            return _without_price(query, rows, NOT_A_SUM)
        case ManualUnitCost(amount):
            rows = await books.events.query(meter, query, owners, most_rows)
            return put_together(query, [Priced(row, amount) for row in rows])
        case None:
            rows = await books.events.query(meter, query, owners, most_rows)
            return _without_price(query, rows, NO_UNIT_COST)
        case _:
            assert_never(feature.unit_cost)


async def llm_priced(
    books: Books,
    meter: Meter,
    query: MeterQuery,
    owners: Sequence[Owner],
    cost: LlmUnitCost,
    book: PriceBook,
    most_rows: int | None = None,
) -> list[Priced]:
    """The meter's rows, split so that each has one price, which is in force all of its time.

    Raises:
        InvalidQuery: there are more rows.
    """
    extra = [name for name in priced_dimensions(cost) if name not in query.group_by]
    split = replace(query, group_by=(*query.group_by, *extra))
    rows = await books.events.query(meter, split, owners, most_rows)
    calls = {call_of(cost, row)[:2] for row in rows}
    cuts = book.changes(calls, query.from_, query.to)
    if not cuts:
        return await asyncio.to_thread(price_rows, cost, rows, book, _last_of(query.to))
    priced: list[Priced] = []
    for part in _parts(split, cuts):
        rows = await books.events.query(meter, part, owners, most_rows)
        if most_rows is not None and len(priced) + len(rows) > most_rows:
            raise too_many_rows(split, most_rows)
        priced += await asyncio.to_thread(price_rows, cost, rows, book, _last_of(part.to))
    return priced


def _parts(query: MeterQuery, cuts: Sequence[datetime]) -> list[MeterQuery]:
    """The query in as many parts as there are prices in its time."""
    bounds = [query.from_, *cuts, query.to]
    return [replace(query, from_=from_, to=to) for from_, to in pairwise(bounds)]


def _last_of(to: datetime | None) -> datetime:
    return LATEST if to is None else to - _MICROSECOND


def _without_price(query: MeterQuery, rows: Sequence[MeterRow], why: str) -> list[CostRow]:
    found = put_together(query, [Priced(row, None) for row in rows])
    return [replace(row, detail=why) for row in found]
