"""The curl lines of Konnect's metering walkthrough, with only the address and the key changed."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api.serving import serving

SEND = """curl -X POST $KONNECT_API_URL/events \\
  -H "Authorization: Bearer $KONNECT_TOKEN" \\
  -H "Content-Type: application/cloudevents+json" \\
  -d '{
    "specversion": "1.0",
    "id": "test-event-001",
    "source": "ai-text-api",
    "type": "llm_token_usage",
    "subject": "user-001",
    "time": "2026-04-13T10:30:00Z",
    "datacontenttype": "application/json",
    "data": {
      "total_tokens": 100,
      "prompt_tokens": 40,
      "completion_tokens": 60,
      "model": "gpt-4o-mini",
      "endpoint": "/api/generate"
    }
  }'"""
MAKE = """curl -X POST $KONNECT_API_URL/meters \\
  -H "Authorization: Bearer $KONNECT_TOKEN" \\
  -H "Content-Type: application/json" \\
  -d '{
    "key": "llm_completion_tokens",
    "name": "LLM Completion Tokens",
    "description": "LLM output/completion tokens consumed",
    "event_type": "llm_token_usage",
    "aggregation": "sum",
    "value_property": "$.completion_tokens",
    "dimensions": {
      "model": "$.model"
    }
  }'"""
LIST = """curl $KONNECT_API_URL/meters \\
  -H "Authorization: Bearer $KONNECT_TOKEN\""""
QUERY = """curl $KONNECT_API_URL/meters/llm_completion_tokens/query \\
  -H "Authorization: Bearer $KONNECT_TOKEN" \\
  -H "Content-Type: application/json" \\
  -d '{"group_by_dimensions": ["model", "subject"]}'"""


@pytest.mark.parametrize("prefix", ["/v3/openmeter", "/api/v3/openmeter"])
def test_the_walkthroughs_lines_work_with_another_address(tmp_path: Path, prefix: str) -> None:
    with serving(tmp_path) as server:
        environment = {
            **os.environ,
            "KONNECT_API_URL": f"http://127.0.0.1:{server.port}{prefix}",
            "KONNECT_TOKEN": server.hear(r"(tm_\S+)")[1],
        }

        def run(command: str) -> tuple[int, Any]:
            done = subprocess.run(
                ["bash", "-c", f"{command} --silent --write-out '\\n%{{http_code}}'"],
                env=environment,
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
            )
            body, _, status = done.stdout.rpartition("\n")
            return int(status), json.loads(body) if body else None

        assert run(SEND) == (202, None)
        assert run(SEND) == (202, None)
        status, made = run(MAKE)
        assert (status, made["key"]) == (201, "llm_completion_tokens")
        assert "llm_completion_tokens" in {meter["key"] for meter in run(LIST)[1]["data"]}
        _, answered = run(QUERY)

    (row,) = answered["data"]
    assert (row["value"], row["dimensions"]) == (
        "60",
        {"model": "gpt-4o-mini", "subject": "user-001"},
    )
