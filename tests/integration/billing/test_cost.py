"""What a feature's usage cost: at the price in force at each event's time, exactly."""

import random
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any

import msgspec
import pytest
from tallyman.billing.cost import feature_cost
from tallyman.domain.event import CloudEvent
from tallyman.domain.feature import Feature, FeatureMeter, LlmUnitCost, ManualUnitCost, UnitCost
from tallyman.domain.llm_price import LlmPrice, ModelPricing
from tallyman.domain.meter import DimensionFilter, Granularity, MeterQuery
from tallyman.domain.unit_cost import CostRow
from tallyman.store.events import Received

from tests.rigs.shop import DECEMBER, NOVEMBER, Shop

BY_EVENT = LlmUnitCost(
    provider_property="provider", model_property="model", token_type_property="type"
)
MODELS = (("openai", "gpt-4o"), ("anthropic", "claude-3-5-sonnet-20241022"), ("llama2", "llama2"))
TYPES = ("request", "response", "cache_read")


async def override(shop: Shop, provider: str, model: str, cost: str, at: datetime) -> None:
    """From then on, so much for input, five times as much for output."""
    price = LlmPrice(
        "", shop.namespace, provider, model, ModelPricing(D(cost), D(cost) * 5), "USD", "manual",
        "", at, NOVEMBER, NOVEMBER,
    )  # fmt: skip
    await shop.books.prices.create_override(price)


async def costs(shop: Shop, unit_cost: UnitCost | None, **asked: Any) -> list[CostRow]:
    """The rows of a feature that counts all tokens but the cached ones."""
    meter = await shop.books.meters.get(shop.namespace, "kong_konnect_llm_tokens")
    filters = (DimensionFilter("type", "neq", ("cache_read",)),)
    feature = Feature(
        "f", shop.namespace, "tokens", "Tokens", NOVEMBER, NOVEMBER,
        FeatureMeter(meter.id, filters), unit_cost,
    )  # fmt: skip
    book = await shop.books.prices.book(shop.namespace, NOVEMBER)
    return await feature_cost(shop.books, feature, meter, MeterQuery(**asked), (), book)


@dataclass(frozen=True)
class Used:
    """An event of the test."""

    at: datetime
    subject: str
    provider: str
    model: str
    type: str
    tokens: int


def used(chance: random.Random, changes: list[datetime]) -> list[Used]:
    """Events around the changes of prices."""
    return [
        Used(
            chance.choice(changes) + timedelta(minutes=chance.randrange(-3000, 3000)),
            chance.choice(("acme", "globex")),
            *chance.choice(MODELS),
            chance.choice(TYPES),
            chance.randrange(1, 10**6),
        )
        for _ in range(200)
    ]


async def store(shop: Shop, events: list[Used]) -> None:
    """Take them all in at once."""
    received = []
    for number, one in enumerate(events):
        data = {name: getattr(one, name) for name in ("provider", "model", "type", "tokens")}
        raw = msgspec.Raw(msgspec.json.encode(data))
        event = CloudEvent(
            id=str(number), source="kong", type="llm.tokens", subject=one.subject, time=one.at,
            data=raw,
        )  # fmt: skip
        received.append(Received(shop.namespace, event, one.at))
    await shop.events.accept(received)


def window_of(at: datetime, granularity: Granularity | None) -> datetime | None:
    """The beginning of the window that holds the time."""
    match granularity:
        case Granularity.HOUR:
            return at.replace(minute=0)
        case Granularity.DAY:
            return at.replace(hour=0, minute=0)
        case _:
            return None


@pytest.mark.parametrize("seed", range(2))
async def test_the_cost_is_the_sum_over_the_events_each_at_the_price_of_its_time(
    shop: Shop, seed: int
) -> None:
    chance = random.Random(seed)
    changes = [NOVEMBER + timedelta(minutes=chance.randrange(3 * 24 * 60)) for _ in range(4)]
    for number, at in enumerate(changes):
        await override(shop, *chance.choice(MODELS), f"0.00000{number + 3}1", at)
    events = used(chance, changes)
    await store(shop, events)
    book = await shop.books.prices.book(shop.namespace, NOVEMBER)

    for granularity in (None, Granularity.HOUR, Granularity.DAY):
        for group_by in ((), ("model",), ("subject", "type")):
            known: dict[tuple[Any, ...], D] = defaultdict(D)
            unknown: dict[tuple[Any, ...], D] = defaultdict(D)
            for one in events:
                if one.type == "cache_read":  # the feature does not count them
                    continue
                key = (window_of(one.at, granularity), *(getattr(one, n) for n in group_by))
                price = book.price_at(one.provider, one.model, one.at)
                if price is None:
                    unknown[key] += one.tokens
                else:
                    known[key] += one.tokens * (price.pricing.of(one.type) or D(0))

            rows = await costs(shop, BY_EVENT, granularity=granularity, group_by=group_by)

            found = [
                ((granularity and row.from_, *(row.dimensions[n] for n in group_by)), row)
                for row in rows
            ]
            assert {key: row.cost for key, row in found if row.cost is not None} == known
            assert {key: row.usage for key, row in found if row.cost is None} == unknown


async def test_a_model_without_a_price_is_unknown_with_its_tokens_and_never_free(
    shop: Shop,
) -> None:
    await shop.use(1000, NOVEMBER, provider="openai", model="gpt-4o", type="response")
    await shop.use(70, NOVEMBER, provider="llama2", model="llama2", type="request")

    rows = await costs(shop, BY_EVENT, from_=NOVEMBER, to=DECEMBER)

    assert rows == [
        CostRow(D(1000), D("0.01"), "USD", NOVEMBER, DECEMBER, {}),
        CostRow(
            D(70), None, "USD", NOVEMBER, DECEMBER, {}, "no price is known: llama2/llama2 (70)"
        ),
    ]


async def test_prices_in_two_currencies_are_never_added_up(shop: Shop) -> None:
    price = LlmPrice(
        "", shop.namespace, "mistral", "le-chat", ModelPricing(D("0.001"), D("0.002")), "EUR",
        "manual", "", datetime(2026, 1, 1, tzinfo=UTC), NOVEMBER, NOVEMBER,
    )  # fmt: skip
    await shop.books.prices.create_override(price)
    await shop.use(1000, NOVEMBER, provider="openai", model="gpt-4o", type="response")
    await shop.use(1000, NOVEMBER, provider="mistral", model="le-chat", type="response")

    rows = await costs(shop, BY_EVENT)

    assert {row.currency: row.cost for row in rows} == {"USD": D("0.01"), "EUR": D(2)}


async def test_a_manual_unit_cost_is_for_each_unit(shop: Shop) -> None:
    await shop.use(1000, NOVEMBER)

    [row] = await costs(shop, ManualUnitCost(D("0.000001")), from_=NOVEMBER, to=DECEMBER)

    assert row == CostRow(D(1000), D("0.001"), "USD", NOVEMBER, DECEMBER, {})


async def test_without_a_unit_cost_the_cost_is_not_known(shop: Shop) -> None:
    await shop.use(1000, NOVEMBER)

    [row] = await costs(shop, None)

    assert (row.usage, row.cost, row.detail) == (D(1000), None, "the feature has no unit_cost")
