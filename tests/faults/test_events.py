"""Events as no test of a single part sends them: each is stored once as it is, or set aside and said."""

import itertools
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tallyman.domain.meter import Granularity, MeterQuery
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.completeness import Completeness
from tallyman.store.events import Accepted, EventStore
from tallyman.store.lane_sql import DOORS
from tallyman.stream.batch import Batch, BatchLimits
from tallyman.stream.work import Work

from tests.faults.arrived import tokens_of
from tests.faults.conftest import IS_LONG
from tests.rigs.meters import tokens_meter
from tests.rigs.stream import usage

NOW = datetime(2026, 11, 19, 9, tzinfo=UTC)
LONG_AGO = datetime(1971, 1, 1, tzinfo=UTC)
MILLION = 1_000_000 if IS_LONG else 20_000


@dataclass
class Message:
    """A record of a topic."""

    value: bytes | None
    offset: int
    timestamp: int
    topic: str = "usage"
    partition: int = 0
    key: bytes | None = None
    headers: list[tuple[str, bytes]] = field(default_factory=list)


class Door:
    """The consumer's halves, the check and the store, with offsets that go on."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self.clickhouse = clickhouse
        self.store = EventStore(clickhouse)
        self.offset = 0
        self.dead: list[int] = []

    async def take(self, *values: bytes | None, at: datetime = NOW) -> Accepted:
        batch = Batch(0, BatchLimits())
        timestamp = int(at.timestamp() * 1000)
        batch.add([Message(one, self.offset + n, timestamp) for n, one in enumerate(values)])
        self.offset += len(values)
        work = Work.check(batch, "default")
        at_once = len(work.block)
        if at_once:
            others = await self.store.accept_block(work.block)
            at_once -= len(others)
            work.open_block(others)
        self.dead += [one.record.offset for one in work.rejected]
        accepted = await self.store.accept([received for _, received in work.events])
        return replace(accepted, new=accepted.new + at_once)

    async def tokens(self) -> int:
        return sum((await tokens_of(self.store)).values())

    async def unaccounted(self) -> list[int]:
        """The offsets that nothing became of."""
        _, holes = await Completeness(self.clickhouse).holes.since(DOORS, LONG_AGO)
        numbers = {n for hole in holes for n in range(hole.first, hole.last + 1)}
        return sorted(numbers - set(self.dead))


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    clickhouse = ClickHouse.embedded(str(tmp_path / "chdb"))
    made = Door(clickhouse)
    await made.store.migrate()
    yield made
    await clickhouse.close()


async def test_a_duplicate_counts_once_however_late_and_with_whatever_batch(door: Door) -> None:
    first = [usage(number, tokens=10) for number in range(50)]
    await door.take(*first, first[7], first[7])
    for later, others in ((1, 10), (24 * 30, 1), (24 * 365, 30)):
        at = NOW + timedelta(hours=later)
        new = [usage(later * 100 + number, tokens=1) for number in range(others)]
        accepted = await door.take(*new[: others // 2], *first[3:9], *new[others // 2 :], at=at)
        assert (accepted.new, accepted.known) == (others, 6)
    restarted = EventStore(door.clickhouse)
    door.store = restarted
    assert (await door.take(*first, at=NOW + timedelta(days=700))).new == 0

    assert await door.tokens() == 50 * 10 + 41
    assert await door.unaccounted() == []


async def test_the_same_id_with_another_content_is_kept_first_and_reported(door: Door) -> None:
    await door.take(usage(1, tokens=5))
    changes: list[dict[str, Any]] = [
        {"subject": "other"}, {"data": {"tokens": 500}}, {"type": "llm.other"}, {"dataschema": "x"},
    ]  # fmt: skip
    for change in changes:
        accepted = await door.take(usage(1, **{"tokens": 5, **change}))
        assert [conflict.id for conflict in accepted.conflicts] == [json.loads(usage(1))["id"]]

    assert await door.tokens() == 5
    assert await door.unaccounted() == []


ZONES = (
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Santiago",
)  # fmt: skip


def changes_of_clocks(zone: ZoneInfo) -> list[datetime]:
    """When in 2026 the offset is another than half an hour before, found by looking."""
    half = timedelta(minutes=30)
    moments = [datetime(2026, 1, 2, tzinfo=UTC) + half * n for n in range(363 * 48)]
    offsets = [at.astimezone(zone).utcoffset() for at in moments]
    pairs = zip(offsets, offsets[1:], moments[1:], strict=False)
    return [at for before, now, at in pairs if before != now]


def window_of(at: datetime, zone: ZoneInfo, granularity: Granularity) -> tuple[object, ...]:
    """What the clock on the wall says of it; an hour that comes twice is two."""
    local = at.astimezone(zone)
    match granularity:
        case Granularity.HOUR:
            return local.date(), local.hour, local.utcoffset()
        case Granularity.DAY:
            return (local.date(),)
        case _:
            return local.year, local.month


async def test_any_order_over_a_months_end_and_changes_of_clocks_sums_the_same(
    door: Door, seed: int
) -> None:
    """By the hour, the day and the month: clocks are set forth and back by an hour, or by half of one."""
    zones = [ZoneInfo(name) for name in ZONES]
    changes = [at for zone in zones for at in changes_of_clocks(zone)]
    assert len(changes) == 2 * len(ZONES)
    begins = [at - timedelta(hours=15) for at in changes] + [
        datetime(2026, 1, 31, tzinfo=UTC), datetime(2028, 2, 28, 10, tzinfo=UTC),
    ]  # fmt: skip
    moments = sorted({begin + timedelta(minutes=10 * n) for begin in begins for n in range(240)})
    events = [usage(n, tokens=n + 1, time=at.isoformat()) for n, at in enumerate(moments)]
    random.Random(seed).shuffle(events)
    for cut in range(0, len(events), 170):
        await door.take(*events[cut : cut + 170])
    asked = itertools.product(
        [ZoneInfo("UTC"), *zones], (Granularity.HOUR, Granularity.DAY, Granularity.MONTH)
    )

    for zone, granularity in asked:
        expected: Counter[tuple[object, ...]] = Counter()
        for number, at in enumerate(moments):
            expected[window_of(at, zone, granularity)] += number + 1
        query = MeterQuery(granularity=granularity, time_zone=zone.key)
        rows = await door.store.query(tokens_meter(), query)
        found = [(window_of(row.from_, zone, granularity), int(row.value)) for row in rows]
        where = f"{zone} {granularity}"
        assert len(found) == len(expected), where
        assert dict(found) == expected, where
        for row in rows:
            assert row.from_ < row.to, where
            last = row.to - timedelta(microseconds=1)
            assert window_of(last, zone, granularity) == window_of(row.from_, zone, granularity)
            assert window_of(row.to, zone, granularity) != window_of(row.from_, zone, granularity)


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        pytest.param("0", 0, id="0"),
        pytest.param("-7", -7, id="negative, which only the plugin refuses"),
        pytest.param("NaN", None, id="NaN is no JSON"),
        pytest.param("1e308", 0, id="1e308 is stored, and beyond what counts"),
        pytest.param("9223372036854775808", 2**63, id="2^63"),
        pytest.param('"9223372036854775808"', 2**63, id="2^63 as a text is kept"),
        pytest.param('"12"', 12, id="a numeric text"),
        pytest.param("92233720368547758080", None, id="beyond 64 bits"),
        pytest.param("null", 0, id="null"),
        pytest.param("[1]", 0, id="an array"),
        pytest.param("true", 0, id="a boolean"),
        pytest.param("1.25", 1, id="a fraction"),
    ],
)
async def test_a_number_counts_as_it_is_or_not_at_all(
    door: Door, value: str, counts: int | None
) -> None:
    """In an event that is read at once, and in one that is not."""
    for number in (0, 1):
        event = usage(number).replace(b'"tokens":1', f'"tokens":{value}'.encode())
        await door.take(event, usage(number + 2, tokens=100))

    assert door.dead == ([0, 2] if counts is None else [])
    assert await door.tokens() == 2 * (100 + (counts or 0))
    assert await door.unaccounted() == []


@pytest.mark.parametrize(
    ("value", "is_dead"),
    [
        pytest.param(usage(1, time="1970-01-01T00:00:00Z"), False, id="1970"),
        pytest.param(usage(1, time="1969-12-31T23:59:59Z"), True, id="before 1970"),
        pytest.param(usage(1, time="2199-12-31T23:59:59.999999Z"), False, id="the future"),
        pytest.param(usage(1, time="2200-01-01T00:00:00Z"), True, id="beyond it"),
        pytest.param(usage(1, time="2026-02-30T00:00:00Z"), True, id="no such day"),
        pytest.param(usage(1).replace(b"kong", b"k\xffng"), True, id="broken UTF-8"),
        pytest.param(
            usage(1, tokens=10**30).replace(b"gpt-4o", b"\xff"), True, id="broken behind a number"
        ),
        pytest.param(usage(1).replace(b"gpt-4o", b"\xed\xa0\x80"), True, id="half a surrogate"),
        pytest.param(usage(1, padding="x" * 2**20), True, id="1 MB"),
        pytest.param(usage(1, data={"tokens": 1, "x": "y" * 60_000}), False, id="60 kB of data"),
        pytest.param(usage(1).replace(b'"openai"', b"[" * 100 + b"]" * 100), True, id="100 deep"),
        pytest.param(b"\0" * 1000, True, id="zeros"),
        pytest.param(usage(1, id="\u0000"), False, id="a zero for an id"),
        pytest.param(usage(1, subject="\U0001f600' OR 1=1 --\\"), False, id="a hostile subject"),
    ],
)
async def test_what_is_sent_is_stored_or_set_aside_and_its_neighbours_count(
    door: Door, value: bytes, is_dead: bool
) -> None:
    await door.take(usage(2, tokens=10), value, usage(3, tokens=100))
    again = await door.take(value)

    assert door.dead == ([1, 3] if is_dead else [])
    assert (again.new, again.known) == (0, 0 if is_dead else 1)
    assert await door.tokens() == (110 if is_dead else 111)
    assert await door.unaccounted() == []


@pytest.mark.parametrize("subjects", ["one", "as many"])
async def test_a_million_events_of_one_subject_or_of_a_million_are_summed_exactly(
    door: Door, subjects: str
) -> None:
    """A million in the long form."""
    for begin in range(0, MILLION, 20_000):
        numbers = range(begin, begin + 20_000)
        events = [
            usage(n, tokens=n, subject="one" if subjects == "one" else f"subject-{n}")
            for n in numbers
        ]
        await door.take(*events)

    assert await door.tokens() == sum(range(MILLION))
    assert await door.store.count("default") == MILLION
