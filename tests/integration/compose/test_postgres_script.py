"""Runs the script that fills an empty Postgres on a real one."""

import asyncio
import os
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.rigs.postgres import postgres
from tests.unit.compose.composed import ROOT

SCRIPT = ROOT / "compose" / "postgres" / "databases.sh"


async def test_kong_and_the_collector_each_get_a_database_that_the_other_cannot_enter() -> None:
    with postgres() as url:
        at = {"host": "127.0.0.1", "port": urlsplit(url).port}
        await found_as_postgres(at)
        environment = {
            "PATH": os.environ["PATH"],
            "PGHOST": str(at["host"]),
            "PGPORT": str(at["port"]),
            "POSTGRES_USER": "postgres",
            "KONG_PG_PASSWORD": "of kong's",
            "COLLECTOR_PG_PASSWORD": 'with "marks"; --',
        }
        script = await asyncio.create_subprocess_exec(
            "bash", SCRIPT, env=environment, stderr=asyncio.subprocess.PIPE
        )
        _, said = await script.communicate()

        assert (script.returncode, said) == (0, b"")
        for user in ("kong", "tallyman"):
            connection = await asyncpg.connect(**at, user=user, database=user)
            await connection.execute("CREATE TABLE it_may_make_tables (id int)")
            await connection.close()
        for user, others in (("kong", "tallyman"), ("tallyman", "kong")):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await asyncpg.connect(**at, user=user, database=others)


async def found_as_postgres(at: dict[str, str | int | None]) -> None:
    """Name the founding user as Postgres's image does; here it has the name of one to be made."""
    founder = await asyncpg.connect(**at, user="tallyman", database="postgres")
    await founder.execute("CREATE ROLE postgres SUPERUSER LOGIN")
    await founder.close()
    connection = await asyncpg.connect(**at, user="postgres", database="postgres")
    await connection.execute("ALTER ROLE tallyman RENAME TO founder")
    await connection.close()
