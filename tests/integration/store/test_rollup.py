"""Meters that take whole hours from the rollup, held to the same meters asked of the events alone."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tallyman.domain.event import CloudEvent
from tallyman.domain.event_change import ChangeKind, EventChange
from tallyman.domain.meter import (
    Aggregation,
    DimensionFilter,
    Granularity,
    Meter,
    MeterQuery,
    MeterRow,
)
from tallyman.domain.meter_query import check_query
from tallyman.store import meter_sql, rollup_sql
from tallyman.store.arrivals import Arrival
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.event_row import row
from tallyman.store.events import EventStore, Received
from tallyman.store.incoming import INSERT_SETTINGS
from tallyman.store.intake import FINAL_SETTINGS
from tallyman.store.rollup import Rollup

BEGIN = datetime(2026, 10, 31, 22, tzinfo=UTC)  # two hours before a month's end
HOUR = timedelta(hours=1)
SECONDS = st.sampled_from([0, 1, 1800, 3599, 3600, 5400, 7199, 7200, 7201, 10_800, 90_000])
TOKENS = ["5", "7", "-3", "0", "1.5", '"0.10"', '"12345678901234567890.12"', '"none"', "null", "{}"]
DATA = st.builds(
    lambda tokens, model, kind: f'{{"tokens":{tokens},"model":{model},"type":"{kind}","team":"a"}}',
    st.sampled_from(TOKENS),
    st.sampled_from(['"gpt-4o"', '"GPT-4o-mini"', '"claude"', "1", "null"]),
    st.sampled_from(["request", "response", ""]),
)
# The same id may come with another time, type, subject or data: what is seldom kept out is here never.
EVENTS = st.builds(
    lambda at, seconds, subject, kind, data: CloudEvent(
        id=f"e{at}",
        source="kong",
        type=kind,
        subject=subject,
        time=BEGIN + timedelta(seconds=seconds),
        data=msgspec.Raw(data.encode()),
    ),
    st.integers(0, 5),
    SECONDS,
    st.sampled_from(["acme", "globex"]),
    st.sampled_from(["llm.tokens", "llm.tokens", "llm.tokens", "other"]),
    DATA,
)


@dataclass(frozen=True)
class Change:
    """Of the event that was stored as this one, in the order of storing."""

    at: int
    after: CloudEvent | None


CHANGES = st.builds(Change, st.integers(0, 20), st.none() | EVENTS)
BATCHES = st.lists(EVENTS, min_size=1, max_size=4)
# What comes after a refresh; more often than not nothing is refreshed again before it is asked.
STEPS = st.lists(
    st.one_of(BATCHES, BATCHES, CHANGES, CHANGES, st.just("refresh")), min_size=1, max_size=3
)


def one(operator: str, *values: str, dimension: str = "model") -> DimensionFilter:
    return DimensionFilter(dimension, operator, values)


FILTERS = [
    (),
    (one("eq", "gpt-4o"),),
    (one("neq", "gpt-4o"), one("eq", "request", dimension="type")),
    (one("contains", "GPT"),),
    (one("exists", "false"),),
    (DimensionFilter("model", "or", nested=(one("eq", "1"), one("contains", "mini"))),),
    (one("eq", "acme", dimension="subject"),),
]
MOMENTS = st.none() | st.none() | SECONDS.map(lambda seconds: BEGIN + timedelta(seconds=seconds))
QUERIES = st.builds(
    MeterQuery,
    from_=MOMENTS,
    to=MOMENTS,
    granularity=st.sampled_from([None, *Granularity]),
    time_zone=st.sampled_from(["UTC", "UTC", "UTC", "Asia/Kathmandu"]),
    group_by=st.sampled_from([(), (), ("model",), ("model", "type"), ("provider", "team")]),
    filters=st.sampled_from(FILTERS),
)
METERS = st.sampled_from(
    [
        (Aggregation.SUM, None, None),
        (Aggregation.COUNT, None, None),
        (Aggregation.COUNT, ("type", "request"), None),
        (Aggregation.SUM, None, BEGIN + timedelta(minutes=90)),
    ]
)
ASKED = st.lists(st.tuples(METERS, QUERIES), min_size=3, max_size=3)


def meter(
    namespace: str,
    aggregation: Aggregation = Aggregation.SUM,
    only: tuple[str, str] | None = None,
    events_from: datetime | None = None,
) -> Meter:
    names = ("model", "type", "provider", "team")
    return Meter(
        id="m",
        namespace=namespace,
        key="m",
        name="m",
        aggregation=aggregation,
        event_type="llm.tokens",
        value_property=None if aggregation is Aggregation.COUNT else "$.tokens",
        dimensions={name: f"$.{name}" for name in names},
        created_at=BEGIN,
        updated_at=BEGIN,
        only=only,
        events_from=events_from,
    )


async def of_the_events(
    clickhouse: ClickHouse, asked: Meter, query: MeterQuery
) -> Sequence[MeterRow]:
    query = check_query(asked, query)
    sql, parameters = meter_sql.render(asked, query)
    return meter_sql.read_rows(asked, query, await clickhouse.rows(sql, parameters, FINAL_SETTINGS))


async def store(clickhouse: ClickHouse, namespace: str, events: Sequence[CloudEvent]) -> None:
    """Past what is known: an event that comes twice is there twice."""
    rows = [row(Received(namespace, event, BEGIN), Arrival("", 0)) for event in events]
    await clickhouse.insert("incoming", b"\n".join(rows), "JSONEachRow", INSERT_SETTINGS)


async def change(
    event_store: EventStore, namespace: str, stored: list[CloudEvent], number: int, change: Change
) -> None:
    if not stored:
        return
    before = stored[change.at % len(stored)]
    after = change.after and msgspec.structs.replace(
        before, subject=change.after.subject, data=change.after.data
    )
    await event_store.store_change(
        EventChange(
            id=str(number),
            namespace=namespace,
            revision=number,
            kind=ChangeKind.VOIDED if after is None else ChangeKind.AMENDED,
            actor="a",
            reason="r",
            created_at=BEGIN,
            ingested_at=BEGIN,
            before=before,
            after=after,
        )
    )


@settings(
    max_examples=settings().max_examples // 6,  # a step costs a dozen statements
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(EVENTS, min_size=1, max_size=6), st.lists(STEPS, min_size=1, max_size=2), ASKED)
async def test_with_the_rollup_a_meter_answers_as_without_it(
    clickhouse: ClickHouse,
    event_store: EventStore,
    first: list[CloudEvent],
    parts: list[list[Any]],
    asked: list[tuple[Any, MeterQuery]],
) -> None:
    namespace = uuid.uuid4().hex
    stored: list[CloudEvent] = []
    revision = 0
    for steps in [[first, "refresh"], *parts]:
        for step in steps:
            if step == "refresh":
                await Rollup(clickhouse).refresh()
            elif isinstance(step, Change):
                revision += 1
                await change(event_store, namespace, stored, revision, step)
            else:
                await store(clickhouse, namespace, step)
                stored += step
        for of, query in asked:
            answer = await event_store.query(meter(namespace, *of), query)

            assert answer == await of_the_events(clickhouse, meter(namespace, *of), query)


def sent(number: int, at: datetime = BEGIN, tokens: int = 1) -> CloudEvent:
    data = f'{{"tokens":{tokens},"model":"m","type":"request"}}'
    return CloudEvent(
        id=str(number),
        source="kong",
        type="llm.tokens",
        subject="acme",
        time=at,
        data=msgspec.Raw(data.encode()),
    )


async def total(event_store: EventStore, namespace: str, query: MeterQuery = MeterQuery()) -> int:  # noqa: B008 – frozen
    rows = await event_store.query(meter(namespace), query)
    return sum(int(row.value) for row in rows)


async def spoil(clickhouse: ClickHouse, namespace: str, tokens: int, hours: str = "1") -> None:
    """Let the rollup say something else of its hours, behind everybody's back."""
    await clickhouse.command(
        "INSERT INTO rollup (namespace, type, hour, as_of, model, provider, token_type, events, "
        "valued, tokens, first_minute, last_minute) SELECT namespace, type, hour, as_of, ['m'], [''], "
        f"['request'], [1], [1], [toDecimal256({tokens}, 18)], [0], [0] FROM rollup FINAL "
        f"WHERE namespace = '{namespace}' AND {hours}"
    )


async def test_an_hour_is_taken_from_the_rollup_until_something_is_stored_in_it(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    await store(clickhouse, namespace, [sent(1), sent(2, BEGIN + HOUR)])
    await Rollup(clickhouse).refresh()
    await spoil(clickhouse, namespace, 100)

    assert await total(event_store, namespace) == 200
    assert (
        await total(event_store, namespace, MeterQuery(from_=BEGIN + timedelta(minutes=1))) == 100
    )

    await store(clickhouse, namespace, [sent(3, BEGIN + HOUR)])

    assert await total(event_store, namespace) == 102


async def test_an_hour_in_which_nothing_counts_any_more_is_empty(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    await store(clickhouse, namespace, [sent(1)])
    await Rollup(clickhouse).refresh()
    await change(event_store, namespace, [sent(1)], 1, Change(0, None))
    await Rollup(clickhouse).refresh()

    assert await Rollup(clickhouse).changed(namespace, "llm.tokens") == set()
    assert await event_store.query(meter(namespace), MeterQuery()) == []


async def test_a_change_is_seen_in_every_hour_that_the_id_was_stored_in(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    """The same id at two times is a conflict that is kept out, but for two processes at once."""
    await store(clickhouse, namespace, [sent(1), sent(1, BEGIN + HOUR), sent(2, BEGIN + HOUR)])
    await Rollup(clickhouse).refresh()
    await change(event_store, namespace, [sent(1)], 1, Change(0, None))

    assert await total(event_store, namespace) == 1

    await Rollup(clickhouse).refresh()

    assert await Rollup(clickhouse).changed(namespace, "llm.tokens") == set()
    assert await total(event_store, namespace) == 1


async def test_a_change_counts_at_every_time_that_the_id_was_stored_at_whatever_is_asked(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    other = msgspec.structs.replace(sent(1, BEGIN + HOUR), subject="globex")
    await store(clickhouse, namespace, [sent(1), sent(1, BEGIN + HOUR), other])
    await change(event_store, namespace, [other], 1, Change(0, None))

    asked = [
        MeterQuery(BEGIN, BEGIN + timedelta(minutes=1)),
        MeterQuery(BEGIN, BEGIN + HOUR),
        MeterQuery(filters=(one("eq", "acme", dimension="subject"),)),
    ]
    answers = [await event_store.query(meter(namespace), query) for query in asked]

    assert answers == [[], [], []]


@pytest.mark.parametrize("again", ["the change is stored again", "a process starts"])
async def test_a_change_that_is_not_known_of_its_namespace_yet_counts_not_at_all_and_later_once(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str, again: str
) -> None:
    """As where its insert was cut off between its two tables, or one is of an older backup."""
    changed = Change(0, msgspec.structs.replace(sent(1, tokens=5), subject="globex"))
    await store(clickhouse, namespace, [sent(1), sent(2)])
    await change(event_store, namespace, [sent(1)], 1, changed)
    await clickhouse.command(f"DELETE FROM changed_namespaces WHERE namespace = '{namespace}'")

    async def each() -> list[int]:
        filters = [(one("eq", name, dimension="subject"),) for name in ("acme", "globex")]
        return [await total(event_store, namespace, MeterQuery(filters=by)) for by in filters]

    before = await each()
    if again == "a process starts":
        await EventStore(clickhouse).migrate()
    else:
        await change(event_store, namespace, [sent(1)], 1, changed)

    assert (before, await each()) == ([2, 0], [1, 5])


async def test_hours_that_were_written_without_their_watermark_change_nothing(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    rollup = Rollup(clickhouse)
    await store(clickhouse, namespace, [sent(1)])
    await rollup.refresh()
    await store(clickhouse, namespace, [sent(2)])
    hour = rollup_sql.HourOf(namespace, "llm.tokens", int(BEGIN.timestamp()) // 3600)
    await rollup.write([hour], datetime.now(UTC))

    assert await total(event_store, namespace) == 2
    assert await rollup.changed(namespace, "llm.tokens") == {hour.hour}

    await rollup.refresh()

    assert await total(event_store, namespace) == 2


async def test_what_is_acknowledged_counts_once_while_the_rollup_is_refreshed(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    """Several refresh at once, and some are behind."""
    begun = done = 0
    answers = []

    async def storing() -> None:
        nonlocal begun, done
        for batch in range(20):
            begun += 5
            at = BEGIN + batch % 7 * HOUR
            await store(clickhouse, namespace, [sent(batch * 5 + one, at) for one in range(5)])
            done += 5

    async def refreshing(settle_seconds: float) -> None:
        while done < 100:
            await Rollup(clickhouse, settle_seconds).refresh()

    async def asking() -> None:
        while done < 100:
            least = done
            answer = await total(event_store, namespace)
            answers.append((least, answer, begun))

    await asyncio.gather(storing(), refreshing(0), refreshing(0), refreshing(0.05), asking())

    assert all(least <= answer <= most for least, answer, most in answers), answers
    await Rollup(clickhouse).refresh()
    assert await total(event_store, namespace) == 100


async def test_after_the_clock_was_set_back_meters_do_without_until_all_is_computed_anew(
    empty: ClickHouse,
) -> None:
    event_store, rollup = EventStore(empty), Rollup(empty)
    await event_store.migrate()
    await store(empty, "n", [sent(1)])
    await rollup.refresh()
    await spoil(empty, "n", 100)
    ahead = "INSERT INTO rollup (hour, as_of) SELECT 0, now64(3) + INTERVAL 3 SECOND"
    await empty.command(ahead)

    assert await total(event_store, "n") == 1
    assert await rollup.refresh() is None
    await store(empty, "n", [sent(2)])
    while await rollup.refresh() is None:
        assert await total(event_store, "n") == 2
    assert await total(event_store, "n") == 2
    assert await rollup.changed("n", "llm.tokens") == set()


async def test_that_the_clock_was_set_back_is_seen_also_when_it_is_later_again(
    empty: ClickHouse,
) -> None:
    """Something was stored meanwhile, and seems to be older than what the rollup has."""
    passed = 0.0
    event_store, rollup = EventStore(empty), Rollup(empty, monotonic=lambda: passed)
    await event_store.migrate()
    await store(empty, "n", [sent(1)])
    await rollup.refresh()
    older = "'2' AS id, stored_at - INTERVAL 5 SECOND AS stored_at"
    await empty.command(f"INSERT INTO events SELECT * REPLACE ({older}) FROM events")
    assert await total(event_store, "n") == 1

    passed = 40.0

    assert await rollup.refresh() is None
    assert await total(event_store, "n") == 2
    while await rollup.refresh() is None:
        assert await total(event_store, "n") == 2
    assert await total(event_store, "n") == 2
    assert await rollup.changed("n", "llm.tokens") == set()


def hours_of(namespace: str, found: Sequence[rollup_sql.HourOf]) -> list[int]:
    """Of one namespace, in hours since the beginning."""
    begin = int(BEGIN.timestamp()) // 3600
    return [one.hour - begin for one in found if one.namespace == namespace]


async def test_hours_that_say_something_else_than_the_events_are_found_and_put_right(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    """Each way in which they can: another sum, an hour that is gone, one that never was; and older ones in
    which something was stored since, or was not."""
    rollup, begin = Rollup(clickhouse), int(BEGIN.timestamp()) // 3600
    await store(clickhouse, namespace, [sent(at, BEGIN + at * HOUR, at) for at in (1, 2, 3, 4)])
    await rollup.refresh()
    await spoil(clickhouse, namespace, 1000, f"hour IN ({begin + 1}, {begin + 2})")
    await clickhouse.command(
        f"DELETE FROM rollup WHERE namespace = '{namespace}' AND hour = {begin + 3}"
    )
    await clickhouse.command(
        f"INSERT INTO rollup SELECT * REPLACE (toUInt32({begin + 14}) AS hour) FROM rollup FINAL "
        f"WHERE namespace = '{namespace}' AND tokens = [4]"
    )
    long_ago = (
        f"INSERT INTO events SELECT * REPLACE (time - INTERVAL 1 HOUR AS time, toDateTime64({{}}, 3) AS stored_at) "
        f"FROM events WHERE namespace = '{namespace}' AND tokens = 1"
    )
    await clickhouse.command(long_ago.format("'2026-01-01 00:00:00'"))
    assert await total(event_store, namespace) == 1000 + 1000 + 4 + 4

    since = BEGIN + 2 * HOUR + timedelta(minutes=5)
    found = await rollup.mend(since)

    assert hours_of(namespace, found) == [1, 2, 3, 14]
    assert await total(event_store, namespace) == 1 + 2 + 3 + 4
    assert hours_of(namespace, await rollup.mend(BEGIN - HOUR)) == [0]
    assert await total(event_store, namespace) == 1 + 1 + 2 + 3 + 4
    assert await rollup.changed(namespace, "llm.tokens") == set()
    assert hours_of(namespace, await rollup.mend(BEGIN)) == []


async def test_what_comes_while_it_is_compared_is_not_taken_for_a_difference(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    done, found = 0, []

    async def storing() -> None:
        nonlocal done
        for number in range(30):
            event = sent(number, BEGIN + number % 3 * HOUR)
            await store(clickhouse, namespace, [event])
            if number % 4 == 3:
                await change(event_store, namespace, [event], number, Change(0, None))
            done += 1

    async def comparing() -> None:
        while done < 30:
            found.extend(hours_of(namespace, await Rollup(clickhouse).mend(BEGIN)))

    await asyncio.gather(storing(), comparing(), comparing())

    assert found == []
    assert await total(event_store, namespace) == 30 - 7


@pytest.mark.parametrize(
    ("aggregation", "query", "answers"),
    [
        pytest.param(Aggregation.SUM, MeterQuery(), True, id="tokens"),
        pytest.param(Aggregation.COUNT, MeterQuery(), True, id="events"),
        pytest.param(Aggregation.MAX, MeterQuery(), False, id="the most tokens"),
        pytest.param(Aggregation.SUM, MeterQuery(group_by=("team",)), False, id="of the data"),
        pytest.param(Aggregation.SUM, MeterQuery(group_by=("subject",)), False, id="of subjects"),
        pytest.param(
            Aggregation.SUM,
            MeterQuery(granularity=Granularity.DAY, time_zone="Europe/Berlin"),
            False,
            id="days of a zone",
        ),
        pytest.param(
            Aggregation.SUM,
            MeterQuery(from_=BEGIN, to=BEGIN + timedelta(minutes=59)),
            False,
            id="less than an hour",
        ),
    ],
)
def test_the_rollup_answers_what_it_has(
    aggregation: Aggregation, query: MeterQuery, answers: bool
) -> None:
    assert rollup_sql.can_answer(meter("n", aggregation), query) is answers


def test_another_field_is_not_taken_for_tokens() -> None:
    asked = replace(meter("n"), value_property="$.waived_tokens")

    assert not rollup_sql.can_answer(asked, MeterQuery())
