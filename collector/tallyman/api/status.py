"""`GET /status`: what runs and what it holds, in one answer for `tallyman status`.

It counts nothing itself: the stores, the meters and the brokers are asked.
"""

import time
from datetime import UTC, datetime
from typing import Final

import msgspec
from aiohttp import web

from tallyman import __version__
from tallyman.api import parameters
from tallyman.api.route import JSON
from tallyman.api.state import CALLER, COMPLETENESS, EVENTS, KEYS, SETTINGS, UNATTRIBUTED
from tallyman.config import Settings
from tallyman.domain.builtin_meters import DIMENSIONS, EVENT_TYPE
from tallyman.domain.meter import Aggregation, Meter, MeterQuery
from tallyman.errors import Unavailable
from tallyman.store.api_keys import ApiKeyStore
from tallyman.store.completeness import Completeness
from tallyman.store.events import EventStore
from tallyman.store.unattributed import UnattributedUsage
from tallyman.stream.kafka_connection import KafkaConnection
from tallyman.stream.progress import read_progress
from tallyman.stream.reconcile_report import Report, missing_in

STARTED: Final = web.AppKey("started", float)
KAFKA: Final[web.AppKey[KafkaConnection | None]] = web.AppKey("kafka")
MOST_SUBJECTS: Final = 10
_SPLIT: Final = ("outcome", "usage_source")


class Today(msgspec.Struct):
    """Events since midnight UTC that went and were counted alike."""

    outcome: str
    usage_source: str
    events: int


class Lag(msgspec.Struct):
    """What `tallyman consume` has still to store."""

    partition: int
    committed: int
    end: int
    lag: int


class UnattributedSubject(msgspec.Struct):
    """A subject that has events and no customer; `reason` is that of `GET /events`."""

    subject: str
    events: int
    reason: str


class Unattributed(msgspec.Struct):
    """The usage of the last 31 days that belongs to nobody; `subjects` are those with most of it."""

    events: int
    subjects_in_all: int
    subjects: list[UnattributedSubject]


class Reconciled(msgspec.Struct):
    """What the last reconciliation, by whatever process, found missing and late in all namespaces, and how
    many hours of the rollup it put right."""

    at: datetime
    is_complete: bool
    missing: int
    late: int
    differing: int = 0


class StatusAnswer(msgspec.Struct):
    """All of it is about the caller's namespace, but for the version and what waits.

    `uptime_seconds` is null where no server was asked, `lag` without Kafka or while it is away.
    """

    version: str
    uptime_seconds: int | None
    events_in: str
    events: int
    newest_event_at: datetime | None
    today: list[Today]
    unattributed: Unattributed
    reconciled: Reconciled | None
    keys: int
    lag: list[Lag] | None


async def get(request: web.Request) -> web.Response:
    """The status as the caller's namespace sees it."""
    parameters.refuse_any(request)
    answer = await read_status(
        request.app[SETTINGS],
        request.app[EVENTS],
        request.app[KEYS],
        request.app[UNATTRIBUTED],
        request.app[COMPLETENESS],
        request.app[KAFKA],
        request[CALLER].namespace,
    )
    answer.uptime_seconds = int(time.monotonic() - request.app[STARTED])
    return web.Response(body=msgspec.json.encode(answer), content_type=JSON)


async def read_status(
    settings: Settings,
    events: EventStore,
    keys: ApiKeyStore,
    unattributed: UnattributedUsage,
    completeness: Completeness,
    kafka: KafkaConnection | None,
    namespace: str,
) -> StatusAnswer:
    """Ask every part; also for the command itself, where no server runs beside it."""
    page = await events.list_events(namespace, size=1)
    newest = page.events[0].event.time if page.events else None
    return StatusAnswer(
        version=__version__,
        uptime_seconds=None,
        events_in="chDB" if settings.clickhouse_url is None else "ClickHouse",
        events=await events.count(namespace),
        newest_event_at=newest,
        today=await _today(events, namespace),
        unattributed=await _unattributed(unattributed, namespace),
        reconciled=await _reconciled(completeness),
        keys=await keys.count(namespace),
        lag=None if kafka is None else await _lag(kafka, settings),
    )


async def _today(events: EventStore, namespace: str) -> list[Today]:
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    meter = Meter(
        id="status",
        namespace=namespace,
        key="status",
        name="status",
        aggregation=Aggregation.COUNT,
        event_type=EVENT_TYPE,
        value_property=None,
        dimensions={name: DIMENSIONS[name] for name in _SPLIT},
        created_at=now,
        updated_at=now,
    )
    rows = await events.query(meter, MeterQuery(from_=midnight, group_by=_SPLIT))
    found = [
        Today(row.dimensions["outcome"], row.dimensions["usage_source"], int(row.value))
        for row in rows
    ]
    return sorted(found, key=lambda one: (one.outcome, one.usage_source))


async def _unattributed(usage: UnattributedUsage, namespace: str) -> Unattributed:
    found = await usage.subjects(datetime.now(UTC), namespace)
    return Unattributed(
        events=sum(one.events for one in found),
        subjects_in_all=len(found),
        subjects=[
            UnattributedSubject(one.subject, one.events, one.reason)
            for one in found[:MOST_SUBJECTS]
        ],
    )


async def _reconciled(completeness: Completeness) -> Reconciled | None:
    text = await completeness.last_report()
    if text is None:
        return None
    report = msgspec.json.decode(text, type=Report)
    return Reconciled(
        report.at, report.is_complete, missing_in(report), report.late, report.differing
    )


async def _lag(kafka: KafkaConnection, settings: Settings) -> list[Lag] | None:
    try:
        progress = await read_progress(kafka, settings.kafka_topic, settings.kafka_group)
    except Unavailable:
        return None
    return [Lag(one.partition, one.committed, one.end, one.lag) for one in progress]
