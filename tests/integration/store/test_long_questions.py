"""Questions with more in them than a server takes in a field: it takes 128 KiB there, and a long query."""

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tallyman.domain.customer import SubjectSpan
from tallyman.domain.event import CloudEvent
from tallyman.domain.meter import MeterQuery
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.completeness import Completeness
from tallyman.store.events import EventStore, Received

from tests.rigs.meters import tokens_meter

AT = datetime(2026, 11, 1, tzinfo=UTC)
EVENTS = 6_000  # whose ids are 192 kB in a query
AWKWARD = st.text(st.sampled_from("'\\\"{}:[],%\0\n\t$ aé😀"), max_size=12)


def sent(number: int, subject: str | None = None) -> CloudEvent:
    return CloudEvent(
        f"e{number}",
        "kong",
        "llm.tokens",
        f"consumer-{number}" if subject is None else subject,
        time=AT,
        data=msgspec.Raw(b'{"tokens":1}'),
    )


async def test_thousands_of_events_are_known_when_they_come_again(
    event_store: EventStore, namespace: str
) -> None:
    batch = [Received(namespace, sent(number), AT) for number in range(EVENTS)]

    first = await event_store.accept(batch)
    again = await event_store.accept(batch)

    assert (first.new, again.new, again.known) == (EVENTS, 0, EVENTS)


async def test_usage_is_split_by_ten_thousand_customers(
    event_store: EventStore, namespace: str
) -> None:
    await event_store.accept([Received(namespace, sent(number), AT) for number in range(10)])
    names = tuple(f"consumer-{number}" for number in range(5, 10_005))
    owners = [
        (f"customer-{name}", SubjectSpan(name, None, AT + timedelta(days=number % 2)))
        for number, name in enumerate(names)
    ]

    split = await event_store.query(
        tokens_meter(namespace), MeterQuery(group_by=("customer_id",)), owners
    )

    assert {row.dimensions["customer_id"]: row.value for row in split} == {
        "": 8, "customer-consumer-6": 1, "customer-consumer-8": 1,
    }  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(values=st.lists(AWKWARD, min_size=1, max_size=4), text=AWKWARD)
async def test_what_is_put_into_a_query_is_what_was_given(
    clickhouse: ClickHouse, values: list[str], text: str
) -> None:
    long = text + "{list:Array(String)}'" + "x" * 2_000

    rows = await clickhouse.rows(
        "SELECT {list:Array(String)}, {long:String}, {short:String}, '{list:Array(String)}\\'' ",
        {"list": values, "long": long, "short": "{long:String}"},
    )

    assert rows == [(values, long, "{long:String}", "{list:Array(String)}'")]


async def test_a_report_of_any_length_is_kept(clickhouse: ClickHouse) -> None:
    completeness = Completeness(clickhouse)
    report = "'%{\n" * 100_000

    await completeness.write_report(datetime.now(UTC) + timedelta(days=1), report)

    assert await completeness.last_report() == report


async def test_many_events_of_a_log_are_looked_for_at_once(
    clickhouse: ClickHouse, event_store: EventStore, namespace: str
) -> None:
    await event_store.accept([Received(namespace, sent(number), AT) for number in range(1_000)])

    found = await Completeness(clickhouse).stored(namespace, [sent(at) for at in range(1, 1_001)])

    assert found == [True] * 999 + [False]
