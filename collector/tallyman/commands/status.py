"""`tallyman status`: what runs, what is stored, and what still waits, as a small table."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import aiohttp
import click
import msgspec
from rich.console import Console
from rich.table import Table

from tallyman import connections, data_directory
from tallyman.api.status import StatusAnswer, Today, read_status
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.domain.access import DEFAULT_NAMESPACE
from tallyman.errors import Unavailable
from tallyman.store.api_keys import ApiKeyStore
from tallyman.store.customers import CustomerStore
from tallyman.store.events import EventStore
from tallyman.stream.reconcile import Reconciliation
from tallyman.stream.replay import LOCAL_NAMESPACE_HEADER, connect

MISSED_RECONCILIATIONS: Final = 3  # the first after a start is one, and one may take its time


@click.command()
@click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Whose events.")
@with_settings
def status(settings: Settings, namespace: str) -> None:
    """Show what runs, what is stored, and what the consumers have still to store."""
    answer = asyncio.run(_read(settings, namespace))
    table = Table("", "", show_header=False, box=None)
    for name, value in _rows(settings, answer, namespace):
        table.add_row(name, value)
    Console(width=None if Console().is_terminal else 200, markup=False).print(table)


async def _read(settings: Settings, namespace: str) -> StatusAnswer:
    if data_directory.is_served(settings.data_dir):
        return await _ask(settings, namespace)
    if settings.clickhouse_url is not None:
        return await _read_here(settings, namespace)
    if not data_directory.events_path(settings.data_dir).exists():
        raise Unavailable(f"nothing is stored in {settings.data_dir} yet; start `tallyman serve`")
    with data_directory.locked(settings.data_dir):
        return await _read_here(settings, namespace)


async def _ask(settings: Settings, namespace: str) -> StatusAnswer:
    url = "http://tallyman/api/v1/status"
    async with connect(data_directory.socket_path(settings.data_dir)) as session:
        try:
            async with session.get(
                url, headers={LOCAL_NAMESPACE_HEADER: quote(namespace)}
            ) as answer:
                if answer.status != 200:
                    raise Unavailable(f"the server answered {answer.status}")
                return msgspec.json.decode(await answer.read(), type=StatusAnswer)
        except (aiohttp.ClientError, OSError) as err:
            raise Unavailable(f"the server did not answer: {err}") from err


async def _read_here(settings: Settings, namespace: str) -> StatusAnswer:
    async with _stores(settings) as (events, keys, reconciliation):
        return await read_status(
            settings,
            events,
            keys,
            reconciliation.unattributed,
            reconciliation.completeness,
            connections.kafka_connection(settings),
            namespace,
        )


@asynccontextmanager
async def _stores(
    settings: Settings,
) -> AsyncIterator[tuple[EventStore, ApiKeyStore, Reconciliation]]:
    clickhouse = connections.open_clickhouse(settings)
    database = connections.open_database(settings)
    try:
        await database.migrate()
        events = EventStore(clickhouse)
        await events.migrate()
        reconciliation = connections.reconciliation(settings, clickhouse, CustomerStore(database))
        yield events, ApiKeyStore(database), reconciliation
    finally:
        await database.close()
        await clickhouse.close()


def _rows(settings: Settings, answer: StatusAnswer, namespace: str) -> list[tuple[str, str]]:
    if answer.uptime_seconds is not None:
        running = f"for {answer.uptime_seconds // 3600} h {answer.uptime_seconds // 60 % 60} min"
    else:
        running = "not on this machine's directory"
    newest = answer.newest_event_at
    rows = [
        ("version", answer.version),
        ("server runs", running),
        ("events", f"{answer.events:,} in {answer.events_in}"),
        (f"newest in {namespace}", f"{newest:%Y-%m-%d %H:%M:%S} UTC" if newest else "none"),
        *((_kind(one), f"{one.events:,}") for one in answer.today),
        ("usage without customer", _unattributed_row(answer)),
        ("reconciled", _reconciled_row(settings, answer)),
        ("API keys made", str(answer.keys)),
    ]
    if settings.kafka_brokers is not None:
        rows += _lag_rows(answer)
    return rows


def _kind(one: Today) -> str:
    """Events that the plugin did not make may have neither."""
    return f"today {one.outcome or 'no outcome'}, {one.usage_source or 'no usage source'}"


def _unattributed_row(answer: StatusAnswer) -> str:
    found = answer.unattributed
    if not found.events:
        return "none in 31 days"
    subjects = "subject" if found.subjects_in_all == 1 else "subjects"
    named = ", ".join(f"{one.subject}: {one.events:,}" for one in found.subjects[:5])
    more = ", …" if found.subjects_in_all > 5 else ""
    events = "event" if found.events == 1 else "events"
    return f"{found.events:,} {events} of {found.subjects_in_all:,} {subjects} ({named}{more})"


def _reconciled_row(settings: Settings, answer: StatusAnswer) -> str:
    found = answer.reconciled
    overdue = "; overdue: the server's log says why" if _is_overdue(settings, answer) else ""
    if found is None:
        return f"not yet; `tallyman reconcile` does it now{overdue}"
    late = f", {found.late:,} still on their way" if found.late else ""
    says = f"{found.missing:,} missing" if found.missing else "nothing is missing"
    wrong = f", {found.differing:,} hours of the rollup put right" if found.differing else ""
    return f"{found.at:%Y-%m-%d %H:%M} UTC: {says}{late}{wrong}{overdue}"


def _is_overdue(settings: Settings, answer: StatusAnswer) -> bool:
    """Whether the server has run for long enough for a newer reconciliation than the last: it fails."""
    most = MISSED_RECONCILIATIONS * settings.reconcile_interval_seconds
    if not most or answer.uptime_seconds is None or answer.uptime_seconds <= most:
        return False
    found = answer.reconciled
    return found is None or (datetime.now(UTC) - found.at).total_seconds() > most


def _lag_rows(answer: StatusAnswer) -> list[tuple[str, str]]:
    if answer.lag is None:
        return [("waiting in Kafka", "Kafka does not answer")]
    whole = sum(one.lag for one in answer.lag)
    by_partition = ", ".join(f"{one.partition}: {one.lag:,}" for one in answer.lag)
    return [("waiting in Kafka", f"{whole:,} messages ({by_partition})")]
