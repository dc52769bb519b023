"""Owns the API under test: the whole application over chDB and SQLite in a fresh directory."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from tallyman import app
from tallyman.api.state import KEYS
from tallyman.config import Settings
from tallyman.domain.access import Scope

Client = TestClient[Request, Application]
ClientOf = Callable[..., Awaitable[Client]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Small limits, so that a test reaches them."""
    return Settings(
        data_dir=tmp_path / "data",
        max_body_bytes=64 * 1024,
        max_batch_events=50,
        billing_interval_seconds=0,  # a test bills when it says so
    )


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[TestServer]:
    """The application, listening."""
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
