"""Slow questions of one key: others are answered meanwhile, and events are taken."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from clickhouse_connect.driver.client import Client as Driver
from tallyman.api.new_subjects import NewSubjects
from tallyman.api.state import BOOKS, EVENTS, NEW_SUBJECTS
from tallyman.domain.access import Scope
from tallyman.store.turns import asked_by

from tests.integration.api.conftest import Client, ClientOf
from tests.integration.api.test_ingest import EVENTS_PATH, TOTAL, event, total
from tests.rigs.plugin import until

METER_QUERY = "/api/v3/openmeter/meters/total/query"
FLOOD = 10


class Slow:
    """The driver's clients, which take as long for a question of some namespaces as a test lets them."""

    def __init__(self, server: TestServer, namespaces: set[str]) -> None:
        self._namespaces = namespaces
        self._end = threading.Event()
        self.under_way: list[str] = []
        for client in server.app[EVENTS]._clickhouse._all:
            self._make_slow(client)

    def _make_slow(self, client: Driver) -> None:
        ask = client.query

        def query(sql: str, parameters: dict[str, Any] | None = None, **more: Any) -> Any:
            namespace = (parameters or {}).get("namespace")
            if namespace in self._namespaces and not self._end.is_set():
                self.under_way.append(namespace)
                self._end.wait()
            return ask(sql, parameters=parameters, **more)

        client.query = query  # type: ignore[assignment, method-assign]

    def end(self) -> None:
        self._end.set()


@pytest.fixture
def slow(server: TestServer) -> Iterator[Slow]:
    made = Slow(server, {"slow-1", "slow-2", "slow-3"})
    yield made
    made.end()


def flood(client: Client) -> list[asyncio.Task[int]]:
    """Many questions of one key at once."""

    async def ask() -> int:
        answer = await client.post(METER_QUERY)
        return answer.status

    return [asyncio.create_task(ask()) for _ in range(FLOOD)]


async def with_a_meter(client_of: ClientOf, namespace: str) -> Client:
    client = await client_of(Scope.ADMIN, namespace=namespace)
    assert (await client.post("/api/v3/openmeter/meters", json=TOTAL)).status == 201
    return client


async def test_slow_questions_of_one_key_keep_no_other_key_out_and_are_all_answered(
    client_of: ClientOf, client: Client, slow: Slow
) -> None:
    asking = flood(await with_a_meter(client_of, "slow-1"))
    await until(lambda: len(slow.under_way) == 2)

    async with asyncio.timeout(8):
        assert (await client.post(EVENTS_PATH, json=event())).status == 202
        assert await total(client) == "100"
    assert len(slow.under_way) == 2

    slow.end()
    assert await asyncio.gather(*asking) == [200] * FLOOD


async def test_events_are_taken_while_slow_questions_of_many_keys_are_under_way(
    client_of: ClientOf, client: Client, slow: Slow
) -> None:
    clients = [await with_a_meter(client_of, f"slow-{number}") for number in (1, 2, 3)]
    asking = [task for client in clients for task in flood(client)]
    await until(lambda: len(slow.under_way) == 3)

    async with asyncio.timeout(8):
        assert (await client.post(EVENTS_PATH, json=event())).status == 202

    slow.end()
    assert await asyncio.gather(*asking) == [200] * FLOOD * 3


async def test_known_subjects_are_looked_up_while_slow_questions_of_many_keys_are_under_way(
    server: TestServer, client_of: ClientOf, client: Client, slow: Slow
) -> None:
    new, known = event(1), event(2, subject="user-002")
    assert (await client.post(EVENTS_PATH, json=known)).status == 202
    server.app._state[NEW_SUBJECTS] = NewSubjects(1, server.app[EVENTS].stored_subjects)
    assert (await client.post(EVENTS_PATH, json=new)).status == 202  # nothing is left
    clients = [await with_a_meter(client_of, f"slow-{number}") for number in (1, 2, 3)]
    asking = [task for client in clients for task in flood(client)]
    await until(lambda: len(slow.under_way) == 3)

    async with asyncio.timeout(8):
        assert (await client.post(EVENTS_PATH, json=known)).status == 202

    slow.end()
    assert await asyncio.gather(*asking) == [200] * FLOOD * 3


async def test_the_metrics_that_all_keys_share_wait_for_nobodys_questions(
    client_of: ClientOf, slow: Slow
) -> None:
    client = await with_a_meter(client_of, "slow-1")
    asking = flood(client)
    await until(lambda: len(slow.under_way) == 2)

    async with asyncio.timeout(8):
        assert (await client.get("/metrics")).status == 200

    slow.end()
    assert await asyncio.gather(*asking) == [200] * FLOOD


async def test_who_holds_a_transaction_does_not_wait_for_a_turn(
    server: TestServer, slow: Slow
) -> None:
    events, database = server.app[EVENTS], server.app[BOOKS].database
    with asked_by("key"):
        asking = [asyncio.create_task(events.count("slow-1")) for _ in range(FLOOD)]
        await until(lambda: len(slow.under_way) == 2)
        async with asyncio.timeout(8), database.together():
            assert await events.count("default") == 0

    slow.end()
    assert await asyncio.gather(*asking) == [0] * FLOOD
