"""The thinnest way through: recorded gateway logs become events, and a meter answers for them."""

import json
from pathlib import Path

from aiohttp.test_utils import TestClient, TestServer
from tallyman import app
from tallyman.api.state import KEYS
from tallyman.config import Settings
from tallyman.domain.access import Scope
from tallyman_kong.usage import configuration, read

GOLDEN = Path(__file__).parents[1] / "golden" / "kong-3.9.3"


async def test_recorded_calls_become_a_token_meter_by_model_and_type(tmp_path: Path) -> None:
    names = ("openai_chat", "anthropic", "openai_chat_cost")
    entries = [
        json.loads((GOLDEN / f"{name}.json").read_text())["serialized_log"] for name in names
    ]
    events = [event for entry in entries for event in read(entry, configuration(None)).events]

    server = TestServer(app.build(Settings(data_dir=tmp_path)))
    async with TestClient(server) as client:
        _, secret = await server.app[KEYS].create("default", "test", [Scope.ADMIN])
        client.session.headers["Authorization"] = f"Bearer {secret}"
        stored = await client.post("/api/v3/openmeter/events", json=events)
        answer = await client.post(
            "/api/v3/openmeter/meters/kong_konnect_llm_tokens/query",
            json={"group_by_dimensions": ["model", "type"]},
        )

        assert stored.status == 202
        rows = (await answer.json())["data"]
        assert {
            (row["dimensions"]["model"], row["dimensions"]["type"]): row["value"] for row in rows
        } == {
            ("claude-3-5-sonnet", "request"): "25",
            ("claude-3-5-sonnet", "response"): "15",
            ("gpt-4o", "request"): "46",
            ("gpt-4o", "response"): "22",
        }
