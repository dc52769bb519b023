"""How fast customers' access is answered: `python -m bench.entitlements [--quick]`.

100 customers with 100 features each, over 1,000,000 events of the period, asked of a `tallyman serve`
of its own that has just started: the whole in one query, and one customer.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
from tallyman import data_directory
from tallyman.demo import processes
from tallyman.domain.customer import Customer
from tallyman.domain.duration import Duration
from tallyman.domain.entitlement import MeteredEntitlement
from tallyman.domain.feature import Feature, FeatureMeter
from tallyman.domain.meter import DimensionFilter
from tallyman.domain.plan import Plan
from tallyman.domain.plan_phase import PlanPhase
from tallyman.domain.price import FreePrice
from tallyman.domain.rate_card import FeatureReference, RateCard
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database
from tallyman.store.events import EventStore
from tallyman.store.features import FeatureStore
from tallyman.store.meters import MeterStore
from tallyman.store.new_subscription import NewSubscription, PlanReference
from tallyman.store.plans import PlanStore
from tallyman.store.subscriptions import SubscriptionStore

from bench.figure import Figure, report

API = "/api/v3/openmeter"
CUSTOMERS = 100
FEATURES = 100
EVENTS = 1_000_000
HARD = MeteredEntitlement(limit=Decimal(150_000))


@dataclass
class Waits:
    """Seconds of what was asked, in order."""

    all_at_once: list[float] = field(default_factory=list)
    one: list[float] = field(default_factory=list)
    noticed: list[float] = field(default_factory=list)


def measure(is_quick: bool) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        events = EVENTS // 10 if is_quick else EVENTS
        asyncio.run(_prepare(data_dir, events))
        key = processes.create_key(data_dir, "bench", "admin")
        began = time.perf_counter()
        with processes.collector(data_dir, Path(folder) / "serve.log") as address:
            waits, ready = asyncio.run(_measure(address, key, 10 if is_quick else 50))
    of = f"{CUSTOMERS} × {FEATURES} over {events:,} events"
    yield Figure("start until every entitlement is counted", ready - began, "s")
    yield Figure(f"access, {of}", median(waits.all_at_once) * 1000, "ms", goal="< 250")
    yield Figure(f"the slowest of those, {of}", max(waits.all_at_once) * 1000, "ms", goal="< 250")
    yield Figure(f"access, one customer's {FEATURES}", median(waits.one) * 1000, "ms")
    yield Figure("from an event's 202 until it counts", median(waits.noticed) * 1000, "ms")


async def _prepare(data_dir: Path, events: int) -> None:
    """A shop with its events, as the stores keep them."""
    data_directory.create(data_dir)
    database = Database.sqlite(data_directory.database_path(data_dir))
    await database.migrate()
    now = datetime.now(UTC)
    start = now - timedelta(days=2)
    meter = await MeterStore(database).get("default", "kong_konnect_llm_tokens")
    month = Duration(months=1)
    cards = []
    for number in range(FEATURES):
        only = DimensionFilter("model", "eq", (f"model-{number}",))
        feature = Feature(
            "", "default", f"feature_{number}", "Feature", now, now, FeatureMeter(meter.id, (only,))
        )
        made = await FeatureStore(database).create(feature)
        reference = FeatureReference(made.id, made.key)
        cards.append(RateCard(made.key, "Card", FreePrice(), reference, month, entitlement=HARD))
    phases = (PlanPhase("only", "Only", tuple(cards)),)
    plan = Plan("", "default", "plan", 0, "Plan", "USD", month, phases, now, now)
    draft = await PlanStore(database).create(plan)
    await PlanStore(database).publish("default", draft.id, now)
    for number in range(CUSTOMERS):
        key = f"customer-{number}"
        await CustomerStore(database).create(Customer("", "default", key, key, now, now, (key,)))
        new = NewSubscription(key, PlanReference(key="plan"), active_from=start)
        await SubscriptionStore(database).create("default", new, now)
    await database.close()
    clickhouse = ClickHouse.embedded(str(data_directory.events_path(data_dir)))
    await EventStore(clickhouse).migrate()
    await clickhouse.command(
        "INSERT INTO incoming SELECT 'default', 'llm.tokens', "
        "concat('customer-', toString(number % {customers:UInt32})), "
        "fromUnixTimestamp64Micro({from:Int64} + number * {step:Int64}, 'UTC'), 'bench', "
        'toString(number), \'\', concat(\'{{"tokens": 7, "type": "request", "model": '
        "\"model-', toString(intDiv(number, {customers:UInt32}) % {features:UInt32}), '\"}}'), "
        "'', '', now64(3), '', 0 FROM numbers({events:UInt64})".replace("{{", "{").replace(
            "}}", "}"
        ),
        {
            "customers": CUSTOMERS,
            "features": FEATURES,
            "from": int(start.timestamp() * 1_000_000),
            "step": int(timedelta(days=2).total_seconds() * 1_000_000) // events,
            "events": events,
        },
    )
    await clickhouse.close()


async def _measure(address: str, key: str, times: int) -> tuple[Waits, float]:
    """What was waited for, and when the counts were there."""
    waits = Waits()
    names = [f"customer-{number}" for number in range(CUSTOMERS)]
    features = [f"feature_{number}" for number in range(FEATURES)]
    query = {"customer": {"keys": names}, "feature": {"keys": features}}
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(address, headers=headers) as session:
        async with asyncio.timeout(120):
            while (await _asked(session, query))[0] != 200:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        ready = time.perf_counter()
        for _ in range(times):
            began = time.perf_counter()
            _, found = await _asked(session, query)
            waits.all_at_once.append(time.perf_counter() - began)
            if len(found["data"]) != CUSTOMERS or len(found["data"][-1]["features"]) != FEATURES:
                raise AssertionError("not everything was answered")
            began = time.perf_counter()
            path = f"{API}/customers/{names[0]}/entitlement-access"
            async with session.get(path, raise_for_status=True) as answer:
                await answer.read()
            waits.one.append(time.perf_counter() - began)
        for number in range(max(3, times // 10)):
            waits.noticed.append(await _noticed(session, number))
    return waits, ready


async def _asked(session: aiohttp.ClientSession, query: dict[str, Any]) -> tuple[int, Any]:
    async with session.post(f"{API}/entitlement-access/query", json=query) as answer:
        return answer.status, await answer.json(content_type=None)


async def _noticed(session: aiohttp.ClientSession, number: int) -> float:
    path = f"/api/v2/customers/customer-{number}/entitlements/feature_0/value"

    async def usage() -> float:
        async with session.get(path, raise_for_status=True) as answer:
            return float((await answer.json())["usage"])

    before = await usage()
    event = {
        "specversion": "1.0", "id": f"late-{number}", "source": "bench", "type": "llm.tokens",
        "subject": f"customer-{number}", "time": datetime.now(UTC).isoformat(),
        "data": {"tokens": 7, "type": "request", "model": "model-0"},
    }  # fmt: skip
    async with session.post(f"{API}/events", json=event, raise_for_status=True):
        began = time.perf_counter()
    async with asyncio.timeout(60):
        while await usage() != before + 7:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
    return time.perf_counter() - began


if __name__ == "__main__":
    report(measure)
