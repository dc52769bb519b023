"""`tallyman customers import`: from decK's files and from Kong's Admin API, on both databases."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result
from tallyman.cli import main
from tallyman.domain.customer import Customer
from tallyman.store.customers import CustomerStore
from tallyman.store.database import Database

from tests.rigs.kong_admin import Entities, kong_admin

DECK = Path(__file__).parents[3] / "deck"
CONSUMERS = [
    {"id": f"id-{number}", "username": f"user-{number}", "custom_id": f"c-{number}", "tags": ["x"]}
    for number in range(5)
]


class Installation:
    """A database of its own, and the command on it."""

    def __init__(self, environment: dict[str, str], database: Database) -> None:
        self._environment = environment
        self._database = database

    async def run(self, *arguments: str, **environment: str) -> Result:
        """The command has an event loop of its own, so it runs in a thread."""
        runner = CliRunner(env={**self._environment, **environment})
        return await asyncio.to_thread(
            runner.invoke, main, ["customers", "import", *arguments], catch_exceptions=False
        )

    async def customers(self) -> dict[str, Customer]:
        await self._database.migrate()
        return {found.key: found for found in await CustomerStore(self._database).every()}


@pytest.fixture(params=["sqlite", "postgres"])
async def installation(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Installation]:
    """Nothing in it yet; the command migrates it."""
    environment = {"TALLYMAN_DATA_DIR": str(tmp_path)}
    if request.param == "sqlite":
        database = Database.sqlite(tmp_path / "tallyman.sqlite3")
    else:
        url = request.getfixturevalue("postgres_url")
        connection = await asyncpg.connect(url)
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await connection.close()
        environment["TALLYMAN_DATABASE_URL"] = url
        database = Database.postgres(url)
    yield Installation(environment, database)
    await database.close()


async def test_the_consumers_of_every_deck_file_of_ours_become_customers(
    installation: Installation,
) -> None:
    files = [DECK / name for name in ("kong.yaml", "no-plugin.yaml", "providers.yaml")]

    done = await installation.run(*(part for file in files for part in ("--deck", str(file))))

    assert done.exit_code == 0, done.output
    assert {key: one.subject_keys for key, one in (await installation.customers()).items()} == {
        name: (name,) for name in ("acme-corp", "globex", "initech")
    }
    # one file has a custom_id for a consumer that another has without
    assert "4 consumers, by username: 3 made, 1 changed, 0 left, 0 refused." in done.output


async def test_every_page_of_the_admin_api_is_read_and_again_nothing_changes(
    installation: Installation,
) -> None:
    async with kong_admin({"consumers": CONSUMERS, "plugins": []}, under="/team") as url:
        first = await installation.run("--kong-admin", url)
        made = await installation.customers()
        again = await installation.run("--kong-admin", f"{url}/")

    assert sorted(made) == [f"user-{number}" for number in range(5)]
    assert made["user-3"].labels == {"x": "true", "custom_id": "c-3"}
    assert "5 made, 0 changed, 0 left" in first.output
    assert "0 made, 0 changed, 5 left" in again.output
    assert await installation.customers() == made


async def test_a_dry_run_shows_what_it_would_do_and_does_nothing(
    installation: Installation,
) -> None:
    async with kong_admin({"consumers": CONSUMERS, "plugins": []}) as url:
        done = await installation.run("--kong-admin", url, "--dry-run")

    assert "user-4" in done.output
    assert "to be made" in done.output
    assert "5 made, 0 changed, 0 left, 0 refused; nothing was done." in done.output
    assert await installation.customers() == {}


@pytest.mark.parametrize(
    ("plugin", "subjects"),
    [
        pytest.param({}, ("user-0",), id="by default the username"),
        pytest.param({"subject": {"field": "custom_id"}}, ("c-0",), id="its custom_id"),
        pytest.param(
            {"subject": {"look_up_value_in": "credential"}}, ("key-1", "jwt-1"), id="its keys"
        ),
    ],
)
async def test_the_subject_is_what_the_gateways_plugin_says(
    installation: Installation, plugin: dict[str, Any], subjects: tuple[str, ...]
) -> None:
    entities: Entities = {
        "consumers": CONSUMERS[:1],
        "plugins": [
            {"name": "key-auth", "config": {}},
            {"name": "tallyman", "config": {"subject": {"field": "id"}}, "enabled": False},
            {"name": "tallyman", "config": plugin},
        ],
        "key-auths": [{"id": "key-1", "consumer": {"id": "id-0"}}],
        "jwts": [{"id": "jwt-1", "consumer": {"id": "id-0"}}],
    }
    async with kong_admin(entities) as url:
        done = await installation.run("--kong-admin", url)

    assert done.exit_code == 0, done.output
    assert sorted((await installation.customers())["user-0"].subject_keys) == sorted(subjects)


async def test_a_deck_file_says_the_subject_too_and_the_option_wins(
    installation: Installation, tmp_path: Path
) -> None:
    file = tmp_path / "kong.yaml"
    file.write_text(
        "_format_version: '3.0'\n"
        "consumers:\n"
        "  - username: '${{ env \"DECK_NAME\" }}'\n"
        "    custom_id: c-1\n"
        "plugins:\n"
        "  - {name: tallyman, config: {subject: {field: custom_id}}}\n"
    )

    unset = await installation.run("--deck", str(file))
    done = await installation.run("--deck", str(file), DECK_NAME="acme")
    by_name = await installation.run("--deck", str(file), "--subject", "username", DECK_NAME="acme")

    assert unset.exit_code == 2
    assert "consumers[0] depends on DECK_NAME, which is not set" in unset.output
    assert "by custom_id: 1 made" in done.output
    assert "by username: 0 made, 1 changed" in by_name.output
    assert (await installation.customers())["acme"].subject_keys == ("c-1", "acme")


async def test_what_is_refused_is_shown_and_the_others_are_made(
    installation: Installation,
) -> None:
    consumers = [{"id": "1", "username": "u" * 257}, {"id": "2", "username": "bob"}]
    async with kong_admin({"consumers": consumers, "plugins": []}) as url:
        done = await installation.run("--kong-admin", url)

    assert done.exit_code == 1
    assert "the name is longer than 256 characters" in done.output
    assert list(await installation.customers()) == ["bob"]


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        pytest.param("wrong", "answered 401", id="refused"),
        pytest.param("right", "/plugins is not there: is this Kong's Admin API?", id="no Kong"),
    ],
)
async def test_an_admin_api_that_does_not_answer_is_one_sentence(
    installation: Installation, token: str, sentence: str
) -> None:
    async with kong_admin({}, token="right") as url:
        done = await installation.run("--kong-admin", url, KONG_ADMIN_TOKEN=token)

    assert done.exit_code == 1
    assert sentence in done.output
    assert done.output.count("\n") == 1


async def test_a_header_as_the_subject_is_no_consumers(installation: Installation) -> None:
    config = {"subject": {"look_up_value_in": "header", "field": "x-user"}}
    entities: Entities = {
        "consumers": CONSUMERS,
        "plugins": [{"name": "tallyman", "config": config}],
    }
    async with kong_admin(entities) as url:
        done = await installation.run("--kong-admin", url)

    assert done.exit_code == 2
    assert "from the header x-user" in done.output


async def test_either_a_file_or_a_gateway_is_asked(installation: Installation) -> None:
    for arguments in ((), ("--deck", os.devnull, "--kong-admin", "http://localhost")):
        done = await installation.run(*arguments)

        assert done.exit_code == 2
        assert "give either --deck or --kong-admin" in done.output
