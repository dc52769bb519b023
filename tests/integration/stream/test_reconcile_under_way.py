"""What comes in while it is reconciled: nothing that is merely under way is called lost, and what is lost is."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tallyman.domain.event import parse_event
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.completeness import Completeness
from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database
from tallyman.store.events import EventStore, Received
from tallyman.store.rollup import Rollup
from tallyman.store.seen import Seen
from tallyman.store.unattributed import UnattributedUsage
from tallyman.stream.reconcile import KafkaTopics, Reconciliation
from tallyman.stream.reconcile_report import Report
from tallyman_kong.heartbeat import SpoolState, event_of

from tests.rigs.stream import Stream, usage

READINGS = 4  # of the event store: what the nodes say, and their numbers
DAY = timedelta(days=1)


class Busy(ClickHouse):
    """ClickHouse in this process; just before one of its next answers something comes in."""

    def __init__(self, opened: ClickHouse) -> None:
        self.__dict__ = opened.__dict__
        self._at = 0
        self._meanwhile: Callable[[], Awaitable[None]] = _nothing

    def before(self, reading: int, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._at, self._meanwhile = reading, meanwhile

    async def rows(
        self,
        sql: str,
        parameters: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> list[Any]:
        self._at -= 1
        if not self._at:
            await self._meanwhile()
        return await super().rows(sql, parameters, settings)


async def _nothing() -> None:
    pass


class Here:
    """A store that is reconciled in this process, and a node for each time."""

    def __init__(self, clickhouse: ClickHouse, database: Database) -> None:
        self.clickhouse = Busy(clickhouse)
        self._store = EventStore(clickhouse)
        self._database = database
        self.node = "kong-1"

    def numbered(self, *numbers: int) -> list[dict[str, Any]]:
        return [
            {
                **json.loads(usage(number)),
                "id": f"{self.node}-{number}",
                "time": datetime.now(UTC).isoformat(),
                "nodeid": self.node,
                "sequence": f"{number:018d}",
            }
            for number in numbers
        ]

    def said(self, newest: int, oldest: int | None, at: datetime) -> dict[str, Any]:
        state = SpoolState(
            node=self.node,
            first=1,
            newest=newest,
            oldest=oldest,
            waiting=0,
            set_aside=0,
            set_aside_ranges=(),
            refused=0,
            bad=0,
            sinks=1,
        )
        said: dict[str, Any] = json.loads(event_of(state, at))
        return said

    async def store(self, *events: dict[str, Any]) -> None:
        now = datetime.now(UTC)
        parsed = [parse_event(json.dumps(event).encode()) for event in events]
        await self._store.accept([Received("default", event, now) for event in parsed])

    async def report(self, topics: KafkaTopics | None = None) -> Report:
        clickhouse, now = self.clickhouse, datetime.now(UTC)
        reconciliation = Reconciliation(
            Completeness(clickhouse),
            Seen(clickhouse),
            Rollup(clickhouse),
            UnattributedUsage(clickhouse, CustomerStore(self._database)),
            topics,
        )
        return await reconciliation.run(now, now - DAY)


@pytest.fixture
async def here(tmp_path: Path, migrated_sqlite: Path) -> AsyncIterator[Here]:
    clickhouse = ClickHouse.embedded(str(tmp_path / "chdb"))
    database = Database.sqlite(migrated_sqlite)
    store = EventStore(clickhouse)
    await store.migrate()
    yield Here(clickhouse, database)
    await database.close()
    await clickhouse.close()


def topics_of(stream: Stream) -> KafkaTopics:
    return KafkaTopics(stream.connection, stream.topic, stream.dead_topic, stream.group)


def lost(report: Report, node: str) -> int:
    """Of this node; the topics of those before it are no longer read."""
    return next(one.lost for one in report.nodes if one.node == node)


async def test_what_comes_in_with_its_nodes_heartbeat_while_it_is_reconciled_is_not_lost(
    here: Here,
) -> None:
    for reading in range(1, READINGS + 1):
        here.node = f"kong-{reading}"
        await here.store(*here.numbered(1, 2, 4))

        async def meanwhile() -> None:
            await here.store(*here.numbered(3), here.said(4, None, datetime.now(UTC)))

        here.clickhouse.before(reading, meanwhile)

        assert lost(await here.report(), here.node) == 0


async def test_what_is_in_kafka_when_its_nodes_heartbeat_comes_in_is_not_lost(
    here: Here, stream: Stream
) -> None:
    for reading in range(1, READINGS + 1):
        here.node = f"kong-{reading}"
        afresh = Stream(stream.kafka, partitions=1)
        await afresh.create()
        await here.store(*here.numbered(1, 2))

        async def meanwhile(afresh: Stream = afresh) -> None:
            await afresh.put([json.dumps(event).encode() for event in here.numbered(3)])
            await here.store(*here.numbered(4), here.said(4, None, datetime.now(UTC)))

        here.clickhouse.before(reading, meanwhile)

        assert lost(await here.report(topics_of(afresh)), here.node) == 0


async def test_what_was_lost_is_called_so_however_busy_kafka_is(here: Here, stream: Stream) -> None:
    now = datetime.now(UTC)
    await here.store(*here.numbered(1, 2, 4))
    await here.store(here.said(4, None, now - timedelta(hours=1)))
    await here.store(here.said(9, 5, now))
    unread = [json.dumps(event).encode() for event in here.numbered(5)]
    await stream.put(unread, timestamp_ms=int(now.timestamp() * 1000) - 60_000)

    report = await here.report(topics_of(stream))

    assert (report.is_complete, report.lost, report.late, report.waiting) == (False, 1, 5, 1)
    assert report.nodes[0].heartbeat_at == now.replace(microsecond=now.microsecond // 1000 * 1000)
