"""Runs the collector's commands as docker-compose.yml does, on its settings, without chDB."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.rigs.clickhouse import ClickHouse
from tests.rigs.kafka import free_ports
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


async def test_the_collectors_services_run_one_after_the_other(
    clickhouse_server: ClickHouse, clickhouse_database: str, tmp_path: Path
) -> None:
    with postgres() as database_url:
        [port] = free_ports(1)
        settings = environment("collector") | {
            "TALLYMAN_HOST": "127.0.0.1",
            "TALLYMAN_PORT": str(port),
            "TALLYMAN_DATABASE_URL": database_url,
            "TALLYMAN_CLICKHOUSE_URL": url_of(clickhouse_server, clickhouse_database),
            "TALLYMAN_KONG_CONFIG": mounted_from(environment("collector")["TALLYMAN_KONG_CONFIG"]),
        }
        migrated, _ = await finished(services()["collector-migrate"]["command"], settings, tmp_path)
        key_made, key = await finished(["keys", "create", "--scope", "admin"], settings, tmp_path)

        async with serving(services()["collector"]["command"], settings, tmp_path):
            at = f"http://127.0.0.1:{port}"
            headers = {"Authorization": f"Bearer {key.strip()}"}
            async with aiohttp.ClientSession(headers=headers) as session:
                await until_healthy(session, health_url("collector").replace("8888", str(port)))
                answer = await session.get(f"{at}/api/v3/openmeter/meters")
                meters = {meter["key"] for meter in json.loads(await answer.read())["data"]}

        assert (migrated, key_made) == (0, 0)
        assert "kong_konnect_llm_tokens" in meters
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
    command: Sequence[str], settings: Mapping[str, str], folder: Path
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", TALLYMAN),
        *command,
        env=dict(settings),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
    )


async def finished(
    command: Sequence[str], settings: Mapping[str, str], folder: Path
) -> tuple[int | None, str]:
    process = await start(command, settings, folder)
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, said.decode()


@asynccontextmanager
async def serving(
    command: Sequence[str], settings: Mapping[str, str], folder: Path
) -> AsyncIterator[None]:
    process = await start(command, settings, folder)
    try:
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(process.communicate(), 30)


async def until_healthy(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)
