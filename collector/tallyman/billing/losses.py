"""Which rate cards make a loss at today's prices, and with whom: by what was used of late.

When a card makes a loss is `domain/loss.py`'s.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from tallyman.billing.books import Books
from tallyman.billing.margin import BY_EVENT, is_priced_by_event
from tallyman.domain.customer import Customer
from tallyman.domain.feature import Feature, LlmUnitCost, ManualUnitCost
from tallyman.domain.loss import (
    CustomerLoss,
    Loss,
    TokenCost,
    lost,
    lowest_losing_price,
    worst_first,
)
from tallyman.domain.meter import Aggregation, DimensionFilter, Meter, MeterQuery
from tallyman.domain.meter_query import CUSTOMER
from tallyman.domain.money import EXACT
from tallyman.domain.plan import Plan, PlanStatus
from tallyman.domain.price_book import PriceBook
from tallyman.domain.rate_card import RateCard
from tallyman.domain.unit_cost import CURRENCY, call_of, priced_dimensions

OF_LATE: Final = timedelta(days=31)
_IN_FORCE: Final = (PlanStatus.ACTIVE, PlanStatus.SCHEDULED)


@dataclass(frozen=True)
class _Used:
    """What is used of a feature at one cost, by customer's id."""

    cost: TokenCost
    by_customer: Mapping[str, Decimal]


async def losses(
    books: Books,
    namespace: str,
    now: datetime,
    plan_keys: Collection[str] | None = None,
    *,
    with_customers: bool = True,
) -> list[Loss]:
    """Every card of a plan that is in force, or that somebody is on, the worst first."""
    book = await books.prices.book(namespace, now)
    on_plan = await _customers_by_plan(books, namespace, now) if with_customers else {}
    versions, _ = await books.plans.list(namespace, now=now, order_by="key", limit=None)
    used: dict[str, list[_Used]] = {}
    found = []
    for plan in versions:
        if plan_keys is not None and plan.key not in plan_keys:
            continue
        if plan.status_at(now) not in _IN_FORCE and plan.id not in on_plan:
            continue
        for card in _metered_cards(plan):
            feature_id = card.feature.id if card.feature else ""
            if feature_id not in used:
                used[feature_id] = await _used(books, namespace, feature_id, now, book)
            found += _losing(plan, card, used[feature_id], on_plan.get(plan.id, []))
    return worst_first(found)


def _losing(
    plan: Plan, card: RateCard, used: Sequence[_Used], customers: Sequence[Customer]
) -> list[Loss]:
    found = []
    for one in used:
        price = lowest_losing_price(card, one.cost, card.currency or plan.currency)
        if price is None:
            continue
        each = EXACT.subtract(one.cost.amount, price)
        whose = [
            CustomerLoss(x.id, x.key, quantity, lost(quantity, each))
            for x in customers
            for quantity in (one.by_customer.get(x.id, Decimal(0)),)
        ]
        whose.sort(key=lambda x: (-x.loss, x.customer_key))
        found.append(Loss(plan.key, plan.version, card.key, price, one.cost, tuple(whose)))
    return found


async def _used(
    books: Books, namespace: str, feature_id: str, now: datetime, book: PriceBook
) -> list[_Used]:
    """What the feature counted of late, by what it costs today; and what it names and nobody used."""
    feature = (await books.features.by_ids(namespace, [feature_id])).get(feature_id)
    if feature is None or feature.meter is None:
        return []
    meter = (await books.meters.by_ids(namespace, [feature.meter.id])).get(feature.meter.id)
    if meter is None:
        return []
    unit_cost = feature.unit_cost or (BY_EVENT if is_priced_by_event(meter) else None)
    if unit_cost is None or meter.aggregation not in (Aggregation.SUM, Aggregation.COUNT):
        return []
    owners = await books.customers.every_owner(namespace, None)
    dimensions = priced_dimensions(unit_cost) if isinstance(unit_cost, LlmUnitCost) else ()
    query = MeterQuery(
        from_=now - OF_LATE,
        to=now,
        group_by=tuple(dict.fromkeys((CUSTOMER, *dimensions))),
        filters=feature.meter.filters,
    )
    usage: dict[TokenCost, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for row in await books.events.query(meter, query, owners):
        if isinstance(unit_cost, ManualUnitCost):
            cost = TokenCost("", "", "", unit_cost.amount, CURRENCY)
        else:
            known = _cost_of(call_of(unit_cost, row), now, book)
            if known is None:
                continue
            cost = known
        mine = usage[cost]
        customer = row.dimensions[CUSTOMER]
        mine[customer] = EXACT.add(mine[customer], row.value)
    for named in _named(feature, meter, unit_cost, now, book):
        usage[named]
    return [_Used(cost, by_customer) for cost, by_customer in usage.items()]


def _named(
    feature: Feature,
    meter: Meter,
    unit_cost: ManualUnitCost | LlmUnitCost,
    now: datetime,
    book: PriceBook,
) -> list[TokenCost]:
    """The costs of what the feature's filters, or its unit cost, name one by one."""
    if isinstance(unit_cost, ManualUnitCost):
        return [TokenCost("", "", "", unit_cost.amount, CURRENCY)]
    filters = feature.meter.filters if feature.meter is not None else ()
    models = _values(filters, unit_cost.model_property, unit_cost.model)
    types = _values(filters, unit_cost.token_type_property, unit_cost.token_type)
    providers = _values(filters, unit_cost.provider_property, unit_cost.provider)
    found = []
    for model in models:
        for provider in providers or book.providers_of(model):
            for kind in types or ("request", "response"):
                cost = _cost_of((provider, model, kind), now, book)
                if cost is not None:
                    found.append(cost)
    return found


def _values(
    filters: Sequence[DimensionFilter], dimension: str | None, fixed: str | None
) -> tuple[str, ...]:
    if fixed is not None:
        return (fixed,)
    return next(
        (
            one.values
            for one in filters
            if one.dimension == dimension and one.operator in ("eq", "in")
        ),
        (),
    )


def _cost_of(call: tuple[str, str, str], now: datetime, book: PriceBook) -> TokenCost | None:
    provider, model, kind = call
    price = book.price_at(provider, model, now)
    amount = None if price is None else price.pricing.of(kind)
    if price is None or amount is None:
        return None
    return TokenCost(provider, model, kind, amount, price.currency)


def _metered_cards(plan: Plan) -> list[RateCard]:
    return [card for phase in plan.phases for card in phase.rate_cards if card.feature is not None]


async def _customers_by_plan(
    books: Books, namespace: str, now: datetime
) -> dict[str, list[Customer]]:
    """Who is on each version of a plan now, or will be, by the plan's id."""
    ids = await books.billed.customers(namespace)
    customers = {one.id: one for one in await books.customers.with_ids(namespace, ids)}
    found: dict[str, list[Customer]] = defaultdict(list)
    for customer_id, theirs in (await books.subscriptions.of_customers(namespace, ids)).items():
        for one in theirs:
            is_over = one.active_to is not None and one.active_to <= now
            if not is_over and customer_id in customers:
                found[one.plan_id].append(customers[customer_id])
    return found
