"""How fast a month is read, exactly, with unmerged duplicates: `python -m bench.queries [--quick]`.

10,000,000 events of one month, in parts as ClickHouse merges them by itself; then 1 % of them once more, of
which nothing is merged. `queries_100m.py` has ten times as many. All subjects' month is asked before and after
the first refresh of the rollup, and with an event of the newest hour stored after it. The baseline is ClickHouse's
own plain sum by model, which counts what is stored twice.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from tallyman.domain.meter import Aggregation, DimensionFilter, MeterQuery
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore
from tallyman.store.rollup import Rollup

from bench.figure import Figure, report
from bench.recorded import meter_of

EVENTS = 10_000_000
AT_ONCE = 500_000
TWICE = " WHERE number % 100 = 7"
UNMERGED_PARTS = 20
SUBJECTS = 1000
REPEATS = 7
BEGIN, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
_INSERT = """
INSERT INTO incoming SELECT 'default', 'llm.tokens', concat('consumer-', toString(cityHash64(number) % {subjects})),
    toDateTime64('2026-11-01 00:00:00', 6, 'UTC') + toIntervalMillisecond(intDiv(number * 2590000000, {events})),
    'bench', hex(sipHash128(number)), '',
    concat('{{"tokens":', toString(number % 1000), ',"type":"', ['request', 'response'][1 + number % 2],
        '","provider":"openai","model":"', {models}[1 + intDiv(number, 7) % 5],
        '","consumer_id":"275f1a3d-0f00-4008-9dc3-7d91e3ed234f","service":"llm","route":"chat",',
        '"status_code":200,"outcome":"complete","latency_ms":', toString(number % 5000),
        ',"usage_source":"provider","waived_tokens":0}}'),
    'node-1', toString(number), now64(3), '', 0 FROM numbers({start}, {count}){where}
"""
MODELS = ["gpt-4o", "gpt-4o-mini", "claude", "gemini", "llama"]
ONE = (DimensionFilter("subject", "eq", ("consumer-7",)),)
_PLAIN = """
SELECT model, sum(tokens) FROM events WHERE namespace = 'default' AND type = 'llm.tokens'
    AND time >= '2026-11-01 00:00:00' AND time < '2026-12-01 00:00:00' GROUP BY model
"""


def measure(is_quick: bool) -> Iterator[Figure]:
    yield from asyncio.run(measure_of(EVENTS // 20 if is_quick else EVENTS))


async def measure_of(events: int) -> list[Figure]:
    """The figures of so many events."""
    of = f"of {events:,} events, 1 % twice, unmerged"
    size = f"{events // 1000}k" if events < EVENTS else f"{events // 1_000_000}m"
    with tempfile.TemporaryDirectory() as folder:
        clickhouse = ClickHouse.embedded(folder)
        store = EventStore(clickhouse)
        await store.migrate()
        parts = await _fill(clickhouse, events)
        tokens = meter_of(Aggregation.SUM, "$.tokens")
        latency = meter_of(Aggregation.SUM, "$.latency_ms")
        subject = MeterQuery(BEGIN, END, group_by=("model", "type"), filters=ONE)
        fleet = MeterQuery(BEGIN, END, group_by=("model",))
        plain = f"the plain sum of all events by model, inexact, {of}"
        figures = [
            Figure(f"parts of the table, {of}", parts, "parts"),
            Figure(
                plain,
                await _median_ms(lambda: clickhouse.rows(_PLAIN)),
                "ms",
                key=f"plain_sum_ms_{size}",
            ),
            Figure(
                f"all subjects' month by model, without the rollup, {of}",
                await _median_ms(lambda: store.query(tokens, fleet)),
                "ms",
                key=f"fleet_month_without_rollup_ms_{size}",
            ),
            Figure(
                f"the rollup's first refresh, {of}",
                await _refresh_ms(clickhouse),
                "ms",
                key=f"rollup_first_refresh_ms_{size}",
            ),
            Figure(
                f"one subject's month by model and type, {of}",
                subject_ms := await _median_ms(lambda: store.query(tokens, subject)),
                "ms",
                goal="≤ 60, of 100,000,000 ≤ 90",
                key=f"subject_month_ms_{size}",
            ),
            Figure(
                f"the same against the plain sum, {of}",
                subject_ms,
                "ms",
                baseline=plain,
                key=f"subject_month_vs_plain_sum_{size}",
            ),
            Figure(
                f"all subjects' month by model, {of}",
                await _median_ms(lambda: store.query(tokens, fleet)),
                "ms",
                goal="≤ 400",
                key=f"fleet_month_ms_{size}",
            ),
            Figure(
                f"a meter made afterwards, of a field without a column, by model, {of}",
                await _median_ms(lambda: store.query(latency, fleet)),
                "ms",
                goal="aim 1,500",
                key=f"adhoc_meter_ms_{size}",
            ),
        ]
        await clickhouse.command(_insert(events, events - 1, 1, ""))
        figures.append(
            Figure(
                f"all subjects' month by model, with a new event in the newest hour, {of}",
                await _median_ms(lambda: store.query(tokens, fleet)),
                "ms",
                key=f"fleet_month_new_event_ms_{size}",
            )
        )
        await clickhouse.close()
    return figures


async def _fill(clickhouse: ClickHouse, events: int) -> int:
    """Store them, and 1 % twice; returns how many parts there are."""
    for start in range(0, events, AT_ONCE):
        await clickhouse.command(_insert(events, start, min(AT_ONCE, events - start), ""))
    while await clickhouse.rows("SELECT 1 FROM system.merges WHERE table = 'events'"):  # noqa: ASYNC110 – it says nothing when it is done
        await asyncio.sleep(0.1)
    await clickhouse.command("SYSTEM STOP MERGES events")
    for at in range(UNMERGED_PARTS):
        count = events // UNMERGED_PARTS
        await clickhouse.command(_insert(events, at * count, count, TWICE))
    [(parts,)] = await clickhouse.rows(
        "SELECT count() FROM system.parts WHERE active AND table = 'events'"
    )
    return int(parts)


def _insert(events: int, start: int, count: int, where: str) -> str:
    return _INSERT.format(
        subjects=SUBJECTS, events=events, models=MODELS, start=start, count=count, where=where
    )


async def _refresh_ms(clickhouse: ClickHouse) -> float:
    began = time.perf_counter()
    await Rollup(clickhouse).refresh()
    return (time.perf_counter() - began) * 1000


async def _median_ms(ask: Callable[[], Awaitable[list[Any]]]) -> float:
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        rows = await ask()
        seconds.append(time.perf_counter() - began)
        assert rows
    return sorted(seconds)[REPEATS // 2] * 1000


if __name__ == "__main__":
    report(measure)
