"""`tallyman replay`: files of Kong's log become the events that the plugin makes, and are made good."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from tallyman_kong.usage import UsageConfiguration, configuration

from tallyman import connections, data_directory
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.domain.event import CloudEvent
from tallyman.errors import InvalidEvent
from tallyman.kong_config import load_usage_configuration
from tallyman.kong_entry import events_of
from tallyman.kong_log_file import STANDARD_INPUT, Line, read_lines
from tallyman.store.events import EventStore
from tallyman.stream.message import encode_event
from tallyman.stream.producer import KafkaIntake
from tallyman.stream.replay import Destination, Direct, Produced, Server, connect

EVENTS_AT_ONCE: Final = 1000
MOST_REASONS: Final = 50
SOMETHING_BAD: Final = 1


@dataclass
class _Replay:
    """What has been found so far; `waiting` events are not handed over yet."""

    usage: UsageConfiguration
    destination: Destination | None
    waiting: list[CloudEvent] = field(default_factory=list)
    entries: int = 0
    found: int = 0
    new: int = 0
    known: int = 0
    conflicts: int = 0
    bad: int = 0

    async def take(self, path: str, line: Line) -> None:
        """Read the events of a line, and hand over when there are enough."""
        if line.unfinished:
            _say(f"{path}:{line.number}: the last line is not finished; replay it again later")
        if line.bad is not None:
            self._refuse(path, line, line.bad)
        for entry in line.entries:
            self.entries += 1
            try:
                events = events_of(entry, self.usage)
            except InvalidEvent as err:
                self._refuse(path, line, str(err))
                continue
            self.found += len(events)
            self.waiting += events
        if len(self.waiting) >= EVENTS_AT_ONCE:
            await self.flush()

    async def flush(self) -> None:
        """Hand over what waits."""
        waiting, self.waiting = self.waiting, []
        if self.destination is None:
            for event in waiting:
                click.echo(encode_event(event))
            return
        for begin in range(0, len(waiting), EVENTS_AT_ONCE):
            counts = await self.destination.take(waiting[begin : begin + EVENTS_AT_ONCE])
            self.new += counts.new
            self.known += counts.known
            self.conflicts += counts.conflicts

    def _refuse(self, path: str, line: Line, reason: str) -> None:
        self.bad += 1
        if self.bad <= MOST_REASONS:
            _say(f"{path}:{line.number}: {reason}")
        elif self.bad == MOST_REASONS + 1:
            _say("more bad lines follow; they are only counted")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option(
    "--kong-config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The gateway's decK file, or the plugin's configuration: what events are made by. "
    "Without it the setting kong_config, and without that the plugin's defaults.",
)
@click.option(
    "--namespace",
    help="Whose events these are; by default those of the plugin's own messages.",
)
@click.option(
    "--print", "only_print", is_flag=True, help="Store nothing; write the events as JSON."
)
@with_settings
def replay(
    settings: Settings,
    files: tuple[str, ...],
    kong_config: Path | None,
    namespace: str | None,
    only_print: bool,
) -> None:
    """Make good what the plugin missed, from Kong's file-log or http-log: one JSON entry a line.

    FILE may be compressed with gzip; - is standard input. Events that are stored already are
    known by their identity, and dropped. Ends with status 1 if a line was bad, or an event
    is stored with another content; the rest is stored all the same.
    """
    chosen = kong_config or settings.kong_config
    usage = configuration(None) if chosen is None else load_usage_configuration(chosen)
    done = asyncio.run(_replay(settings, files, usage, namespace, only_print))
    if only_print:
        _say(f"found {done.found}, bad {done.bad}")
    else:
        conflicts = f", conflicts {done.conflicts}" if done.conflicts else ""
        click.echo(
            f"found {done.found}, new {done.new}, known {done.known}, bad {done.bad}{conflicts}"
        )
    if done.bad or done.conflicts:
        raise SystemExit(SOMETHING_BAD)


async def _replay(
    settings: Settings,
    files: tuple[str, ...],
    usage: UsageConfiguration,
    namespace: str | None,
    only_print: bool,
) -> _Replay:
    if only_print:
        replay = _Replay(usage, None)
        await _read(files, replay)
        return replay
    async with _destination(settings, namespace) as destination:
        replay = _Replay(usage, destination)
        await _read(files, replay)
    return replay


async def _read(files: tuple[str, ...], replay: _Replay) -> None:
    with _progress() as progress:
        for path in files:
            bar = _add_bar(progress, path)
            with closing(read_lines(path)) as lines:
                for line in lines:
                    await replay.take(path, line)
                    if bar is not None:
                        progress.update(bar, completed=line.read_bytes)
        await replay.flush()


@asynccontextmanager
async def _destination(settings: Settings, namespace: str | None) -> AsyncIterator[Destination]:
    """Where events go: to Kafka in production; else to the server if it runs, else to the store."""
    connection = connections.kafka_connection(settings)
    if connection is not None:
        async with _store(settings) as store:
            intake = KafkaIntake(connection, settings.kafka_topic)
            try:
                yield Produced(store, intake, namespace or settings.kafka_namespace)
            finally:
                await intake.close()
        return
    namespace = namespace or DEFAULT_NAMESPACE
    if data_directory.is_served(settings.data_dir):
        async with connect(data_directory.socket_path(settings.data_dir)) as session:
            yield Server(session, namespace)
    elif settings.clickhouse_url is None:
        with data_directory.locked(settings.data_dir):
            async with _store(settings) as store:
                yield Direct(store, namespace)
    else:
        async with _store(settings) as store:
            yield Direct(store, namespace)


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[EventStore]:
    clickhouse = connections.open_clickhouse(settings)
    try:
        store = EventStore(clickhouse)
        await store.migrate()
        yield store
    finally:
        await clickhouse.close()


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _add_bar(progress: Progress, path: str) -> TaskID | None:
    if path == STANDARD_INPUT or not os.path.isfile(path):
        return None
    return progress.add_task(os.path.basename(path), total=os.path.getsize(path))


def _say(text: str) -> None:
    click.echo(text, err=True)
