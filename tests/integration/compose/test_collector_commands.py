"""Runs the collector's commands as docker-compose.yml does, on its settings, without chDB."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.rigs.clickhouse import ClickHouse
from tests.rigs.kafka import Kafka
from tests.rigs.ports import free_ports
from tests.rigs.postgres import postgres
from tests.unit.compose.composed import ROOT, environment, services

# The image has the extra `collector` alone: an import of what it does not have must fail here too.
TALLYMAN = """
import sys
for missing in ("chdb", "pyarrow", "kong_pdk", "gevent", "pytest"):
    sys.modules[missing] = None
from tallyman.cli import main
main()
"""
EVENT = {
    "specversion": "1.0",
    "id": "f64d6c119e85010bad73c7672ee20978:proxy:request",
    "source": "kong",
    "type": "llm.tokens",
    "subject": "acme-corp",
    "time": "2026-11-21T09:24:33.353Z",
    "data": {"tokens": 9, "type": "request", "model": "gpt-4o"},
}
API = "/api/v3/openmeter"


async def test_an_event_goes_the_deployments_way_from_the_api_through_kafka_to_a_meter(
    kafka: Kafka, clickhouse_server: ClickHouse, clickhouse_database: str, tmp_path: Path
) -> None:
    topics = ("deployed.llm.usage", "deployed.llm.usage.dead")
    for topic in topics:
        await kafka.create_topic(topic)
    with postgres() as database_url:
        api_port, page_port = free_ports(2)
        settings = {
            "TALLYMAN_PORT": str(api_port),
            "TALLYMAN_CONSUME_PORT": str(page_port),
            "TALLYMAN_DATABASE_URL": database_url,
            "TALLYMAN_CLICKHOUSE_URL": url_of(clickhouse_server, clickhouse_database),
            "TALLYMAN_KAFKA_BROKERS": kafka.bootstrap,
            "TALLYMAN_KAFKA_TOPIC": topics[0],
            "TALLYMAN_KAFKA_DEAD_TOPIC": topics[1],
            "TALLYMAN_KONG_CONFIG": mounted_from(environment("collector")["TALLYMAN_KONG_CONFIG"]),
        }
        migrated, _ = await finished("collector-migrate", settings, tmp_path)
        key_made, key = await finished(
            "collector", settings, tmp_path, ["keys", "create", "--scope", "admin"]
        )
        headers = {"Authorization": f"Bearer {key.strip()}"}
        async with (
            running("collector", settings, tmp_path),
            running("consumer", settings, tmp_path),
            aiohttp.ClientSession(f"http://127.0.0.1:{api_port}", headers=headers) as session,
        ):
            await until_healthy(session, health_url("collector").replace("8888", str(api_port)))
            await until_healthy(session, health_url("consumer").replace("8889", str(page_port)))
            taken = await session.post(f"{API}/events", json=EVENT)
            rows = await until_metered(session)

        assert (migrated, key_made, taken.status) == (0, 0, 202)
        assert [row["value"] for row in rows] == ["9"]
        assert files_in(tmp_path) == []  # the image's file system is read-only


def url_of(server: ClickHouse, database: str) -> str:
    return f"http://{server.username}:{server.password}@{server.host}:{server.port}/{database}"


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def mounted_from(path: str) -> str:
    """The file in the project that the collector's container has at this path."""
    volumes = [volume.split(":") for volume in services()["collector"]["volumes"]]
    return next(str(ROOT / source) for source, target, *_ in volumes if target == path)


def health_url(service: str) -> str:
    """The URL that the service's health check asks."""
    command = " ".join(services()[service]["healthcheck"]["test"])
    return command.partition("urlopen('")[2].partition("'")[0]


async def start(
    service: str, settings: Mapping[str, str], folder: Path, command: Sequence[str] = ()
) -> asyncio.subprocess.Process:
    """The service's command, or another, on its settings with some replaced."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", TALLYMAN),
        *(command or services()[service]["command"]),
        env={**environment(service), **settings},
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
    )


async def finished(
    service: str, settings: Mapping[str, str], folder: Path, command: Sequence[str] = ()
) -> tuple[int | None, str]:
    process = await start(service, settings, folder, command)
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, said.decode()


@asynccontextmanager
async def running(service: str, settings: Mapping[str, str], folder: Path) -> AsyncIterator[None]:
    process = await start(service, settings, folder)
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.communicate(), 60)


async def until_healthy(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)


async def until_metered(session: aiohttp.ClientSession) -> list[dict[str, Any]]:
    async with asyncio.timeout(60):
        while True:
            url = f"{API}/meters/kong_konnect_llm_tokens/query"
            async with session.post(url, json={"group_by_dimensions": ["model"]}) as answer:
                rows: list[dict[str, Any]] = json.loads(await answer.read())["data"]
            if any(row["value"] != "0" for row in rows):
                return rows
            await asyncio.sleep(0.05)
