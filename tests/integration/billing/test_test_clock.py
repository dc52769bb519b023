"""A sandbox's clock: a year of billing in seconds, against numbers worked out by hand."""

import asyncio
import itertools
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D

import msgspec
import pytest
from tallyman.billing.clock_advance import advance
from tallyman.billing.job import bill_all
from tallyman.billing.recount import recounted
from tallyman.domain.access import JOB
from tallyman.domain.duration import Duration
from tallyman.domain.event import CloudEvent
from tallyman.domain.meter import Granularity, MeterQuery
from tallyman.domain.price import FlatPrice, UnitPrice
from tallyman.domain.subscription_change import EditTiming
from tallyman.domain.test_clock import TestClock
from tallyman.errors import Conflict, InvalidInput, NotFound
from tallyman.store.audit_pages import AuditPages
from tallyman.store.comparison import Comparison
from tallyman.store.customers import CustomerChange
from tallyman.store.events import Received
from tallyman.store.new_subscription import NewSubscription, PlanReference

from tests.rigs.shop import NOVEMBER, Shop

START = datetime(2028, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
A_TOKEN = UnitPrice(D(1))
_numbers = itertools.count()


def utc(year: int, month: int, day: int, hour: int = 0) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


@pytest.fixture
async def clock(shop: Shop) -> TestClock:
    """The shop is a sandbox, and it is 31 January 2028 there."""
    return await clock_of(shop, utc(2028, 1, 31))


async def clock_of(shop: Shop, at: datetime) -> TestClock:
    await shop.books.sandboxes.open(shop.namespace)
    return await shop.books.sandboxes.create_clock(shop.namespace, "test", at)


async def go(shop: Shop, clock: TestClock, to: datetime) -> TestClock:
    return await advance(shop.books, shop.namespace, clock.id, to)


async def use_one_token(shop: Shop, times: Iterable[datetime]) -> None:
    """One at each of the times, stored now."""
    body = msgspec.Raw(b'{"tokens": 1, "type": "request", "model": "gpt-4o"}')
    events = [
        CloudEvent(
            id=f"one-{next(_numbers)}",
            source="kong",
            type="llm.tokens",
            subject="acme",
            time=at,
            data=body,
        )
        for at in times
    ]
    await shop.events.accept([Received(shop.namespace, one, one.time or START) for one in events])


def every(step: timedelta, from_: datetime, to: datetime) -> list[datetime]:
    return [from_ + step * number for number in range(int((to - from_) / step))]


async def billed(shop: Shop) -> list[tuple[datetime | None, datetime | None, D]]:
    """Of each invoice when it was due, when it was issued, and its total."""
    return [(one.invoice_at, one.issued_at, one.totals.total) for one in await shop.invoices()]


async def test_a_year_from_31_january_bills_each_month_at_its_last_day(
    shop: Shop, clock: TestClock
) -> None:
    await shop.plan(await shop.card("fee", FlatPrice(D(10))), await shop.card(price=A_TOKEN))
    acme = await shop.customer()
    await shop.subscribe(at=clock.frozen_time)
    await use_one_token(shop, every(DAY, utc(2028, 1, 31, 12), utc(2029, 1, 31, 12)))

    arrived = await go(shop, clock, utc(2029, 1, 31, 2))

    # Ten in advance at each date, and a dollar for each day of the month before: 2028 is a leap year.
    dates = [
        (utc(2028, 1, 31), 0), (utc(2028, 2, 29), 29), (utc(2028, 3, 31), 31),
        (utc(2028, 4, 30), 30), (utc(2028, 5, 31), 31), (utc(2028, 6, 30), 30),
        (utc(2028, 7, 31), 31), (utc(2028, 8, 31), 31), (utc(2028, 9, 30), 30),
        (utc(2028, 10, 31), 31), (utc(2028, 11, 30), 30), (utc(2028, 12, 31), 31),
        (utc(2029, 1, 31), 31),
    ]  # fmt: skip
    found = await billed(shop)
    assert [(at, total) for at, _, total in found] == [(at, D(10) + days) for at, days in dates]
    assert sum(total for _, _, total in found) == 13 * 10 + 366
    assert [issued for _, issued, _ in found][1:] == [at + HOUR for at, _ in dates[1:]]
    assert (arrived.frozen_time, arrived.status) == (utc(2029, 1, 31, 2), "ready")
    for invoice in await shop.invoices(acme):
        assert await recounted(shop.books, invoice) == invoice.lines


async def test_a_year_from_29_february_is_28_february_until_the_next_leap_year(shop: Shop) -> None:
    clock = await clock_of(shop, utc(2028, 2, 29))
    yearly = await shop.card("fee", FlatPrice(D(100)), billing_cadence=Duration(12))
    await shop.plan(yearly, billing_cadence=Duration(12))
    await shop.customer()
    await shop.subscribe(at=clock.frozen_time)

    await go(shop, clock, utc(2032, 3, 1))

    days = [(2028, 2, 29), (2029, 2, 28), (2030, 2, 28), (2031, 2, 28), (2032, 2, 29)]
    assert [(at, total) for at, _, total in await billed(shop)] == [
        (utc(*day), D(100)) for day in days
    ]


async def test_hours_that_a_change_of_clocks_skips_or_repeats_are_billed_once_each(
    shop: Shop,
) -> None:
    clock = await clock_of(shop, utc(2028, 3, 1))
    await shop.plan(await shop.card(price=A_TOKEN))
    await shop.customer()
    await shop.subscribe(at=clock.frozen_time)
    await use_one_token(shop, every(HOUR, utc(2028, 2, 29), utc(2028, 4, 2)))
    await use_one_token(shop, every(HOUR, utc(2028, 9, 30), utc(2028, 11, 2)))

    await go(shop, clock, utc(2028, 11, 2))

    # Billing goes by UTC, whose March and October have 31 days of 24 hours; Berlin's March has an
    # hour less, and its October an hour more.
    totals = {at: total for at, _, total in await billed(shop)}
    assert (totals[utc(2028, 4, 1)], totals[utc(2028, 11, 1)]) == (D(744), D(744))
    meter = await shop.books.meters.get(shop.namespace, "kong_konnect_llm_tokens")
    months = MeterQuery(granularity=Granularity.MONTH, time_zone="Europe/Berlin")
    berlin = {row.from_: row.value for row in await shop.events.query(meter, months)}
    assert (berlin[utc(2028, 2, 29, 23)], berlin[utc(2028, 9, 30, 22)]) == (D(743), D(745))


async def test_plan_changes_and_late_events_are_billed_as_their_dates_say(shop: Shop) -> None:
    clock = await clock_of(shop, utc(2028, 1, 1))
    card = await shop.card(price=A_TOKEN)
    await shop.plan(card)
    await shop.plan(replace(card, price=UnitPrice(D(2))), key="pro")
    await shop.customer()
    begun = await shop.subscribe(at=clock.frozen_time)
    await shop.use(10, utc(2028, 1, 10))
    await go(shop, clock, utc(2028, 2, 10))
    pro = NewSubscription("acme", PlanReference(key="pro"))
    timing = EditTiming.NEXT_BILLING_CYCLE
    await shop.books.subscriptions.change(shop.namespace, begun.id, pro, timing, utc(2028, 2, 10))
    await shop.use(5, utc(2028, 1, 20))  # late: January's invoice is issued
    await shop.use(20, utc(2028, 2, 20))
    await shop.use(30, utc(2028, 3, 20))

    await go(shop, clock, utc(2028, 4, 2))

    # January 10 × 1; February 20 × 1 and January's late 5 × 1; March 30 × 2 on the other plan.
    assert [(at, total) for at, _, total in await billed(shop)] == [
        (utc(2028, 2, 1), D(10)),
        (utc(2028, 3, 1), D(25)),
        (utc(2028, 4, 1), D(60)),
    ]
    for invoice in await shop.invoices():
        assert await recounted(shop.books, invoice) == invoice.lines


async def test_a_subject_that_comes_later_brings_its_usage_also_where_it_is_long_ago(
    shop: Shop,
) -> None:
    clock = await clock_of(shop, utc(2025, 1, 1))
    await shop.plan(await shop.card(price=A_TOKEN))
    acme = await shop.customer()
    await shop.subscribe(at=clock.frozen_time)
    await shop.use(10, utc(2025, 1, 10))
    await shop.use(3, utc(2025, 1, 11), subject="its-app")
    await go(shop, clock, utc(2025, 2, 2))
    change = CustomerChange(acme.name, ("acme", "its-app"))
    await shop.books.customers.replace(shop.namespace, acme.id, change, utc(2025, 2, 2))

    await go(shop, clock, utc(2025, 3, 2))

    assert [total for _, _, total in await billed(shop)] == [D(10), D(3)]


async def test_whoever_is_stopped_on_the_way_goes_on_to_the_same_invoices(
    shop: Shop, clock: TestClock
) -> None:
    await shop.plan(await shop.card("fee", FlatPrice(D(10))))
    await shop.customer()
    await shop.subscribe(at=clock.frozen_time)
    task = asyncio.create_task(go(shop, clock, utc(2028, 12, 1)))
    sandboxes, march = shop.books.sandboxes, utc(2028, 3, 1)
    while await sandboxes.now(shop.namespace, march) < march:  # noqa: ASYNC110 – a clock in a database
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    stopped = await shop.books.sandboxes.get_clock(shop.namespace, clock.id)
    arrived = await go(shop, clock, utc(2028, 12, 1))

    assert (stopped.status, arrived.status) == ("advancing", "ready")
    assert stopped.frozen_time < utc(2028, 12, 1) == arrived.frozen_time
    assert [at for at, _, _ in await billed(shop)] == [
        utc(2028, month, day)
        for month, day in (
            (1, 31), (2, 29), (3, 31), (4, 30), (5, 31), (6, 30), (7, 31), (8, 31), (9, 30),
            (10, 31), (11, 30),
        )
    ]  # fmt: skip


async def test_the_billing_job_bills_a_sandbox_by_its_clock_and_others_by_theirs(
    shop: Shop, clock: TestClock
) -> None:
    real = Shop(shop.database, shop.clickhouse, f"{shop.namespace}-real")
    for one, at in ((shop, clock.frozen_time), (real, NOVEMBER)):
        await one.plan(await one.card("fee", FlatPrice(D(10))))
        await one.customer()
        await one.subscribe(at=at)

    await bill_all(shop.books, NOVEMBER + DAY)
    await bill_all(shop.books, NOVEMBER + 2 * DAY)

    assert [at for at, _, _ in await billed(shop)] == [clock.frozen_time]
    assert [at for at, _, _ in await billed(real)] == [NOVEMBER]
    [line] = await AuditPages(shop.database).page(
        real.namespace, [Comparison("entity", "eq", ("invoice",))]
    )
    assert (line.actor, line.action) == (JOB, "created")


async def test_only_an_empty_sandbox_gets_a_clock_and_it_goes_forward_only(shop: Shop) -> None:
    sandboxes, namespace = shop.books.sandboxes, shop.namespace
    with pytest.raises(Conflict, match="is real, and its time is everybody's"):
        await sandboxes.create_clock(namespace, None, utc(2028, 1, 1))
    clock = await clock_of(shop, utc(2028, 1, 1))
    with pytest.raises(Conflict, match="has a test clock already"):
        await sandboxes.create_clock(namespace, None, utc(2028, 1, 1))
    with pytest.raises(InvalidInput, match="a clock goes forward only"):
        await go(shop, clock, utc(2027, 12, 31))
    with pytest.raises(NotFound):
        await sandboxes.get_clock("theirs", clock.id)

    other = Shop(shop.database, shop.clickhouse, f"{namespace}-used")
    await sandboxes.open(other.namespace)
    await other.customer()
    with pytest.raises(Conflict, match="is in use"):
        await sandboxes.create_clock(other.namespace, None, utc(2028, 1, 1))
    real = Shop(shop.database, shop.clickhouse, f"{namespace}-real")
    await real.customer()
    with pytest.raises(Conflict, match="is real, and a sandbox begins empty"):
        await sandboxes.open(real.namespace)

    assert await sandboxes.now(namespace, utc(2026, 1, 1)) == utc(2028, 1, 1)
    assert await sandboxes.now(real.namespace, utc(2026, 1, 1)) == utc(2026, 1, 1)
