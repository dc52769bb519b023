"""The plugin's sender and an embedded collector with a bad line between them."""

import asyncio
import itertools
import logging
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tallyman import app
from tallyman.api.new_subjects import NewSubjects
from tallyman.api.state import EVENTS, KEYS, NEW_SUBJECTS
from tallyman.config import Settings
from tallyman.domain.access import Scope
from tallyman_kong import delivery as delivery_module
from tallyman_kong.delivery import Delivery, SpoolAccess
from tallyman_kong.http_sink import HttpClient
from tallyman_kong.metrics import SEND_ERRORS
from tallyman_kong.sink import HttpSink
from tallyman_kong.spool import Figures, Spool
from yarl import URL

from tests.faults.arrived import tokens_of
from tests.faults.embedded_world import group_of
from tests.faults.traffic import Call, calls, expected, groups
from tests.rigs.plugin import until

CALLS = 60
PATIENCE_SECONDS = 120.0


class BadLine:
    """A proxy that loses requests before the collector, or its answer after it has stored: each once, then at random."""

    def __init__(self, collector: TestServer, seed: int) -> None:
        self.collector = collector
        self.chance = random.Random(seed)
        self.to_come = ["request", "answer"]
        self.lost = {"request": 0, "answer": 0}
        self.known = 0

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fates = [self.to_come.pop()] if self.to_come else ["well", "well", "request", "answer"]
        fate = self.chance.choice(fates)
        if fate != "request":
            headers = {name: request.headers[name] for name in ("Authorization", "Content-Type")}
            url = self.collector.make_url("/api/v3/openmeter/events")
            async with (
                aiohttp.ClientSession() as session,
                session.post(url, data=body, headers=headers) as answer,
            ):
                assert answer.status == 202, await answer.text()
                self.known += int(answer.headers["Tallyman-Known"])
        if fate == "well":
            return web.Response(status=202)
        self.lost[fate] += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response(status=500)


@pytest.fixture
async def collector(tmp_path: Path) -> AsyncIterator[TestServer]:
    server = TestServer(app.build(Settings(data_dir=tmp_path / "data")))
    async with server:
        yield server


@pytest.fixture(autouse=True)
def _quick_and_quiet(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "tallyman_kong")
    monkeypatch.setattr(delivery_module, "BATCH_EVENTS", 10)
    monkeypatch.setattr(delivery_module, "_pause_after", lambda _: 0.01)


async def send(these: Sequence[Call], collector: TestServer, url: URL, folder: Path) -> Figures:
    """Spool calls, send them with a key of the collector's until none waits, and see how it went."""
    _, secret = await collector.app[KEYS].create("default", "gateway", [Scope.INGEST])
    sink = HttpSink("sink-1", str(url), secret)
    spool = Spool(folder / "spool.db", "kong-1", max_bytes=10**9)
    for one in groups(these, 10):
        spool.append(group_of(one))
    delivery = Delivery(SpoolAccess(spool), sink, lambda _: HttpClient(sink))
    running = asyncio.create_task(delivery.run())
    seen_from_here = Spool(folder / "spool.db")
    await until(lambda: not seen_from_here.figures().waiting, PATIENCE_SECONDS)
    figures = seen_from_here.figures()
    seen_from_here.close()
    delivery.stop()
    await running
    return figures


async def test_an_answer_that_is_lost_after_the_collector_stored_counts_nothing_twice(
    collector: TestServer, tmp_path: Path, seed: int
) -> None:
    line = BadLine(collector, seed)
    proxy = web.Application()
    proxy.router.add_post("/events", line.pass_on)
    these = calls(seed, CALLS)
    async with TestServer(proxy) as server:
        await send(these, collector, server.make_url("/events"), tmp_path)

    assert await tokens_of(collector.app[EVENTS]) == expected(these)
    assert line.lost["answer"] > 0
    assert line.known > 0


async def test_a_plugin_that_brings_new_subjects_too_fast_waits_and_loses_nothing(
    collector: TestServer, tmp_path: Path, seed: int
) -> None:
    seconds = itertools.count(step=5.0)
    collector.app._state[NEW_SUBJECTS] = NewSubjects(
        10, collector.app[EVENTS].stored_subjects, lambda: next(seconds)
    )
    these = calls(seed, CALLS, consumers=CALLS)
    figures = await send(these, collector, collector.make_url("/api/v3/openmeter/events"), tmp_path)

    assert figures.counts[SEND_ERRORS.of(kind="http_429")] > 0
    assert figures.set_aside == 0
    assert await tokens_of(collector.app[EVENTS]) == expected(these)
