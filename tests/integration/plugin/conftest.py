"""Owns the plugin's command and a receiver as fixtures; whatever a test starts is stopped."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.rigs.plugin import PluginCommand, Receiver


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    recorder = Receiver()
    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_post("/events", recorder.handle)
    async with TestServer(application) as server:
        recorder.url = str(server.make_url("/events"))
        yield recorder


@pytest.fixture
async def command(tmp_path: Path) -> AsyncIterator[Callable[..., PluginCommand]]:
    """Makes commands over the test's folder; all are killed at its end."""
    made: list[PluginCommand] = []

    def make(**options: object) -> PluginCommand:
        made.append(PluginCommand(tmp_path, **options))  # type: ignore[arg-type]  # as given
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
async def plugin(command: Callable[..., PluginCommand]) -> PluginCommand:
    """The command, started with a spool of its own and no metrics page."""
    return await command().start()
