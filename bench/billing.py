"""Measures a billing run, and the preview of a customer with a million events, on embedded stores.

`python -m bench.billing [--quick]`; with `--quick` it takes a fiftieth of the customers and events.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tallyman.billing.preview import preview
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.database import Database

from bench.figure import Figure, report
from tests.rigs.shop import COLLECTED, DECEMBER, NOVEMBER, Shop

MODELS = ("gpt-4o", "gpt-4o-mini", "claude", "gemini", "llama")
CUSTOMERS, EVENTS, CARDS = 10_000, 10_000_000, 10
HEAVY_EVENTS = 1_000_000
EVENTS_AT_ONCE = 500_000
PREVIEWS = 5
_EVENTS = """
INSERT INTO incoming SELECT '{namespace}', 'llm.tokens', {subject},
    toDateTime64('2026-11-01 00:00:00', 6, 'UTC') + toIntervalSecond(intDiv(number * 2590000, {events})),
    'bench', concat({subject}, toString(number)), '',
    concat('{{"tokens":', toString(number % 1000), ',"type":"', ['request', 'response'][1 + number % 2],
        '","model":"', {models}[1 + intDiv(number, 7) % 5],
        '","provider":"openai","status_code":200,"outcome":"complete","usage_source":"provider",',
        '"waived_tokens":0}}'),
    '', '', now64(3), '', 0 FROM numbers({start}, {count})
"""


def measure(is_quick: bool) -> Iterator[Figure]:
    """The figures of one run."""
    scale = 50 if is_quick else 1
    yield from asyncio.run(_measure(CUSTOMERS // scale, EVENTS // scale))


async def _measure(customers: int, events: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        clickhouse = ClickHouse.embedded(str(Path(folder) / "chdb"))
        database = Database.sqlite(Path(folder) / "bench.sqlite3")
        await database.migrate()
        shop = Shop(database, clickhouse, "default")
        await shop.events.migrate()
        try:
            await _stock(shop, customers, CARDS)
            await _use(shop, f"concat('c', toString(number % {customers}))", events)
            started, worked = time.perf_counter(), time.process_time()
            outcome = await shop.bill(DECEMBER + COLLECTED)
            run, work = time.perf_counter() - started, time.process_time() - worked
            heavy = await _heavy(shop)
        finally:
            await database.close()
            await clickhouse.close()
    assert len(outcome.invoices) == customers
    size = f"{customers:,} customers x {CARDS} rate cards, {events:,} events"
    return [
        Figure(f"billing run, {size}", run, "s", goal="< 60 for 10,000 and 10M"),
        Figure("processor time of the billing run", work, "s"),
        Figure("preview of a customer with 1M events", heavy * 1000, "ms", goal="< 300"),
    ]


async def _stock(shop: Shop, customers: int, cards: int) -> None:
    kinds = [
        {"model": MODELS[at % 5], "type": ("request", "response")[at // 5 % 2]}
        for at in range(cards)
    ]
    made = [await shop.card(f"card_{at}", only=only) for at, only in enumerate(kinds)]
    await shop.plan(*made)
    async with shop.database.together():
        for at in range(customers):
            await shop.customer(f"c{at}")
            await shop.subscribe(f"c{at}")


async def _use(shop: Shop, subject: str, events: int) -> None:
    for start in range(0, events, EVENTS_AT_ONCE):
        count = min(EVENTS_AT_ONCE, events - start)
        sql = _EVENTS.format(
            namespace=shop.namespace,
            subject=subject,
            events=events,
            models=list(MODELS),
            start=start,
            count=count,
        )
        await shop.clickhouse.command(sql)


async def _heavy(shop: Shop) -> float:
    """The median of a few previews of one customer."""
    heavy = await shop.customer("heavy")
    await shop.subscribe("heavy")
    await _use(shop, "'heavy'", HEAVY_EVENTS)
    seconds = []
    for _ in range(PREVIEWS):
        started = time.perf_counter()
        await preview(shop.books, shop.namespace, heavy.id, NOVEMBER.replace(day=30))
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[PREVIEWS // 2]


if __name__ == "__main__":
    report(measure)
