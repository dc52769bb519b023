"""Health, readiness and metrics."""

import asyncio
import re
import shutil
from pathlib import Path

from aiohttp.test_utils import TestServer
from prometheus_client.parser import text_string_to_metric_families
from tallyman.api.state import DATABASE
from tallyman.config import Settings

from tests.integration.api.conftest import Client

EVENT = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "x"}


async def samples(client: Client) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    text = await (await client.get("/metrics")).text()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


async def test_what_became_of_events_is_counted(client: Client) -> None:
    before = await samples(client)
    conflicting = {**EVENT, "subject": "another"}

    await client.post("/api/v3/openmeter/events", json=[EVENT, {**EVENT, "id": "2"}])
    known = await client.post("/api/v3/openmeter/events", json=[EVENT, conflicting])
    await client.post("/api/v3/openmeter/events", json={})
    after = await samples(client)

    assert known.status == 202
    assert known.headers["Tallyman-Conflicts"] == "1"
    counted = {
        result: after[key("tallyman_events_total", result=result)]
        - before.get(key("tallyman_events_total", result=result), 0)
        for result in ("new", "known", "conflict", "rejected")
    }
    assert counted == {"new": 2, "known": 1, "conflict": 1, "rejected": 1}


async def test_requests_are_counted_by_route_and_never_by_path(client: Client) -> None:
    await client.get("/api/v3/openmeter/meters/canary")
    await client.get("/canary")
    text = await (await client.get("/metrics")).text()

    assert "canary" not in text
    assert re.search(
        r'tallyman_http_requests_total\{method="GET",route="/meters/\{meterId\}",status="404"\}',
        text,
    )


async def test_it_is_alive_but_not_ready_without_its_database(
    client: Client, server: TestServer, settings: Settings
) -> None:
    ready = await client.get("/readyz")
    await server.app[DATABASE].close()
    await asyncio.to_thread(_break, settings.data_dir)

    alive = await client.get("/healthz")
    broken = await client.get("/readyz")

    assert (ready.status, alive.status, broken.status) == (200, 200, 503)
    assert (await broken.json())["code"] == "unavailable"


def _break(directory: Path) -> None:
    for file in directory.glob("tallyman.sqlite3*"):
        file.unlink()
    shutil.rmtree(directory / "tallyman.sqlite3", ignore_errors=True)
    (directory / "tallyman.sqlite3").mkdir()
