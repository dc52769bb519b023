"""`tallyman serve`: the API, over TCP, and embedded also over a local socket for its own commands."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator

import click
from aiohttp import web

from tallyman import app, data_directory
from tallyman.api.state import KEYS, METERS, REQUESTS
from tallyman.commands.settings_option import with_settings
from tallyman.config import Settings
from tallyman.domain.access import DEFAULT_NAMESPACE, Scope
from tallyman.errors import ConfigurationError
from tallyman.garbage import collect_rarely

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s"
CLOSING_SECONDS = 5.0  # for what is left when shutdown_seconds are over


@click.command()
@with_settings
def serve(settings: Settings) -> None:
    """Take events and answer queries over HTTP."""
    configure_logging(settings.log_level)
    with contextlib.ExitStack() as stack:
        local = None
        if settings.clickhouse_url is None or settings.database_url is None:
            stack.enter_context(data_directory.locked(settings.data_dir))
            local = stack.enter_context(data_directory.listening(settings.data_dir))
        listener = stack.enter_context(_listening(settings.host, settings.port))
        collect_rarely()
        asyncio.run(_serve(settings, listener, local))


def configure_logging(level: str) -> None:
    """One line an event, in UTC, on standard error."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level="WARNING", format=FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    # Only ours: others log statements with their parameters.
    logging.getLogger("tallyman").setLevel(level.upper())
    # They log requests with their bytes and addresses, which may hold a key or what was asked.
    for name in ("aiohttp", "urllib3", "clickhouse_connect", "stripe"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as err:
        number = err.errno or 0  # negative where the name could not be resolved
        reason = os.strerror(number).lower() if number > 0 else str(err.strerror)
        raise ConfigurationError(f"cannot listen on host {host}, port {port}: {reason}") from err
    with listener:
        yield listener


async def _serve(settings: Settings, listener: socket.socket, local: socket.socket | None) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    application = app.build(settings)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=CLOSING_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        if local is not None:
            await web.SockSite(runner, local).start()
        host, port = listener.getsockname()[:2]
        await _greet(application, settings, f"http://{f'[{host}]' if ':' in host else host}:{port}")
        await stop.wait()
        click.echo("Stopping: requests under way are finished first.")
    finally:
        # A second signal ends the process at once.
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(name)
        for site in list(runner.sites):
            await site.stop()
        # aiohttp's own shutdown drops the rest of a body that is still coming in.
        await application[REQUESTS].finish(settings.shutdown_seconds)
        await runner.cleanup()


async def _greet(application: web.Application, settings: Settings, url: str) -> None:
    """Say where it listens and where it stores; on a first start also the key to begin with."""
    embedded = settings.data_dir.resolve()
    events = "ClickHouse" if settings.clickhouse_url else f"chDB in {embedded}"
    relational = "Postgres" if settings.database_url else f"SQLite in {embedded}"
    click.echo(f"Tallyman listens on {url}; the API is described at {url}/docs")
    click.echo(f"Events: {events}. Meters and keys: {relational}.")
    if await application[KEYS].count() > 0:
        return
    if settings.database_url is not None:  # its output may be in many logs
        click.echo("There is no API key yet: tallyman keys create --scope admin")
        return
    _, secret = await application[KEYS].create(DEFAULT_NAMESPACE, "first start", [Scope.ADMIN])
    await application[METERS].add_built_in(DEFAULT_NAMESPACE)
    click.echo(
        "\nAn API key with the scope admin, shown only now:\n"
        f"  {secret}\n\nTry it:\n"
        f"  curl -H 'Authorization: Bearer {secret}' {url}/api/v3/openmeter/meters\n"
    )
