"""What meters answer, held to a plain sum over the set of events, written for the test."""

import itertools
import json
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tallyman.domain.event import parse_event
from tallyman.domain.meter import (
    Aggregation,
    DimensionFilter,
    Granularity,
    Meter,
    MeterQuery,
    MeterRow,
)
from tallyman.domain.period import zone_names
from tallyman.errors import InvalidQuery
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.events import EventStore, Received

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Sent:
    """An event, with what its value and its dimension are to a meter."""

    id: str
    subject: str
    time: datetime
    literal: str | None
    number: Decimal | None
    text: str
    model_literal: str
    model: str

    def received(self, namespace: str, at: datetime) -> Received:
        value = "" if self.literal is None else f'"tokens": {self.literal}, '
        inner = f'{value}"model": {self.model_literal}'
        body = (
            f'{{"id": "{self.id}", "source": "kong", "type": "llm.tokens", '
            f'"subject": "{self.subject}", "time": "{self.time.isoformat()}", '
            f'"data": {{{inner}, "copy": {{{inner}}}}}}}'
        )
        return Received(namespace, parse_event(body.encode()), at)


def string(text: str) -> str:
    return json.dumps(text)


NUMBERS: tuple[tuple[str, str], ...] = (
    ("0", "0"),
    ("23", "23"),
    ("-7", "-7"),
    ("18446744073709551615", "18446744073709551615"),
    ("-9223372036854775808", "-9223372036854775808"),
    ("0.1", "0.1"),
    ("1e-7", "0.0000001"),
    ("1.50", "1.5"),
    ("2e3", "2000"),
    (string("0.10"), "0.10"),
    (string("12345678901234567890.12"), "12345678901234567890.12"),
    (string("0.1234567890123456789"), "0.123456789012345678"),
    (string("-1e-19"), "0"),
    (string("+5"), "5"),
    (string("007"), "7"),
    (string("9" * 39), "9" * 39),
)
NO_NUMBERS = ("true", string("abc"), string(" 1"), string("NaN"), string("1e99"), string("0x1F"))
NO_TEXTS = ("null", "[1]", '{"a": 1}', string(""), None)
MODELS = (
    (string("gpt-4o"), "gpt-4o"),
    (string('it\'s "é"\n\\'), 'it\'s "é"\n\\'),
    (string("[x"), "[x"),
    (string("null"), "null"),
    ("200", "200"),
    ("0.5", "0.5"),
    ("true", "true"),
    ("null", ""),
    ("[1]", ""),
    ('{"a": 1}', ""),
)


def text_of(literal: str) -> str:
    return {"1e-7": "1e-7", "1.50": "1.5", "2e3": "2000"}.get(literal) or (
        json.loads(literal) if literal[0] == '"' else literal
    )


VALUES = st.one_of(
    st.sampled_from([(lit, Decimal(number), text_of(lit)) for lit, number in NUMBERS]),
    st.sampled_from([(lit, None, text_of(lit)) for lit in NO_NUMBERS]),
    st.sampled_from([(lit, None, "") for lit in NO_TEXTS]),
    st.integers(-(10**12), 10**12).map(lambda n: (str(n), Decimal(n), str(n))),
    st.decimals(-(10**9), 10**9, places=6).map(lambda n: (string(f"{n:f}"), n, f"{n:f}")),
)
# Where clocks change: Berlin, Lord Howe (by half an hour) and Havana (at midnight), and new year.
CHANGES = {
    datetime(2026, 10, 25, 1, tzinfo=UTC): "Europe/Berlin",
    datetime(2026, 3, 29, 1, tzinfo=UTC): "Europe/Berlin",
    datetime(2026, 4, 4, 15, tzinfo=UTC): "Australia/Lord_Howe",
    datetime(2026, 10, 3, 15, 30, tzinfo=UTC): "Australia/Lord_Howe",
    datetime(2026, 3, 8, 5, tzinfo=UTC): "America/Havana",
    datetime(2026, 11, 1, 5, tzinfo=UTC): "America/Havana",
    datetime(2026, 12, 31, 18, 15, tzinfo=UTC): "Asia/Kathmandu",
    datetime(2027, 1, 1, tzinfo=UTC): "UTC",
}
SECONDS = st.sampled_from([-86400, -3600, -1800, -1, 0, 1, 1799, 1800, 3599, 86400]) | st.integers(
    -200_000, 200_000
)
PERIODS = st.sampled_from([None, *Granularity])


@dataclass(frozen=True)
class Example:
    """Each event once or more, in any order, cut into any batches; and what is asked."""

    batches: list[list[Sent]]
    questions: list[tuple[MeterQuery, Aggregation]]


@st.composite
def examples(draw: st.DrawFn) -> Example:
    change = draw(st.sampled_from(list(CHANGES)))
    parts = st.tuples(st.sampled_from(["acme", "globex"]), SECONDS, VALUES, st.sampled_from(MODELS))
    events = [
        Sent(f"e{at}", subject, change + timedelta(seconds=seconds), literal, number, text, *model)
        for at, (subject, seconds, (literal, number, text), model) in enumerate(
            draw(st.lists(parts, min_size=1, max_size=12))
        )
    ]
    again = draw(st.lists(st.sampled_from(events), max_size=8))
    order = draw(st.permutations([*events, *again]))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=4)))
    queries = st.builds(
        MeterQuery,
        from_=st.sampled_from([None, None, change]),
        to=st.sampled_from([None, None, change + timedelta(hours=1)]),
        granularity=PERIODS,
        time_zone=st.sampled_from([CHANGES[change], CHANGES[change], *CHANGES.values()]),
        group_by=st.sampled_from([(), (), ("model",), ("subject",), ("model", "subject")]),
    )
    asked = st.tuples(queries, st.sampled_from(Aggregation))
    return Example(
        [list(order[a:b]) for a, b in itertools.pairwise([0, *cuts, len(order)])],
        draw(st.lists(asked, min_size=6, max_size=6)),
    )


def meter(namespace: str, aggregation: Aggregation, prefix: str = "$") -> Meter:
    return Meter(
        id="m",
        namespace=namespace,
        key="m",
        name="m",
        aggregation=aggregation,
        event_type="llm.tokens",
        value_property=f"{prefix}.tokens",
        dimensions={"model": f"{prefix}.model"},
        created_at=NOW,
        updated_at=NOW,
    )


@cache
def window(time: datetime, granularity: Granularity, zone: str) -> tuple[datetime, datetime]:
    """Walk away from the event by the clock on the wall until the window is another."""

    def same(moment: datetime) -> Any:
        local = moment.astimezone(ZoneInfo(zone))
        return {
            Granularity.MINUTE: moment,
            Granularity.HOUR: (local.date(), local.hour, local.utcoffset()),
            Granularity.DAY: local.date(),
            Granularity.MONTH: (local.year, local.month),
        }[granularity]

    step = timedelta(minutes=1 if granularity is Granularity.MINUTE else 15)
    start = time - (time - datetime(1970, 1, 1, tzinfo=UTC)) % step
    end = start + step
    while same(start - step) == same(time):
        start -= step
    while same(end) == same(time):
        end += step
    return start, end


def expected(
    aggregation: Aggregation, query: MeterQuery, arrived: Sequence[tuple[Sent, datetime]]
) -> list[MeterRow]:
    groups: dict[Any, list[tuple[Sent, datetime]]] = {}
    for event, at in arrived:
        if (query.from_ and event.time < query.from_) or (query.to and event.time >= query.to):
            continue
        names = {"model": event.model, "subject": event.subject}
        period = query.granularity and window(event.time, query.granularity, query.time_zone)
        groups.setdefault((period, *(names[name] for name in query.group_by)), []).append(
            (event, at)
        )
    rows = []
    for (period, *names_of), members in groups.items():
        value = aggregate(aggregation, members)
        if value is None:
            continue
        times = sorted(event.time.replace(second=0, microsecond=0) for event, _ in members)
        from_, to = period or (
            query.from_ or times[0],
            query.to or times[-1] + timedelta(minutes=1),
        )
        rows.append(MeterRow(value, from_, to, dict(zip(query.group_by, names_of, strict=True))))
    return rows


def aggregate(aggregation: Aggregation, members: Iterable[tuple[Sent, datetime]]) -> Decimal | None:
    members = list(members)
    numbers = [event.number for event, _ in members if event.number is not None]
    texts = {event.text for event, _ in members if event.text}
    exact = Context(prec=200)
    total = Decimal(0)
    for number in numbers:
        total = exact.add(total, number)
    match aggregation:
        case Aggregation.COUNT:
            return Decimal(len(members))
        case Aggregation.UNIQUE_COUNT:
            return Decimal(len(texts)) if texts else None
    if not numbers:
        return None
    match aggregation:
        case Aggregation.SUM:
            return total
        case Aggregation.AVG:
            mean = exact.divide(total, Decimal(len(numbers)))
            return mean.quantize(Decimal(10) ** -18, ROUND_HALF_EVEN, exact)
        case Aggregation.MIN:
            return min(numbers)
        case Aggregation.MAX:
            return max(numbers)
    latest = max(
        (event.time, at, event.id, event) for event, at in members if event.number is not None
    )
    return latest[3].number


def in_order(rows: Iterable[MeterRow]) -> list[MeterRow]:
    return sorted(rows, key=lambda row: (row.from_, row.to, sorted(row.dimensions.items())))


async def deliver(
    store: EventStore, namespace: str, batches: Sequence[Sequence[Sent]]
) -> list[tuple[Sent, datetime]]:
    """Accept the batches; each event with when it first came."""
    arrived: dict[str, tuple[Sent, datetime]] = {}
    for number, batch in enumerate(batches):
        at = NOW + timedelta(seconds=number)
        await store.accept([event.received(namespace, at) for event in batch])
        for event in batch:
            arrived.setdefault(event.id, (event, at))
    return list(arrived.values())


@settings(
    max_examples=min(settings().max_examples // 2, 200),  # one costs some sixty statements
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(examples())
async def test_any_order_duplication_and_cut_into_batches_gives_the_sum_over_the_set_of_events(
    event_store: EventStore, example: Example
) -> None:
    namespace = uuid.uuid4().hex
    arrived = await deliver(event_store, namespace, example.batches)

    for query, aggregation in example.questions:
        answer = await event_store.query(meter(namespace, aggregation), query)
        from_json = await event_store.query(meter(namespace, aggregation, "$.copy"), query)

        assert in_order(answer) == in_order(expected(aggregation, query, arrived))
        assert from_json == answer


@pytest.mark.parametrize(
    ("data", "value"),
    [
        pytest.param('{"n":5}', 5, id="alone"),
        pytest.param('{ "n" : 5 }', 5, id="with spaces"),
        pytest.param('{"n":-5,"m":1}', -5, id="before another"),
        pytest.param('{"m":{"n":7},"n":5}', 5, id="after the same name in an inner object"),
        pytest.param('{"m":[{"n":7}],"n":5}', 5, id="after the same name in an inner array"),
        pytest.param('{"m":{"n":7}}', None, id="only in an inner object"),
        pytest.param('{"m":"n","mn":7}', None, id="another name that ends like it"),
        pytest.param('{"m":"\\"n\\":7","n":5}', 5, id="after a text that looks like it"),
        pytest.param('{"\\u006e":5}', 5, id="with an escaped name"),
        pytest.param('{"m\\"n":7}', None, id="another name that ends like it after a quote"),
        pytest.param('{"m":"{","n":5}', 5, id="after a text with a brace"),
        pytest.param('{"n":"5"}', 5, id="as a text"),
        pytest.param('{"n":"7","m":"\\""}', 7, id="as a text, before an escape"),
        pytest.param('{"n":1234567890123456789}', 1234567890123456789, id="of 19 digits"),
        pytest.param('{"n":2e3}', 2000, id="with an exponent"),
        pytest.param('{"n":-0}', 0, id="as minus nothing"),
        pytest.param('{"n":[5]}', None, id="as an array"),
        pytest.param('{"n":null}', None, id="as null"),
    ],
)
async def test_a_number_is_read_out_of_data_however_it_is_written(
    event_store: EventStore, namespace: str, data: str, value: int | None
) -> None:
    body = {"id": "1", "source": "s", "type": "llm.tokens", "subject": "acme"}
    event = json.dumps(body)[:-1] + f', "data": {data}}}'
    await event_store.accept([Received(namespace, parse_event(event.encode()), NOW)])

    asked = replace(meter(namespace, Aggregation.SUM), value_property="$.n")
    rows = await event_store.query(asked, MeterQuery())

    assert [row.value for row in rows] == ([] if value is None else [Decimal(value)])


@pytest.mark.parametrize("granularity", Granularity)
@pytest.mark.parametrize("change", CHANGES)
async def test_windows_come_in_the_order_of_time_also_where_a_clock_is_set_back(
    event_store: EventStore, namespace: str, change: datetime, granularity: Granularity
) -> None:
    value, model = ("1", Decimal(1), "1"), (string("a"), "a")
    sent = [
        Sent(f"e{at}", "acme", change + timedelta(minutes=20 * at), *value, *model)
        for at in range(-9, 9)
    ]
    await deliver(event_store, namespace, [sent])
    query = MeterQuery(granularity=granularity, time_zone=CHANGES[change])
    rows = await event_store.query(meter(namespace, Aggregation.SUM), query)

    assert rows == sorted(rows, key=lambda row: row.from_)


async def test_every_time_zone_that_is_taken_is_known_to_the_store(clickhouse: ClickHouse) -> None:
    rows = await clickhouse.rows("SELECT time_zone FROM system.time_zones")

    assert zone_names() <= {name for (name,) in rows}


SOLD = (
    ("1", "acme", "gpt-4o", 10),
    ("2", "acme", "GPT-4o-mini", 20),
    ("3", "globex", "claude", 40),
    ("4", "globex", "", 80),
)


@pytest.fixture
async def sold(event_store: EventStore, namespace: str) -> Meter:
    time = datetime(2026, 11, 21, 9, 24, 33, tzinfo=UTC)
    sent = [
        Sent(id_, subject, time, str(n), Decimal(n), str(n), string(model), model)
        for id_, subject, model, n in SOLD
    ]
    await deliver(event_store, namespace, [sent])
    return meter(namespace, Aggregation.SUM)


def one(operator: str, *values: str, dimension: str = "model") -> DimensionFilter:
    return DimensionFilter(dimension, operator, values)


def nested(operator: str, *filters: DimensionFilter) -> DimensionFilter:
    return DimensionFilter("model", operator, nested=filters)


@pytest.mark.parametrize("prefix", ["$", "$.copy"])
@pytest.mark.parametrize(
    ("asked", "value"),
    [
        (one("eq", "gpt-4o"), 10),
        (one("eq", ""), 80),
        (one("neq", "gpt-4o"), 140),
        (one("in", "gpt-4o", "claude"), 50),
        (one("nin", "gpt-4o", "claude"), 100),
        (one("contains", "gpt"), 30),
        (one("contains", "%"), 0),
        (one("ncontains", "gpt"), 120),
        (one("exists", "true"), 70),
        (one("exists", "false"), 80),
        (nested("or", one("eq", "claude"), one("contains", "MINI")), 60),
        (nested("and", one("contains", "gpt"), one("neq", "gpt-4o")), 20),
        (nested("and", nested("or", one("eq", "claude"), one("eq", "")), one("neq", "")), 40),
        (one("eq", "') OR 1 = 1 --"), 0),
        (one("in", "\\'", "{type:String}"), 0),
    ],
)
async def test_a_filter_keeps_what_it_says(
    event_store: EventStore, sold: Meter, prefix: str, asked: DimensionFilter, value: int
) -> None:
    asked_meter = replace(
        sold,
        **{
            name: getattr(meter("", Aggregation.SUM, prefix), name)
            for name in ("value_property", "dimensions")
        },
    )
    rows = await event_store.query(asked_meter, MeterQuery(filters=(asked,)))

    assert [int(row.value) for row in rows] == ([value] if value else [])


async def test_filtering_by_subject_splits_by_it(event_store: EventStore, sold: Meter) -> None:
    asked = one("in", "acme", "globex", dimension="subject")
    rows = await event_store.query(sold, MeterQuery(filters=(asked,)))

    assert {row.dimensions["subject"]: int(row.value) for row in rows} == {
        "acme": 30,
        "globex": 120,
    }


async def test_several_filters_must_all_hold(event_store: EventStore, sold: Meter) -> None:
    query = MeterQuery(filters=(one("eq", "acme", dimension="subject"), one("contains", "mini")))

    assert [int(row.value) for row in await event_store.query(sold, query)] == [20]


async def test_a_meter_counts_only_its_namespace_its_type_and_from_when_it_says(
    event_store: EventStore, sold: Meter
) -> None:
    for changed in (
        replace(sold, namespace="another"),
        replace(sold, event_type="another"),
        replace(sold, events_from=datetime(2026, 11, 21, 9, 24, 33, 1, tzinfo=UTC)),
    ):
        assert await event_store.query(changed, MeterQuery()) == []

    from_then = replace(sold, events_from=datetime(2026, 11, 21, 9, 24, 33, tzinfo=UTC))
    assert len(await event_store.query(from_then, MeterQuery())) == 1


async def test_only_keeps_the_events_of_one_value(event_store: EventStore, sold: Meter) -> None:
    rows = await event_store.query(replace(sold, only=("model", "claude")), MeterQuery())

    assert [int(row.value) for row in rows] == [40]


@pytest.mark.parametrize(
    "path",
    [
        "$['); DROP TABLE events; --']",
        '$["x"]',
        "$['a`b{type:String}%s']",
        "$['\\']",
        "$.a[0][1].b",
        "$['é€😀']",
    ],
)
async def test_a_hostile_path_or_dimension_name_is_text_and_nothing_else(
    event_store: EventStore, sold: Meter, path: str
) -> None:
    names = ("x' OR 1=1 --", "{d:String}", "w", "d0", "namespace", "time")
    asked = replace(sold, dimensions=dict.fromkeys(names, path))
    if not re.fullmatch(r"\$(\.\w+|\[\d+\]|\['[^'\\]+'\])+", path):
        with pytest.raises(Exception, match="JSONPath"):
            await event_store.query(asked, MeterQuery(group_by=names))
        return
    rows = await event_store.query(asked, MeterQuery(group_by=names))

    assert [(int(row.value), row.dimensions) for row in rows] == [(150, dict.fromkeys(names, ""))]


async def test_an_index_finds_the_member_of_an_array_and_never_of_an_object(
    event_store: EventStore, namespace: str
) -> None:
    data = {"list": [{"a": "x"}, "y"], "object": {"0": "z", "b": "w"}, "it's": "quoted"}
    body = {"id": "1", "source": "s", "type": "llm.tokens", "subject": "acme", "data": data}
    await event_store.accept([Received(namespace, parse_event(json.dumps(body).encode()), NOW)])
    paths = {
        "$.list[0].a": "x",
        "$.list[1]": "y",
        "$.list[2]": "",
        "$.object[0]": "",
        "$.object['0']": "z",
        "$.object.b": "w",
        "$[0]": "",
        "$.list.a": "",
    }
    asked = replace(
        meter(namespace, Aggregation.COUNT), dimensions=dict(zip("abcdefgh", paths, strict=True))
    )

    [row] = await event_store.query(asked, MeterQuery(group_by=tuple("abcdefgh")))

    assert dict(zip(paths, row.dimensions.values(), strict=True)) == paths


async def test_a_query_that_cannot_be_answered_is_refused_before_it_runs(
    event_store: EventStore, sold: Meter
) -> None:
    with pytest.raises(InvalidQuery) as caught:
        await event_store.query(sold, MeterQuery(group_by=("customer",)))

    assert caught.value.code == "invalid_group_by"
