"""`tallyman reconcile`: is anything missing of what was accepted, and of what Kong's log has?"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from tallyman_kong.usage import UsageConfiguration, configuration

from tallyman import connections, data_directory
from tallyman.commands.asking import asked, server_of
from tallyman.commands.reconcile_table import show
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.domain.event import CloudEvent
from tallyman.errors import InvalidEvent
from tallyman.kong_config import load_usage_configuration
from tallyman.kong_entry import events_of
from tallyman.kong_log_file import read_lines
from tallyman.store.customers import CustomerStore
from tallyman.store.events import EventStore
from tallyman.stream.message import encode_event
from tallyman.stream.reconcile_nodes import MadeGood
from tallyman.stream.reconcile_report import LogReport, Report

EVENTS_AT_ONCE: Final = 1000
MOST_CALLS: Final = 50
SOMETHING_MISSING: Final = 1


@dataclass
class _Log:
    """What Kong's log says, and what of it is not stored."""

    usage: UsageConfiguration
    is_stored: Callable[[Sequence[CloudEvent]], Awaitable[Sequence[bool]]]
    waiting: list[CloudEvent] = field(default_factory=list)
    times: list[datetime] = field(default_factory=list)
    report: LogReport = field(default_factory=lambda: LogReport([], 0, 0, []))

    async def read(self, path: str) -> None:
        self.report.files.append(path)
        with closing(read_lines(path)) as lines:
            for line in lines:
                self.report.bad += line.bad is not None
                for entry in line.entries:
                    self._take(entry)
                if len(self.waiting) >= EVENTS_AT_ONCE:
                    await self.look()

    def _take(self, entry: Any) -> None:
        try:
            self.waiting += events_of(entry, self.usage)
        except InvalidEvent:
            self.report.bad += 1

    async def look(self) -> None:
        """Look for what waits in the store."""
        events, self.waiting = self.waiting, []
        for begin in range(0, len(events), EVENTS_AT_ONCE):
            batch = events[begin : begin + EVENTS_AT_ONCE]
            times = [event.time for event in batch if event.time is not None]
            self.times = [min([*self.times, *times]), max([*self.times, *times])]
            for event, is_stored in zip(batch, await self.is_stored(batch), strict=True):
                self.report.events += 1
                if not is_stored:
                    self.report.uncounted += 1
                    if len(self.report.calls) < MOST_CALLS:
                        self.report.calls.append(event.id)


@dataclass(frozen=True)
class _Stores:
    """Where it is looked: at the server that runs, or in the stores themselves."""

    namespace: str
    is_stored: Callable[[Sequence[CloudEvent]], Awaitable[Sequence[bool]]]
    run: Callable[[int, MadeGood | None], Awaitable[Report]]


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE…]")
@click.option(
    "--hours",
    type=click.IntRange(1, 100_000),
    default=168,
    show_default=True,
    help="How far to look back, by when it came in.",
)
@click.option(
    "--kong-config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="As for `replay`: what the events of FILE are made by.",
)
@click.option("--namespace", help="As for `replay`: whose events FILE has.")
@click.option(
    "--node",
    help="The node whose whole log FILE is: where every call in it is counted, what this node's "
    "numbers lack in that time is taken for made good.",
)
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@with_settings
def reconcile(
    settings: Settings,
    files: tuple[str, ...],
    hours: int,
    kong_config: Path | None,
    namespace: str | None,
    node: str | None,
    as_json: bool,
) -> None:
    """Say what is missing: of what the nodes have numbered, of what was accepted, of Kong's log.

    FILE is Kong's file-log or http-log, as for `replay`: a second witness of what was called. Ends
    with status 1 if anything is missing, or if a part of FILE cannot be read.
    """
    if node is not None and not files:
        raise click.UsageError("--node needs the node's log as FILE")
    chosen = kong_config or settings.kong_config
    usage = configuration(None) if chosen is None else load_usage_configuration(chosen)
    report = asyncio.run(_reconcile(settings, files, usage, namespace, hours, node))
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        show(report)
    if not report.is_complete:
        raise SystemExit(SOMETHING_MISSING)


async def _reconcile(
    settings: Settings,
    files: tuple[str, ...],
    usage: UsageConfiguration,
    namespace: str | None,
    hours: int,
    node: str | None,
) -> Report:
    async with _stores(settings, namespace) as stores:
        log = _Log(usage, stores.is_stored)
        for path in files:
            await log.read(path)
        await log.look()
        is_whole = log.times and not log.report.uncounted and not log.report.bad
        made_good = None
        if node is not None and is_whole:
            made_good = MadeGood(node, min(log.times), max(log.times), stores.namespace)
        report = await stores.run(hours, made_good)
    if files:
        report.log = log.report
        whole = not (log.report.uncounted or log.report.bad)
        report.is_complete = report.is_complete and whole
    return report


@asynccontextmanager
async def _stores(settings: Settings, namespace: str | None) -> AsyncIterator[_Stores]:
    if settings.kafka_brokers is not None:
        namespace = namespace or settings.kafka_namespace
    namespace = namespace or DEFAULT_NAMESPACE
    if server_of(settings):
        yield _served(settings, namespace)
        return
    embedded = settings.clickhouse_url is None or settings.database_url is None
    with data_directory.locked(settings.data_dir) if embedded else nullcontext():
        clickhouse = connections.open_clickhouse(settings)
        database = connections.open_database(settings)
        try:
            await database.migrate()
            await EventStore(clickhouse).migrate()
            found = connections.reconciliation(settings, clickhouse, CustomerStore(database))

            async def run(hours: int, made_good: MadeGood | None) -> Report:
                now = datetime.now(UTC)
                return await found.run(now, now - timedelta(hours=hours), made_good)

            async def is_stored(events: Sequence[CloudEvent]) -> Sequence[bool]:
                return await found.completeness.stored(namespace, events)

            yield _Stores(namespace, is_stored, run)
        finally:
            await database.close()
            await clickhouse.close()


def _served(settings: Settings, namespace: str) -> _Stores:
    async def run(hours: int, made_good: MadeGood | None) -> Report:
        body: dict[str, Any] = {"hours": hours}
        if made_good is not None:
            times = {"from": made_good.from_.isoformat(), "to": made_good.to.isoformat()}
            body["made_good"] = {"node": made_good.node, **times}
        async with asked(settings, namespace, "POST", "/api/v1/reconciliation", body) as answer:
            return msgspec.json.decode(await answer.read(), type=Report)

    async def is_stored(events: Sequence[CloudEvent]) -> Sequence[bool]:
        body = [msgspec.json.decode(encode_event(event)) for event in events]
        path = "/api/v1/reconciliation/query"
        async with asked(settings, namespace, "POST", path, body) as answer:
            stored: list[bool] = (await answer.json())["stored"]
            return stored

    return _Stores(namespace, is_stored, run)
