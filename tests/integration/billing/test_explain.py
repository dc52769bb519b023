"""What an invoice line is made of, on both relational stores: what is listed is the line."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from random import Random
from typing import Any

import msgspec
import pytest
from tallyman.billing.explain import explain, explain_all
from tallyman.domain.counted_event import CountedEvent
from tallyman.domain.event_change import Amendment
from tallyman.domain.meter import Aggregation, Meter
from tallyman.domain.money import total
from tallyman.domain.price import (
    Commitments,
    Discounts,
    FlatPrice,
    FreePrice,
    GraduatedPrice,
    Operation,
    PriceTier,
    Rounding,
    UnitConfig,
    UnitPrice,
    VolumePrice,
)
from tallyman.domain.rate_card import PaymentTerm
from tallyman.domain.subscription_change import EditTiming
from tallyman.errors import NotFound
from tallyman.store.customers import CustomerChange
from tallyman.store.event_changes import EventChangeStore, Why
from tallyman.store.new_subscription import NewSubscription, PlanReference

from tests.rigs.shop import COLLECTED, DECEMBER, JANUARY, NOVEMBER, Shop

HOUR = timedelta(hours=1)


async def test_a_line_is_explained_down_to_its_events(shop: Shop) -> None:
    tiers = GraduatedPrice((PriceTier(D(10), D(1)), PriceTier(None, D(2))))
    await shop.plan(await shop.card(price=tiers))
    await shop.customer()
    await shop.subscribe()
    await shop.use(8, NOVEMBER, usage_source="provider")
    await shop.use(4, NOVEMBER + 2 * HOUR, type="response", usage_source="estimated")
    await shop.use(1, NOVEMBER + 2 * HOUR, usage_source="provider")
    await shop.bill(DECEMBER + COLLECTED)
    await shop.use(99, NOVEMBER)
    [invoice] = await shop.invoices()

    found = await explain(shop.books, shop.namespace, invoice.number, invoice.lines[0].id)

    assert found.problems == ()
    assert [(one.period.from_, one.usage_source, one.quantity) for one in found.hours] == [
        (NOVEMBER, "provider", D(8)),
        (NOVEMBER + 2 * HOUR, "estimated", D(4)),
        (NOVEMBER + 2 * HOUR, "provider", D(1)),
    ]
    assert sorted(one.quantity or 0 for one in found.events.events) == [D(1), D(4), D(8)]
    assert [tier.quantity for tier in found.line.tiers] == [D(10), D(3)]


async def test_a_correction_lists_what_is_new_and_what_is_taken_back(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer("acme", "acme", "batch")
    await shop.subscribe()
    await shop.use(8, NOVEMBER)
    await shop.use(3, NOVEMBER + timedelta(days=2), "batch")
    await shop.bill(DECEMBER + COLLECTED)
    await shop.use(5, NOVEMBER + HOUR)
    change = CustomerChange("acme", ("acme",))
    await shop.books.customers.replace(shop.namespace, "acme", change, NOVEMBER + timedelta(days=1))
    await shop.bill(JANUARY + COLLECTED)
    _, january = await shop.invoices()

    _, found = await explain_all(shop.books, shop.namespace, january.id)
    correction = await explain(shop.books, shop.namespace, january.id, january.lines[1].id)

    assert [one.problems for one in found] == [(), ()]
    assert correction.line.totals.total == D(2)
    assert [(one.quantity, one.is_taken_back) for one in correction.events.events] == [
        (D(5), False),
        (D(-3), True),
    ]
    assert [one.line.totals.total for one in correction.earlier] == [D(11)]


async def test_the_events_are_paged_by_cursor_each_once(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    await shop.subscribe()
    for number in range(7):
        await shop.use(number + 1, NOVEMBER + number % 3 * HOUR)
    await shop.bill(DECEMBER + COLLECTED)
    [invoice] = await shop.invoices()
    seen: list[CountedEvent] = []
    after = None

    while True:
        found = await explain(
            shop.books, shop.namespace, invoice.id, invoice.lines[0].id, size=3, after=after
        )
        seen += found.events.events
        after = found.events.next
        if after is None:
            break

    assert sorted(one.quantity or 0 for one in seen) == [D(number) for number in range(1, 8)]
    assert [one.time for one in seen] == sorted(one.time for one in seen)


async def test_what_is_listed_and_is_not_the_line_is_said(shop: Shop) -> None:
    await shop.plan(await shop.card(price=UnitPrice(D(1))))
    await shop.customer()
    await shop.subscribe()
    await shop.use(8, NOVEMBER)
    await shop.bill(DECEMBER + COLLECTED)
    [invoice] = await shop.invoices()
    await shop.clickhouse.command(
        "ALTER TABLE events DELETE WHERE namespace = {name:String} SETTINGS mutations_sync = 2",
        {"name": shop.namespace},
    )

    found = await explain(shop.books, shop.namespace, invoice.id, invoice.lines[0].id)

    assert found.problems == (
        "the events sum up to 0, and the line says 8",
        "counted again it is 0, and the line says 8",
        "there are 0 events, and the line says 1",
        "rated again it is 0, and the line says 8.00",
    )


@pytest.mark.parametrize("aggregation", [Aggregation.MAX, Aggregation.COUNT])
async def test_values_that_do_not_add_up_are_counted_again(
    shop: Shop, aggregation: Aggregation
) -> None:
    value = None if aggregation is Aggregation.COUNT else "$.tokens"
    meter = Meter(
        "", shop.namespace, "other", "Other", aggregation, "llm.tokens", value, {}, NOVEMBER,
        NOVEMBER,
    )  # fmt: skip
    await shop.books.meters.create(meter)
    await shop.plan(
        await shop.card("most", UnitPrice(D(1)), meter="other"),
        await shop.card("fee", FlatPrice(D(10))),
    )
    await shop.customer()
    await shop.subscribe()
    for tokens in (2, 9, 4):
        await shop.use(tokens, NOVEMBER)
    await shop.bill(DECEMBER + COLLECTED)

    found = [
        each
        for invoice in await shop.invoices()
        for each in (await explain_all(shop.books, shop.namespace, invoice.id))[1]
    ]

    quantities = {each.line.name: each.whole and each.whole.quantity for each in found}
    expected = D(3) if aggregation is Aggregation.COUNT else D(9)
    assert [each.problems for each in found] == [()] * len(found)
    assert quantities == {"Fee": None, "Most": expected}


def every_price() -> list[dict[str, Any]]:
    """A rate card of each kind of price, with everything that may change what it comes to."""
    tiers = (
        PriceTier(D(10), D("0.5"), D(3)),
        PriceTier(D(100), D("0.333")),
        PriceTier(None, D("0.1")),
    )
    packs = UnitConfig(Operation.DIVIDE, D(7), Rounding.CEILING, 0)
    return [
        {"key": "unit", "price": UnitPrice(D("0.0125"))},
        {"key": "graduated", "price": GraduatedPrice(tiers)},
        {"key": "volume", "price": VolumePrice(tiers), "only": {"type": "request"}},
        {"key": "packs", "price": UnitPrice(D("0.99")), "unit_config": packs},
        {"key": "millions", "price": UnitPrice(D(2)),
         "unit_config": UnitConfig(Operation.DIVIDE, D(1_000_000), Rounding.NONE, 0)},
        {"key": "least", "price": UnitPrice(D("0.01")), "commitments": Commitments(minimum_amount=D(50))},
        {"key": "most", "price": UnitPrice(D(1)), "commitments": Commitments(maximum_amount=D(20))},
        {"key": "off", "price": UnitPrice(D(1)), "discounts": Discounts(D("12.5"), D(5))},
        {"key": "free", "price": FreePrice()},
        {"key": "fee", "price": FlatPrice(D("9.99"))},
        {"key": "fee_after", "price": FlatPrice(D("4.99")),
         "payment_term": PaymentTerm.IN_ARREARS},
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_is_sold_what_is_listed_is_the_line(shop: Shop, seed: int) -> None:
    chance = Random(seed)
    cards = [await shop.card(**given) for given in every_price()]
    await shop.plan(*cards)
    dearer = [replace(one, name=f"{one.name} 2") for one in cards]
    await shop.plan(*dearer, key="other")
    await shop.customer()
    first = await shop.subscribe()

    async def use(many: int) -> None:
        for _ in range(many):
            at = NOVEMBER + timedelta(minutes=chance.randrange(30 * 24 * 60))
            source = chance.choice(["provider", "estimated", "none"])
            kind = chance.choice(["request", "response"])
            await shop.use(chance.randrange(90), at, type=kind, usage_source=source)

    await use(12)
    changed_at = NOVEMBER + timedelta(days=chance.randrange(1, 29))
    other = NewSubscription("acme", PlanReference(key="other"))
    await shop.books.subscriptions.change(
        shop.namespace, first.id, other, EditTiming.IMMEDIATE, changed_at
    )
    await shop.bill(DECEMBER + COLLECTED)
    await use(6)
    changes = EventChangeStore(shop.database, shop.events)
    why = Why("counted twice")
    await changes.void(shop.namespace, "kong", str(chance.randrange(1, 7)), why)
    amended = Amendment(data=msgspec.Raw(b'{"tokens": 3, "type": "request"}'))
    await changes.amend(shop.namespace, "kong", str(chance.randrange(7, 13)), amended, why)
    await shop.bill(JANUARY + COLLECTED)

    corrections = 0
    for invoice in await shop.invoices():
        for line in invoice.lines:
            found = await explain(shop.books, shop.namespace, invoice.id, line.id, size=100)
            listed = total(event.quantity or D(0) for event in found.events.events)
            amounts = total(line.detailed_totals)
            assert (listed, amounts) == (line.raw_quantity or 0, line.totals.total)
            assert found.problems == ()
            corrections += line.corrects is not None
    assert corrections > len(cards) / 2


async def test_a_line_that_is_not_there_is_not_found(shop: Shop) -> None:
    with pytest.raises(NotFound):
        await explain(shop.books, shop.namespace, "INV-000001", "01ARZ3NDEKTSV4RRFFQ69G5FAV")
