"""`tallyman reconcile` as an operator runs it: what is missing is said, with its status and the way out."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tallyman import connections
from tallyman.config import Settings
from tallyman.domain.event import parse_event
from tallyman.domain.meter import MeterQuery
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database
from tallyman.store.events import EventStore, Received
from tallyman.store.meters import MeterStore
from tallyman.stream.batch import BatchLimits
from tallyman.stream.reconcile_nodes import MadeGood
from tallyman.stream.reconcile_report import Report, RollupHourReport, missing_in
from tallyman.stream.replay import connect
from tallyman_kong.heartbeat import SpoolState, event_of
from tallyman_kong.spool import Group, Spool

from tests.integration.stream.test_commands import Deployment, deployment
from tests.integration.stream.test_replay import entries, serving, tallyman
from tests.rigs.stream import FailingStore, Stream, until, usage

__all__ = ["deployment"]
NOW = datetime.now(UTC)


def numbered(*numbers: int) -> list[dict[str, Any]]:
    """Events as the plugin numbers them."""
    return [
        {
            **json.loads(usage(number)),
            "time": NOW.isoformat(),
            "nodeid": "kong-1",
            "sequence": f"{number:018d}",
        }
        for number in numbers
    ]


def heartbeat(newest: int, oldest: int | None = None, **changes: Any) -> dict[str, Any]:
    """What the node says, now."""
    values: dict[str, Any] = {
        "first": 1, "waiting": 0, "set_aside": 0, "set_aside_ranges": (), "refused": 0, "bad": 0,
        "sinks": 1, **changes,
    }  # fmt: skip
    state = SpoolState(node="kong-1", newest=newest, oldest=oldest, **values)
    said: dict[str, Any] = json.loads(event_of(state, NOW + timedelta(seconds=len(changes))))
    return said


def at_once(*events: dict[str, Any]) -> list[Received]:
    return [Received("default", parse_event(json.dumps(event).encode()), NOW) for event in events]


class Here:
    """A data directory that is reconciled in this process."""

    def __init__(self, clickhouse: ClickHouse, database: Database) -> None:
        self.clickhouse = clickhouse
        self._store = EventStore(clickhouse)
        self._meters = MeterStore(database)
        customers = CustomerStore(database)
        self._reconciliation = connections.reconciliation(
            Settings(billing_settle_seconds=0), clickhouse, customers
        )

    async def store(
        self, *events: dict[str, Any], namespace: str = "default", later: timedelta = timedelta(0)
    ) -> None:
        await self._store.accept(
            [
                msgspec.structs.replace(one, namespace=namespace, ingested_at=NOW + later)
                for one in at_once(*events)
            ]
        )

    async def tokens(self) -> int:
        meter = await self._meters.get("default", "kong_konnect_llm_tokens")
        [row] = await self._store.query(meter, MeterQuery())
        return int(row.value)

    async def age(self, by: timedelta) -> None:
        """Let all that is stored be older, and as if it had been stored at `NOW`."""
        since_now = datetime.now(UTC) - NOW
        await self.clickhouse.command(
            "INSERT INTO events SELECT * REPLACE (stored_at - {stored_by:Int64} AS stored_at, "
            "ingested_at - {by:Int64} AS ingested_at, time - {by:Int64} AS time) FROM events",
            {
                "by": int(by.total_seconds()),
                "stored_by": int((by + since_now).total_seconds()),
            },
        )
        await self.clickhouse.command(
            "DELETE FROM events WHERE stored_at > now() - {by:Int64} / 2",
            {"by": int(by.total_seconds())},
        )

    async def report(
        self,
        later: timedelta = timedelta(0),
        days: int = 1,
        made_good: MadeGood | None = None,
    ) -> Report:
        now = NOW + timedelta(minutes=1) + later
        return await self._reconciliation.run(now, now - timedelta(days=days), made_good)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    settings = Settings(data_dir=tmp_path / "data")
    clickhouse, database = (
        connections.open_clickhouse(settings),
        connections.open_database(settings),
    )
    await EventStore(clickhouse).migrate()
    await database.migrate()
    yield Here(clickhouse, database)
    await database.close()
    await clickhouse.close()


def reconcile(tmp_path: Path, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    done = tallyman(tmp_path, "reconcile", "--json", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


async def test_a_late_event_is_told_from_a_lost_one_by_the_nodes_heartbeat(here: Here) -> None:
    await here.store(*numbered(1, 2, 5, 6, 9))
    unheard = await here.report()
    await here.store(heartbeat(12, oldest=7))
    heard = await here.report()

    assert (unheard.is_complete, unheard.lost, unheard.late) == (True, 0, 4)
    assert (heard.is_complete, heard.lost, heard.late) == (False, 2, 5)
    assert [(gap.first, gap.last, str(gap.kind)) for gap in heard.gaps] == [
        (3, 4, "lost"), (7, 8, "late"), (10, 12, "late"),
    ]  # fmt: skip


async def test_whatever_a_node_has_set_aside_is_not_lost(here: Here, tmp_path: Path) -> None:
    """300 numbers, no two of them beside each other."""
    spool = Spool(tmp_path / "spool.db", "kong-1", max_bytes=10**9)
    event = {"data": {"outcome": "complete", "usage_source": "provider"}}
    spool.append(Group([("sink", event)] * 602, 602))
    for waits in (waiting := spool.read("sink", 1000, 10**9))[1:-1:2]:
        assert spool.set_aside(waits.position, "status 400")
    spool.acknowledge([event.position for event in waiting], "http")
    [state] = spool.states()
    spool.close()
    await here.store(*numbered(*range(1, 602, 2), 602), json.loads(event_of(state, NOW)))
    report = await here.report()

    assert (report.is_complete, report.lost, report.late, report.set_aside) == (True, 0, 0, 300)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"set_aside_numbers": [2, 4, 5]}, id="an older plugin's"),
        pytest.param({"set_aside_ranges": [[4, 5], [2, 2], [7, 10**15]]}, id="ranges"),
    ],
)
async def test_a_heartbeat_of_any_version_says_what_is_set_aside(
    here: Here, said: dict[str, Any]
) -> None:
    beat = heartbeat(7)
    del beat["data"]["set_aside_ranges"]
    beat["data"].update(said)
    await here.store(*numbered(1, 7), beat)
    report = await here.report()

    assert [(gap.first, gap.last, str(gap.kind)) for gap in report.gaps] == [
        (2, 2, "set_aside"), (3, 3, "lost"), (4, 5, "set_aside"), (6, 6, "lost"),
    ]  # fmt: skip


async def test_a_heartbeat_that_cannot_be_read_is_passed_over(here: Here) -> None:
    """They are of the same node, and its first and its last."""
    unreadable: list[dict[str, Any] | None] = [
        {"newest": "x"}, {"newest": 5.5}, {"newest": -1}, {"newest": 10**18}, {"newest": True},
        {"newest": None}, {"oldest": "soon"}, {"oldest": 1e300}, {"refused": [1]}, {"first": {}},
        {"set_aside_numbers": ["a"]}, {"set_aside_ranges": [1]}, {"set_aside_ranges": [[1, 2, 3]]},
        {"set_aside_ranges": [[1, -1]]}, {"set_aside_ranges": 7}, None,
    ]  # fmt: skip
    sound = heartbeat(6)
    broken = [
        sound
        | {"id": f"{at}-{side}", "time": (NOW + timedelta(hours=side, seconds=at)).isoformat()}
        | {"data": None if said is None else sound["data"] | said}
        for at, said in enumerate(unreadable)
        for side in (-1, 1)
    ]
    await here.store(*numbered(1, 2, 5, 6), sound, *broken)
    report = await here.report()

    assert (report.lost, report.late, report.refused) == (2, 0, 0)
    assert report.nodes[0].heartbeat_at == datetime.fromisoformat(sound["time"])


async def test_what_is_sent_in_one_namespace_says_nothing_of_anothers_node_of_that_name(
    here: Here,
) -> None:
    await here.store(*numbered(1, 2, 5, 6), heartbeat(6))
    alone = await here.report()
    await here.store(*numbered(3, 4, 9_999_999), namespace="evil")
    forged = heartbeat(10_000_000, oldest=1, refused=7)
    await here.store(forged, namespace="evil")
    both = await here.report()

    mine = [node for node in both.nodes if node.namespace == "default"]
    assert mine == alone.nodes
    assert [gap for gap in both.gaps if gap.namespace == "default"] == alone.gaps
    assert [(gap.first, gap.last, str(gap.kind)) for gap in alone.gaps] == [(3, 4, "lost")]
    assert (both.lost, both.late) == (2, 9_999_997)


DAY = timedelta(days=1)


async def test_what_a_silent_nodes_spool_holds_is_missing_after_a_day_until_it_comes(
    here: Here,
) -> None:
    """It was switched off, for longer than a reconciliation looks back."""
    await here.store(*numbered(1, 2, 4), heartbeat(10, oldest=5, set_aside_ranges=((3, 3),)))
    young = await here.report(DAY - timedelta(minutes=2), days=7)
    old = [await here.report(later, days) for later, days in ((DAY, 7), (DAY, 1), (30 * DAY, 7))]
    await here.age(30 * DAY)
    await here.store(heartbeat(10, oldest=5, set_aside_ranges=((3, 3),), bad=0))
    back = await here.report(days=7)
    await here.store(*numbered(3, *range(5, 11)))
    whole = await here.report(30 * DAY, days=7)

    assert (young.is_complete, young.late, young.nodes[0].silent) == (True, 6, False)
    for report in old:
        assert (report.is_complete, report.lost, report.late) == (False, 7, 0)
        assert [(gap.first, gap.last) for gap in report.gaps] == [(3, 3), (5, 10)]
        assert [node.silent for node in report.nodes] == [True]
    assert (back.lost, back.late, back.nodes[0].silent) == (0, 6, False)
    assert (whole.is_complete, whole.nodes) == (True, [])


async def test_what_a_silent_nodes_spool_held_is_missing_until_its_log_has_made_it_good(
    here: Here,
) -> None:
    await here.store(*numbered(1, 2, 3, 4), heartbeat(10, oldest=5))
    shown = MadeGood("kong-1", NOW - timedelta(hours=1), NOW + timedelta(seconds=1))
    others = await here.report(30 * DAY, 7, replace(shown, namespace="evil"))
    too_old = await here.report(30 * DAY, 7, replace(shown, to=NOW - timedelta(seconds=1)))
    good = await here.report(30 * DAY, 7, shown)
    after = await here.report(60 * DAY, 7)

    assert (others.lost, too_old.lost, good.lost, after.lost) == (6, 6, 0, 0)


async def test_what_a_node_lost_is_made_good_only_by_a_log_that_goes_to_its_next_number(
    here: Here,
) -> None:
    again = [{**event, "id": "again"} for event in numbered(4)]  # one number, in two rows
    await here.store(*numbered(1, 2, 3, 4), *again, heartbeat(10))
    to_now = MadeGood("kong-1", NOW - timedelta(hours=1), NOW + timedelta(minutes=1))
    at_the_end = await here.report(made_good=to_now)
    [behind] = numbered(11)
    behind["time"] = (NOW + timedelta(hours=1)).isoformat()
    await here.store(behind)
    before_the_next = await here.report(made_good=to_now)
    beyond = await here.report(made_good=replace(to_now, to=NOW + timedelta(hours=2)))

    assert (at_the_end.lost, before_the_next.lost, beyond.lost) == (6, 6, 0)


async def test_a_node_whose_numbers_come_in_is_not_silent(here: Here) -> None:
    """Its heartbeats were switched off."""
    await here.store(*numbered(1, 2), heartbeat(4, oldest=3))
    await here.store(*numbered(5), later=2 * DAY)
    report = await here.report(2 * DAY, days=7)

    assert (report.is_complete, report.late, report.nodes[0].silent) == (True, 2, False)


@pytest.mark.parametrize(
    ("stored", "first", "lost"),
    [
        pytest.param((), 1, [(1, 20)], id="nothing of a node came"),
        pytest.param((10, 11), 1, [(1, 9), (12, 20)], id="neither its first nor its last"),
        pytest.param((), 15, [(15, 20)], id="nothing of its new spool"),
    ],
)
async def test_the_first_numbers_of_a_new_node_are_missed(
    here: Here, stored: tuple[int, ...], first: int, lost: list[tuple[int, int]]
) -> None:
    await here.store(json.loads(usage(1)))
    await here.age(timedelta(hours=2))
    await here.store(*numbered(*stored), heartbeat(20, first=first))
    report = await here.report()

    assert [(gap.first, gap.last) for gap in report.gaps] == lost
    assert (report.is_complete, report.late) == (False, 0)


async def test_the_first_numbers_of_a_node_that_may_be_older_than_the_store_are_not_missed(
    here: Here,
) -> None:
    """What waits when it is first heard is for this store."""
    await here.store(*numbered(50, 51), heartbeat(60, oldest=53))
    young = await here.report()
    await here.store(heartbeat(70, waiting=0, bad=0))
    emptied = await here.report()

    assert (young.is_complete, [(gap.first, gap.last) for gap in young.gaps]) == (
        False, [(52, 52), (53, 60)],
    )  # fmt: skip
    assert [(gap.first, gap.last) for gap in emptied.gaps] == [(52, 70)]


async def test_the_numbers_that_a_node_gave_before_what_is_looked_at_are_not_missed_again(
    here: Here,
) -> None:
    """Whatever became of them: stored or deleted, they are of that time."""
    await here.store(heartbeat(100, oldest=98))
    await here.age(timedelta(days=3))
    await here.store(*numbered(101), heartbeat(101, bad=0))
    report = await here.report()

    assert [(gap.first, gap.last) for gap in report.gaps] == [(98, 100)]


async def test_calls_that_a_node_refused_are_missing(here: Here) -> None:
    await here.store(*numbered(1), heartbeat(1), heartbeat(1, refused=3, bad=2))
    report = await here.report()

    assert (report.is_complete, report.refused, report.nodes[0].bad) == (False, 3, 2)


async def test_what_a_node_refused_before_it_was_first_heard_is_missing(here: Here) -> None:
    await here.store(*numbered(1), heartbeat(1, refused=100, bad=7))
    report = await here.report()

    assert (report.is_complete, report.refused, report.nodes[0].bad) == (False, 100, 7)


@pytest.mark.parametrize(
    ("first", "refused"),
    [
        pytest.param(1, 1, id="the same spool"),
        pytest.param(10_001, 6, id="a new spool that counts beyond the old one"),
    ],
)
async def test_what_a_node_refused_since_is_counted_from_what_it_last_said_of_the_same_spool(
    here: Here, first: int, refused: int
) -> None:
    await here.store(*numbered(1), heartbeat(1, refused=5))
    await here.age(timedelta(days=3))
    await here.store(heartbeat(1, first=first, refused=6))
    report = await here.report()

    assert report.refused == refused


async def test_an_hour_of_the_rollup_that_differs_is_reported_and_put_right(here: Here) -> None:
    await here.store(*numbered(1, 2, 3))
    clean = await here.report()
    await here.clickhouse.command(
        "INSERT INTO rollup SELECT * REPLACE ([toDecimal256(1000, 18)] AS tokens) FROM rollup FINAL "
        "WHERE namespace = 'default'"
    )
    wrong = await here.tokens()
    report = await here.report()

    assert (clean.is_complete, clean.differing, wrong) == (True, 0, 1000)
    assert (report.is_complete, report.differing, missing_in(report)) == (False, 1, 0)
    assert report.rollup == [
        RollupHourReport("default", "llm.tokens", NOW.replace(minute=0, second=0, microsecond=0))
    ]
    assert await here.tokens() == 3
    assert (await here.report()).is_complete


def test_a_report_that_an_older_version_kept_is_read() -> None:
    older = {
        "at": NOW, "since": NOW, "is_complete": True, "lost": 0, "missing": 0, "refused": 0,
        "forgotten": 0, "late": 0, "waiting": 0, "set_aside": 0, "dead": 0,
        "unattributed_events": 0, "unattributed_subjects": 0, "nodes": [], "gaps": [], "hours": [],
    }  # fmt: skip

    report = msgspec.json.decode(msgspec.json.encode(older), type=Report)

    assert (report.differing, report.rollup) == (0, [])


async def test_the_hours_balance_and_usage_of_nobody_is_shown(here: Here) -> None:
    await here.store(*numbered(1, 2, 3))
    await here.store(*numbered(2, 3), heartbeat(3))
    report = await here.report()

    [hour] = report.hours
    assert report.is_complete
    assert (hour.accepted, hour.counted, hour.known, hour.missing) == (6, 4, 2, 0)
    assert (report.unattributed_events, report.unattributed_subjects) == (3, 3)


async def test_a_call_that_kongs_log_has_and_nobody_counted_is_found_until_it_is_replayed(
    tmp_path: Path,
) -> None:
    """Replayed events have no number: the node's log shows that they were those that it lacks."""
    log = tmp_path / "kong.log"
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries()))
    printed = tallyman(tmp_path, "replay", "--print", log).stdout.splitlines()
    events = sorted((json.loads(line) for line in printed), key=lambda event: event["time"])
    for number, event in enumerate(events, start=1):
        event |= {"nodeid": "kong-1", "sequence": f"{number:018d}"}
    with serving(tmp_path):
        async with connect(tmp_path / "data" / "tallyman.sock") as session:
            sent = [*events[:5], *events[9:], heartbeat(len(events))]
            await session.post("http://tallyman/api/v3/openmeter/events", json=sent)
        before = tallyman(tmp_path, "reconcile", log)
        tallyman(tmp_path, "replay", log)
        good, made = reconcile(tmp_path, "--node", "kong-1", log)
    after = tallyman(tmp_path, "reconcile")
    status = tallyman(tmp_path, "status")

    assert before.returncode == 1
    assert f"4 of {len(events)} events" in before.stdout
    assert f"Make it good: tallyman replay {log}" in before.stdout
    assert (good, made["lost"], made["log"]["uncounted"]) == (0, 0, 0)
    assert (after.returncode, after.stdout.splitlines()[-1]) == (0, "Nothing is missing.")
    assert "UTC: nothing is missing" in status.stdout


def test_a_log_that_cannot_be_read_to_its_end_does_not_show_that_nothing_is_missing(
    tmp_path: Path,
) -> None:
    whole = "".join(json.dumps(entry) + "\n" for entry in entries()).encode()
    log, cut, torn = tmp_path / "kong.log", tmp_path / "kong.log.gz", tmp_path / "torn.log"
    log.write_bytes(whole)
    archive = gzip.compress(whole)
    cut.write_bytes(archive[: len(archive) // 2])
    torn.write_bytes(whole + b'{"torn\n')
    tallyman(tmp_path, "replay", log)

    good = tallyman(tmp_path, "reconcile", log)
    of_cut, of_torn = (tallyman(tmp_path, "reconcile", path) for path in (cut, torn))
    status, report = reconcile(tmp_path, torn)

    assert (good.returncode, good.stdout.splitlines()[-1]) == (0, "Nothing is missing.")
    assert (of_cut.returncode, of_torn.returncode) == (1, 1)
    assert of_cut.stdout.splitlines()[-1].startswith("1 line of the log cannot be read")
    assert (status, report["is_complete"], report["log"]["bad"]) == (1, False, 1)


async def test_through_kafka_every_offset_is_counted_known_dead_or_missing(
    stream: Stream, deployment: Deployment, http_store: EventStore
) -> None:
    events = [json.dumps(event).encode() for event in numbered(*range(1, 301))]
    async with stream.consumer(http_store):
        await stream.put([*events[:200], b"no event", *events[:50]])
        await stream.wait_until_committed(251)
    await stream.put([*events[200:290], b"nor this"])
    waiting = await _report(deployment)
    async with stream.consumer(http_store):
        await stream.wait_until_committed(342)
    whole = await _report(deployment)
    await http_store._clickhouse.command("DELETE FROM events WHERE sequence = '000000000000000007'")
    robbed = await _report(deployment)

    assert (waiting["is_complete"], waiting["waiting"], waiting["dead"]) == (True, 91, 1)
    assert (whole["is_complete"], whole["waiting"], whole["dead"]) == (True, 0, 2)
    assert _sums(whole) == {"accepted": 342, "counted": 290, "known": 50, "dead": 2, "missing": 0}
    assert not robbed["is_complete"]
    assert (robbed["missing"], robbed["forgotten"]) == (1, 1)
    assert _sums(robbed) == {"accepted": 342, "counted": 289, "known": 50, "dead": 2, "missing": 1}


async def test_a_partition_of_which_nothing_or_not_the_first_is_stored_is_missing(
    stream: Stream, deployment: Deployment, http_store: EventStore
) -> None:
    events = [json.dumps(event).encode() for event in numbered(*range(1, 101))]
    async with stream.consumer(http_store):
        await stream.put(events)
        await stream.wait_until_committed(100)
    clickhouse = http_store._clickhouse
    doors = await clickhouse.rows("SELECT door, count() FROM events GROUP BY door ORDER BY door")
    (robbed, of_one), (other, _) = doors[0], doors[-1]
    await clickhouse.command(
        "DELETE FROM events WHERE door = {robbed:String} OR door = {other:String} AND place < 2",
        {"robbed": robbed, "other": other},
    )
    report = await _report(deployment)

    assert len(doors) > 1
    assert (report["is_complete"], report["missing"]) == (False, of_one + 2)
    assert _sums(report)["accepted"] == 100


async def test_what_is_stored_before_a_batch_that_fails_leaves_no_hole_before_it(
    stream: Stream, deployment: Deployment, http_store: EventStore
) -> None:
    of_one_partition = [{**event, "subject": "one"} for event in numbered(*range(100))]
    values = [json.dumps(event).encode() for event in of_one_partition]
    failing = FailingStore(http_store)
    async with stream.consumer(failing, BatchLimits(events=10, wait_seconds=30)) as running:
        await stream.put(values[90:])
        await stream.wait_until_committed(10)
        await stream.put(values[:90])
        await until(
            lambda: (
                running.value("tallyman_consumer_stored_events_total") == 20
                and running.value("tallyman_consumer_failures_total", step="store") > 0
            ),
            "one is stored, and one fails",
        )
        report = await _report(deployment)
        failing.is_mended = True
        await stream.wait_until_committed(100)

    assert (report["is_complete"], report["missing"], report["waiting"]) == (True, 0, 90)


async def _report(deployment: Deployment) -> dict[str, Any]:
    done = await asyncio.to_thread(
        tallyman, deployment.tmp_path, "reconcile", "--json", settings=deployment.settings
    )
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _sums(report: dict[str, Any]) -> dict[str, int]:
    return {
        name: sum(hour[name] for hour in report["hours"])
        for name in ("accepted", "counted", "known", "dead", "missing")
    }
