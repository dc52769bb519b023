"""Owns the API under test: the whole application over chDB and SQLite in a fresh directory."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from tallyman import app
from tallyman.api.state import CLOCK, DATABASE, EVENTS, KEYS
from tallyman.config import Settings
from tallyman.data_directory import database_path
from tallyman.domain.access import Scope

from tests.rigs.shop import DECEMBER, NOVEMBER, Shop

Client = TestClient[Request, Application]
ClientOf = Callable[..., Awaitable[Client]]


class Clock:
    """What the application takes for the time."""

    now = DECEMBER

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Small limits, so that a test reaches them."""
    return Settings(
        data_dir=tmp_path / "data",
        max_body_bytes=64 * 1024,
        max_batch_events=50,
        max_query_rows=49,
        billing_interval_seconds=0,  # a test bills when it says so
    )


@pytest.fixture
async def server(settings: Settings, migrated_sqlite: Path) -> AsyncIterator[TestServer]:
    """The application, listening."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(migrated_sqlite, database_path(settings.data_dir))
    server = TestServer(app.build(settings))
    async with server:
        yield server


@pytest.fixture
async def client_of(server: TestServer) -> AsyncIterator[ClientOf]:
    """Makes a client with a new key of these scopes in this namespace; without scopes, no key."""
    clients: list[Client] = []

    async def make(*scopes: Scope, namespace: str = "default") -> Client:
        headers = {}
        if scopes:
            _, secret = await server.app[KEYS].create(namespace, "test", scopes)
            headers["Authorization"] = f"Bearer {secret}"
        clients.append(TestClient(server, headers=headers))
        return clients[-1]

    yield make
    for client in clients:
        await client.session.close()


@pytest.fixture
async def client(client_of: ClientOf) -> Client:
    """A client that may do everything in the namespace `default`."""
    return await client_of(Scope.ADMIN)


@pytest.fixture
def clock(server: TestServer) -> Clock:
    """The application's time; it stands still at 1 December."""
    clock = Clock()
    server.app._state[CLOCK] = clock  # the application is frozen by now
    return clock


@pytest.fixture
async def shop(server: TestServer, clock: Clock) -> Shop:
    """Acme used 15,000 tokens in November, at 0.000002 each."""
    shop = Shop(server.app[DATABASE], server.app[EVENTS]._clickhouse, "default")
    await shop.plan(await shop.card())
    await shop.customer("acme")
    await shop.subscribe()
    await shop.use(15_000, NOVEMBER + timedelta(days=1))
    return shop
