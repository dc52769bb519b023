"""`POST /kong/log`: Kong's bundled http-log as a sink."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from tallyman.api.state import EVENTS, SETTINGS
from tallyman.config import Settings
from tallyman.domain.access import Scope
from tallyman_kong.usage import configuration, read

from tests.integration.api.conftest import Client, ClientOf

GOLDEN = Path(__file__).parents[2] / "golden" / "kong-3.9.3"
LOG = "/kong/log"


def entry(name: str = "openai_chat") -> dict[str, Any]:
    """A recorded entry."""
    recorded: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())["serialized_log"]
    return recorded


async def tokens(client: Client) -> dict[str, str]:
    """The tokens by subject."""
    answer = await client.post(
        "/api/v3/openmeter/meters/kong_konnect_llm_tokens/query",
        json={"group_by_dimensions": ["subject"]},
    )
    return {row["dimensions"]["subject"]: row["value"] for row in (await answer.json())["data"]}


async def test_an_entry_becomes_the_events_that_the_plugin_would_send(client: Client) -> None:
    answer = await client.post(LOG, json=entry())

    assert answer.status == 200
    assert await answer.json() == {
        "found": 2, "new": 2, "known": 0, "conflicts": 0, "ignored": 0, "bad": 0,
    }  # fmt: skip
    events = read(entry(), configuration(None)).events
    expected = str(sum(event["data"]["tokens"] for event in events))
    assert await tokens(client) == {events[0]["subject"]: expected}


async def test_a_bad_entry_does_not_keep_its_neighbours_out(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    nameless = entry("anthropic")
    nameless["request"]["id"] = None
    nameless["request"]["headers"]["x-canary"] = "canary"
    web_page = {"request": {"id": "a"}, "started_at": 1, "response": {"status": 200}}

    with caplog.at_level(logging.WARNING):
        answer = await client.post(LOG, json=[nameless, entry(), "canary", web_page])

    assert answer.status == 200
    assert await answer.json() == {
        "found": 2, "new": 2, "known": 0, "conflicts": 0, "ignored": 1, "bad": 2,
    }  # fmt: skip
    assert "[0]: the entry has no request.id" in caplog.text
    assert "[2]: the entry is no object" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize("body", [b"", b"{", b"7", b"null", b'"x"'])
async def test_what_is_no_log_is_refused(client: Client, body: bytes) -> None:
    answer = await client.post(LOG, data=body, headers={"Content-Type": "application/json"})

    assert answer.status == 400
    assert (await answer.json())["invalid_parameters"][0]["field"] == "body"


async def test_a_batch_with_more_events_than_one_may_have_is_refused_whole(
    client: Client, server: TestServer
) -> None:
    few = server.app[SETTINGS].model_copy(update={"max_batch_events": 3})
    server.app._state[SETTINGS] = few
    other = entry()
    other["request"]["id"] = "another"

    refused = await client.post(LOG, json=[entry(), other])
    taken = await client.post(LOG, json=other)

    assert (refused.status, taken.status) == (413, 200)
    assert (await refused.json())["detail"] == "the batch has 4 events, and may have 3"
    assert await server.app[EVENTS].count("default") == 2


async def test_an_ingest_key_is_enough(client_of: ClientOf) -> None:
    client = await client_of(Scope.INGEST)

    assert (await client.post(LOG, json=entry())).status == 200


class TestWithAGatewaysFile:
    """The events are made by the plugin's configuration in the gateway's own file."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        file = tmp_path / "kong.yaml"
        file.write_text(
            "plugins:\n"
            "- name: tallyman\n"
            "  config:\n"
            '    api_token: ${{ env "DECK_TALLYMAN_KEY" }}\n'
            "    subject: {look_up_value_in: consumer, field: id}\n"
        )
        return Settings(data_dir=tmp_path / "data", kong_config=file)

    async def test_its_subject_is_what_the_file_says(self, client: Client) -> None:
        await client.post(LOG, json=entry())

        assert set(await tokens(client)) == {entry()["consumer"]["id"]}
