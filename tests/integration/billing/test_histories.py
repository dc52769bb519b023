"""Whatever happens to customers, and whenever it becomes known: in the end the lines of each period that
stand come to what the period costs by what is known then. On random histories, the same in every run."""

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal as D
from typing import Any

import msgspec
import pytest
from sqlalchemy import not_, select
from tallyman.billing.advance import trigger
from tallyman.billing.explain import explain_all
from tallyman.billing.outcome import Outcome
from tallyman.billing.recount import recounted
from tallyman.domain.billable import Billable, due
from tallyman.domain.customer import Customer
from tallyman.domain.event import CloudEvent
from tallyman.domain.event_change import Amendment
from tallyman.domain.invoice import Invoice
from tallyman.domain.invoice_line import InvoiceLine, blank_line, rated
from tallyman.domain.invoice_state import InvoiceState, Trigger
from tallyman.domain.money import total
from tallyman.domain.price import (
    Commitments,
    Discounts,
    FlatPrice,
    GraduatedPrice,
    Operation,
    PriceTier,
    Rounding,
    UnitConfig,
    UnitPrice,
    VolumePrice,
)
from tallyman.domain.rate_card import PaymentTerm
from tallyman.domain.subscription import Subscription, SubscriptionStatus
from tallyman.domain.subscription_change import EditTiming
from tallyman.domain.usage import Usage
from tallyman.errors import TallymanError
from tallyman.store import usage_quantities
from tallyman.store.event_changes import EventChangeStore, Why
from tallyman.store.events import Received
from tallyman.store.new_subscription import NewSubscription, PlanReference
from tallyman.store.tables import invoice_lines, invoices

from tests.rigs.shop import NOVEMBER, Shop

DAY = timedelta(days=1)
TIERS = (PriceTier(D(10), D(1), D(2)), PriceTier(D(50), D("0.7")), PriceTier(None, D("0.333")))
KINDS: dict[str, dict[str, Any]] = {
    "unit": {"price": UnitPrice(D("0.015"))},
    "graduated": {"price": GraduatedPrice(TIERS)},
    "volume": {"price": VolumePrice(TIERS)},
    "package": {
        "price": UnitPrice(D(3)),
        "unit_config": UnitConfig(Operation.DIVIDE, D(7), Rounding.CEILING, 0),
    },
    "discounted": {"price": UnitPrice(D("0.11")), "discounts": Discounts(D("12.5"), D(20))},
    "committed": {"price": UnitPrice(D(1)), "commitments": Commitments(D(15), D(40))},
    "flat": {"price": FlatPrice(D(31)), "payment_term": PaymentTerm.IN_ARREARS},
    "once": {"price": FlatPrice(D(5)), "billing_cadence": None},
}
CURRENCIES = ("USD", "JPY", "KWD")
WHY = Why("a test run", "key-1")


def _data(tokens: int) -> msgspec.Raw:
    return msgspec.Raw(
        msgspec.json.encode({"tokens": tokens, "type": "request", "model": "gpt-4o"})
    )


@dataclass
class History:
    """What happened to one customer."""

    customer: Customer
    used: dict[str, tuple[datetime, int]] = field(default_factory=dict)

    def usage(self, billable: Billable) -> Usage | None:
        """What is known of it now."""
        if not billable.needs_usage:
            return None
        period = billable.service_period
        return Usage(D(sum(n for at, n in self.used.values() if period.from_ <= at < period.to)))


class World:
    """A shop with customers to whom things happen; `now` is where its clock is."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self.shop = shop
        self.random = random.Random(seed)
        self.now = NOVEMBER
        self.histories: list[History] = []
        self.changes = EventChangeStore(shop.database, shop.events)

    async def open(self) -> None:
        """A plan of each kind of price, each with a fee in advance, and two customers on each."""
        for number, (kind, card) in enumerate(KINDS.items()):
            fee = await self.shop.card(f"{kind}_fee", FlatPrice(D("19.99")))
            await self.shop.plan(
                await self.shop.card(kind, **card), fee, key=kind, currency=CURRENCIES[number % 3]
            )
            for name in (f"{kind}-a", f"{kind}-b"):
                self.histories.append(History(await self.shop.customer(name)))
                await self.shop.subscribe(name, kind, NOVEMBER)

    async def go_on(self, until: datetime) -> None:
        """Things happen, also to what is over, and are billed."""
        while self.now < until:
            for one in self.histories:
                for act in self.random.choices(
                    (
                        self._use,
                        self._mend,
                        self._void,
                        self._leave,
                        self._move,
                        self._come_back,
                        self._ahead,
                    ),
                    (12, 4, 2, 2, 2, 2, 1),
                    k=2,
                ):
                    await act(one)
            await self._bill()
            self.now += timedelta(hours=self.random.randint(1, 12 * 24))

    async def settle(self) -> None:
        """Everybody leaves, and runs follow one another until there is nothing left to do."""
        for one in self.histories:
            await self._leave(one, EditTiming.IMMEDIATE)
        await self._bill()
        self.now += 45 * DAY  # beyond all that was billed ahead
        while (await self._bill()).invoices:
            self.now += DAY

    async def invoices(self, one: History) -> list[Invoice]:
        """All that are not deleted."""
        return await self.shop.invoices(one.customer)

    async def subscriptions(self, one: History) -> list[Subscription]:
        """All that the customer has and had."""
        found = await self.shop.books.subscriptions.of_customers(
            self.shop.namespace, [one.customer.id]
        )
        return found[one.customer.id]

    async def _bill(self) -> Outcome:
        quantities = self.shop.books.quantities
        before = await quantities.watermark() + timedelta(milliseconds=3)
        while await quantities.watermark() <= before:  # what is stored next is later
            pass
        return await self.shop.bill(self.now)

    async def _use(self, one: History) -> None:
        seconds = int((self.now - NOVEMBER).total_seconds())
        at = NOVEMBER + timedelta(seconds=self.random.randint(0, seconds))
        tokens, id_ = self.random.choice((3, 8, 21, 55, -13)), f"{one.customer.key}-{len(one.used)}"
        event = CloudEvent(id_, "kong", "llm.tokens", one.customer.key, time=at, data=_data(tokens))
        await self.shop.events.accept([Received(self.shop.namespace, event, at)])
        one.used[id_] = at, tokens

    async def _mend(self, one: History) -> None:
        found = [id_ for id_, (_, tokens) in one.used.items() if tokens]
        if not found:
            return
        id_ = self.random.choice(found)
        tokens = self.random.choice((0, 5, 34))
        if tokens:
            amendment = Amendment(data=_data(tokens))
            await self.changes.amend(self.shop.namespace, "kong", id_, amendment, WHY)
        else:
            await self.changes.void(self.shop.namespace, "kong", id_, WHY)
        one.used[id_] = one.used[id_][0], tokens

    async def _void(self, one: History) -> None:
        found = await self.invoices(one)
        if not found:
            return
        invoice = self.random.choice(found)
        with_delete = invoice.state.status == "draft"
        try:
            await trigger(
                self.shop.books,
                self.shop.namespace,
                invoice.id,
                Trigger.DELETE if with_delete else Trigger.VOID,
                self.now,
                rebill=not with_delete and self.random.random() < 0.7,
            )
        except TallymanError:
            assert invoice.state is InvoiceState.VOIDED

    async def _ahead(self, one: History) -> None:
        await self.shop.bill(self.now + 40 * DAY, [one.customer.id])

    async def _leave(self, one: History, timing: EditTiming | None = None) -> None:
        books = self.shop.books.subscriptions
        for subscription in await self.subscriptions(one):
            status = subscription.status_at(self.now)
            if timing and status is SubscriptionStatus.CANCELED:
                subscription = await books.unschedule_cancelation(
                    self.shop.namespace, subscription.id, self.now
                )
            if subscription.status_at(self.now) is SubscriptionStatus.ACTIVE:
                when = timing or self.random.choice(tuple(EditTiming))
                await books.cancel(self.shop.namespace, subscription.id, when, self.now)

    async def _come_back(self, one: History) -> None:
        books = self.shop.books.subscriptions
        subscriptions = await self.subscriptions(one)
        last = subscriptions[-1]
        if last.status_at(self.now) is SubscriptionStatus.CANCELED:
            await books.unschedule_cancelation(self.shop.namespace, last.id, self.now)
        elif last.status_at(self.now) is SubscriptionStatus.INACTIVE:
            await self.shop.subscribe(one.customer.key, self.random.choice(list(KINDS)), self.now)

    async def _move(self, one: History) -> None:
        for subscription in await self.subscriptions(one):
            if subscription.status_at(self.now) is SubscriptionStatus.ACTIVE:
                new = NewSubscription(
                    one.customer.key, PlanReference(key=self.random.choice(list(KINDS)))
                )
                await self.shop.books.subscriptions.change(
                    self.shop.namespace, subscription.id, new, EditTiming.IMMEDIATE, self.now
                )


def _totals(lines: Iterable[InvoiceLine]) -> dict[str, D]:
    """By billable, what the lines come to."""
    found: dict[str, list[D]] = defaultdict(list)
    for line in lines:
        found[line.billable_id].append(line.totals.total)
    return {id_: total(some) for id_, some in found.items()}


async def _costs(world: World, one: History) -> dict[str, D]:
    """By billable, what it costs by what is known now."""
    return {
        billable.id: rated(blank_line(subscription, billable), one.usage(billable)).totals.total
        for subscription in await world.subscriptions(one)
        for billable in due(subscription, world.now)
    }


async def _forgiven(world: World, one: History) -> dict[str, D]:
    """By billable, what void invoices have of it that was not billed again."""
    async with world.shop.database.reading() as connection:
        rows = await connection.execute(
            select(invoice_lines.c.invoice_id, invoice_lines.c.id)
            .join(invoices, invoices.c.id == invoice_lines.c.invoice_id)
            .where(
                invoice_lines.c.customer_id == one.customer.id,
                not_(invoice_lines.c.freed),
                invoices.c.state == InvoiceState.VOIDED.value,
            )
        )
        counting = {(row.invoice_id, row.id) for row in rows}
    void = [x for x in await world.invoices(one) if x.state is InvoiceState.VOIDED]
    return _totals(line for x in void for line in x.lines if (x.id, line.id) in counting)


@pytest.mark.parametrize("seed", [1])
async def test_in_the_end_the_lines_of_each_period_come_to_what_it_costs(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(usage_quantities, "_LOOK_BACK", timedelta())
    world = World(shop, seed)
    await world.open()

    await world.go_on(NOVEMBER + 75 * DAY)
    await world.settle()

    for one in world.histories:
        invoices, costs = await world.invoices(one), await _costs(world, one)
        standing = [x for x in invoices if x.state is not InvoiceState.VOIDED]
        billed = _totals(line for x in standing for line in x.lines)
        forgiven = await _forgiven(world, one)
        expected = {
            id_: max(costs.get(id_, D(0)), let := forgiven.get(id_, D(0))) - let
            for id_ in costs.keys() | forgiven.keys()
        }
        assert {id_: cost for id_, cost in billed.items() if cost} == {
            id_: cost for id_, cost in expected.items() if cost
        }, one
        last = standing[-1]
        assert last.lines == await recounted(shop.books, last)
        _, explained = await explain_all(shop.books, shop.namespace, last.id)
        assert [problem for line in explained for problem in line.problems] == []
