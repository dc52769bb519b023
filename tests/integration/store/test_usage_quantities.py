"""Usage behind rate cards, on chDB and on ClickHouse over HTTP: exact, and the same for ever."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any

import msgspec
import pytest
from tallyman.domain.counting import Metered
from tallyman.domain.event import CloudEvent
from tallyman.domain.meter import Aggregation, DimensionFilter, Meter
from tallyman.domain.period import EPOCH, Period
from tallyman.domain.usage import Usage, UsageWindow
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore, Received
from tallyman.store.usage_quantities import UsageQuantities
from tallyman.store.usage_sql import Question

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
NOVEMBER = Period(BEGIN, datetime(2026, 12, 1, tzinfo=UTC))
HALF = Period(BEGIN, datetime(2026, 11, 15, tzinfo=UTC))


def event(
    namespace: str, number: int, tokens: Any, subject: str = "acme", day: int = 3, **data: Any
) -> Received:
    given = {"tokens": tokens, "type": "request", "model": "gpt-4o", **data}
    return Received(
        namespace,
        CloudEvent(
            id=str(number),
            source="kong",
            type="llm.tokens",
            subject=subject,
            time=BEGIN.replace(day=day),
            data=msgspec.Raw(msgspec.json.encode(given)),
        ),
        BEGIN,
    )


def meter(namespace: str, aggregation: Aggregation = Aggregation.SUM, **rest: Any) -> Meter:
    given = {"value_property": "$.tokens", **rest}
    return Meter(
        id="m",
        namespace=namespace,
        key="tokens",
        name="Tokens",
        aggregation=aggregation,
        event_type="llm.tokens",
        dimensions={"model": "$.model", "type": "$.type", "team": "$.team.name"},
        created_at=EPOCH,
        updated_at=EPOCH,
        **given,
    )


def asks(metered: Meter | Metered, *subjects: str, period: Period = NOVEMBER) -> Question:
    whole = metered if isinstance(metered, Metered) else Metered(metered)
    return Question(whole, period, tuple((subject, period) for subject in subjects))


async def counted(clickhouse: ClickHouse, questions: Sequence[Question]) -> list[Usage]:
    quantities = UsageQuantities(clickhouse)
    return await quantities.count(questions, await quantities.watermark())


def equal(dimension: str, value: str) -> DimensionFilter:
    return DimensionFilter(dimension, "eq", (value,))


async def test_a_quantity_says_what_is_behind_it(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    await event_store.accept(
        [
            event(namespace, 1, 100, usage_source="provider"),
            event(namespace, 2, 40, usage_source="estimated", type="response"),
            event(namespace, 3, 0, usage_source="provider", waived_tokens=7, model="claude"),
            event(namespace, 4, "0.000000000000000001", model="claude"),
            event(namespace, 5, "none"),
            event(namespace, 6, 1_000, subject="other"),
            event(namespace, 7, 1_000, day=30, type="other"),
        ]
    )

    [usage] = await counted(clickhouse, [asks(meter(namespace), "acme", period=HALF)])

    assert usage == Usage(
        D("140.000000000000000001"),
        (
            UsageWindow(
                HALF, D("0.000000000000000001"), (("model", "claude"), ("type", "request"))
            ),
            UsageWindow(HALF, D(100), (("model", "gpt-4o"), ("type", "request"))),
            UsageWindow(HALF, D(40), (("model", "gpt-4o"), ("type", "response"))),
        ),
        events=4,
        calls=3,
        estimated_tokens=D(40),
        waived_tokens=D(7),
        unit="token",
    )


async def test_each_customer_has_its_own_subjects_each_in_its_time(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    await event_store.accept(
        [
            event(namespace, 1, 1, "a", day=14),
            event(namespace, 2, 10, "a", day=15),
            event(namespace, 3, 100, "b", day=1),
            event(namespace, 4, 1_000, "nobody"),
        ]
    )
    tokens = Metered(meter(namespace))
    rest = Period(HALF.to, NOVEMBER.to)
    moved_away = Question(tokens, NOVEMBER, (("a", HALF),))
    moved_here = Question(tokens, NOVEMBER, (("a", rest), ("b", NOVEMBER)))
    nobody = Question(tokens, NOVEMBER, ())

    usages = await counted(clickhouse, [moved_here, nobody, moved_away])

    assert [usage.quantity for usage in usages] == [D(110), D(0), D(1)]
    assert usages[1] == Usage(D(0), unit="token")


async def test_a_quantity_is_split_by_its_own_meters_dimensions_whoever_is_counted_beside_it(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    await event_store.accept([event(namespace, 1, 10, model="asked", answered_by="gpt-4o")])
    asked = meter(namespace)
    answered = replace(asked, id="n", dimensions={**asked.dimensions, "model": "$.answered_by"})
    questions = [asks(asked, "acme"), asks(answered, "acme")]

    together = await counted(clickhouse, questions)
    alone = [usage for one in questions for usage in await counted(clickhouse, [one])]

    assert together == alone
    assert [dict(usage.windows[0].dimensions)["model"] for usage in together] == ["asked", "gpt-4o"]


async def test_many_rate_cards_are_counted_in_one_reading(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    await event_store.accept(
        [
            event(namespace, 1, 1, team={"name": "red"}),
            event(namespace, 2, 10, type="response", team={"name": "blue"}),
            event(namespace, 3, 100, model="claude"),
        ]
    )
    tokens = meter(namespace)
    built_in = replace(tokens, only=("type", "request"))
    either = DimensionFilter("team", "in", ("red", "blue"))
    cards = [
        Metered(tokens),
        Metered(built_in),
        Metered(built_in, (equal("model", "claude"),)),
        Metered(tokens, (either,)),
        Metered(tokens, (DimensionFilter("team", "exists", ("false",)),)),
        Metered(replace(tokens, events_from=NOVEMBER.to)),
    ]

    usages = await counted(clickhouse, [asks(card, "acme") for card in cards])

    assert [usage.quantity for usage in usages] == [D(111), D(101), D(100), D(11), D(100), D(0)]


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        pytest.param(Aggregation.COUNT, D(4), id="count counts events, whatever their value"),
        pytest.param(Aggregation.SUM, D(17), id="sum"),
        pytest.param(Aggregation.UNIQUE_COUNT, D(3), id="different values of all subjects"),
        pytest.param(Aggregation.MAX, D(10), id="max"),
        pytest.param(Aggregation.MIN, D(2), id="min"),
        pytest.param(Aggregation.LATEST, D(5), id="latest"),
        pytest.param(Aggregation.AVG, D("5.666666666666666667"), id="avg"),
    ],
)
async def test_every_aggregation_is_over_all_subjects_of_a_customer(
    clickhouse: ClickHouse,
    event_store: EventStore,
    namespace: str,
    aggregation: Aggregation,
    expected: D,
) -> None:
    await event_store.accept(
        [
            event(namespace, 1, 2, "a", day=1),
            event(namespace, 2, 10, "b", day=2),
            event(namespace, 3, 5, "b", day=4),
            event(namespace, 4, None, "a", day=5),
        ]
    )
    counts = meter(namespace, aggregation)

    both, none = await counted(clickhouse, [asks(counts, "a", "b"), asks(counts, "c")])

    assert (both.quantity, none.quantity) == (expected, D(0))
    assert both.events == (4 if aggregation is Aggregation.COUNT else 3)


async def test_an_event_that_is_stored_twice_counts_once(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    await event_store.accept([event(namespace, 1, 10)])
    row = "* REPLACE (now64(3) AS stored_at, first_wins - 1 AS first_wins, 99 AS tokens)"
    await clickhouse.command(
        f"INSERT INTO events SELECT {row} FROM events WHERE namespace = '{namespace}'"
    )

    [usage] = await counted(clickhouse, [asks(meter(namespace), "acme")])

    assert (usage.quantity, usage.events) == (D(10), 1)


async def test_counted_again_at_its_watermark_a_quantity_is_the_same_to_the_digit(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    await event_store.accept([event(namespace, 1, 10)])
    quantities = UsageQuantities(clickhouse)
    question = [asks(meter(namespace), "acme")]
    watermark = await quantities.watermark()
    before = await quantities.count(question, watermark)

    await event_store.accept([event(namespace, 2, 5), event(namespace, 1, 99)])

    assert await quantities.count(question, watermark) == before
    later = await quantities.count(question, await quantities.watermark())
    assert [usage.quantity for usage in (*before, *later)] == [D(10), D(15)]


async def test_a_watermark_is_before_every_insert_that_is_under_way(
    clickhouse: ClickHouse, namespace: str
) -> None:
    quantities = UsageQuantities(clickhouse)
    slow = asyncio.create_task(
        clickhouse.command(
            "INSERT INTO incoming (namespace, type, subject, time, source, id, data) "
            f"SELECT '{namespace}', 'llm.tokens', 'acme', '2026-11-03', 'kong', toString(number), "
            "if(sleepEachRow(0.2) = 0, '{\"tokens\": 1}', '') FROM numbers(8) "
            "SETTINGS max_block_size = 1"
        )
    )
    async with asyncio.timeout(10):
        while not await clickhouse.rows(  # noqa: ASYNC110 – another process' doing is waited for
            "SELECT 1 FROM system.processes WHERE query_kind = 'Insert' AND elapsed > 0.1"
        ):
            await asyncio.sleep(0.01)

    watermark = await quantities.watermark()
    first = await quantities.count([asks(meter(namespace), "acme")], watermark)
    await slow
    second = await quantities.count([asks(meter(namespace), "acme")], watermark)

    assert first == second
    [stored] = await clickhouse.rows(
        f"SELECT count(), min(stored_at) FROM events WHERE namespace = '{namespace}'"
    )
    assert stored[0] == 8
    assert stored[1].replace(tzinfo=UTC) > watermark


async def test_a_watermark_keeps_behind_by_how_much_clocks_may_differ(
    clickhouse: ClickHouse,
) -> None:
    watermark = await UsageQuantities(clickhouse, settle_seconds=60).watermark()

    assert watermark < datetime.now(UTC) - timedelta(seconds=59)


async def test_what_is_stored_with_a_clock_that_is_behind_does_not_change_what_was_counted(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    await event_store.accept([event(namespace, 1, 10)])
    quantities = UsageQuantities(clickhouse, settle_seconds=60)
    question = [asks(meter(namespace), "acme")]
    async with asyncio.timeout(5):
        await clickhouse.command(
            "INSERT INTO events SELECT * REPLACE (now64(3) - 120 AS stored_at, 'old' AS id) "
            f"FROM events WHERE namespace = '{namespace}'"
        )
    watermark = await quantities.watermark()
    before = await quantities.count(question, watermark)

    await clickhouse.command(
        "INSERT INTO events SELECT * REPLACE (now64(3) - 59 AS stored_at, 'behind' AS id) "
        f"FROM events WHERE namespace = '{namespace}' AND id = 'old'"
    )

    assert [usage.quantity for usage in before] == [D(10)]
    assert await quantities.count(question, watermark) == before


async def test_late_events_are_found_with_their_times_also_those_of_a_clock_that_is_behind(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    await event_store.accept([event(namespace, 1, 10, "a"), event(namespace, 2, 10, "b")])
    quantities = UsageQuantities(clickhouse)
    watermark = await quantities.watermark()
    after = watermark + timedelta(minutes=61)  # beyond how far is looked back
    await clickhouse.command(
        "INSERT INTO events SELECT * REPLACE (now64(3) + 400 AS stored_at, 'late' AS id) "
        f"FROM events WHERE namespace = '{namespace}' AND subject = 'b'"
    )
    slots = [(("a", NOVEMBER),), (("b", NOVEMBER),), (("b", Period(HALF.to, NOVEMBER.to)),), ()]

    late = await quantities.late(namespace, slots, [after] * 4, watermark + timedelta(minutes=10))

    day = BEGIN.replace(day=3)
    assert late == {1: Period(day, day)}
    assert await quantities.late(namespace, slots, [watermark] * 4, watermark) != {}
