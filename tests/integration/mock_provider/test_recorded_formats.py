"""Holds the mock provider's formats to the recordings: the same events, of the same shape."""

import base64
import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mock_provider.app import build

CHUNKS = Path(__file__).parents[2] / "golden" / "chunks"
ALL_NUMBERS = "cached=1, written=1, reasoning=1"
SAID = "Hello from the mock model, nice to meet you."

GEMINI = "/v1beta/models/gemini-1.5-pro"
GEMINI_ASKED = {"contents": [{"role": "user", "parts": [{"text": SAID}]}]}


@pytest.mark.parametrize(
    ("recording", "path", "body"),
    [
        pytest.param(
            "openai_frame",
            "/v1/chat/completions",
            {
                "model": "gpt-4o",
                "messages": [{"role": "user", "content": SAID}],
                "stream": True,
                "stream_options": {"include_usage": True},
            },
            id="OpenAI, streamed",
        ),
        pytest.param(
            "full_openai",
            "/v1/chat/completions",
            {"model": "gpt-4o", "messages": [{"role": "user", "content": SAID}]},
            id="OpenAI, whole",
        ),
        pytest.param(
            "anthropic_frame",
            "/v1/messages",
            {
                "model": "claude-3-5-sonnet",
                "max_tokens": 100,
                "messages": [{"role": "user", "content": SAID}],
                "stream": True,
            },
            id="Anthropic, streamed",
        ),
        pytest.param(
            "full_anthropic",
            "/v1/messages",
            {
                "model": "claude-3-5-sonnet",
                "max_tokens": 100,
                "messages": [{"role": "user", "content": SAID}],
            },
            id="Anthropic, whole",
        ),
        pytest.param(
            "gemini_sse",
            f"{GEMINI}:streamGenerateContent?alt=sse",
            GEMINI_ASKED,
            id="Gemini, streamed as events",
        ),
        pytest.param(
            "gemini_native_stream",
            f"{GEMINI}:streamGenerateContent",
            GEMINI_ASKED,
            id="Gemini, streamed as an array",
        ),
    ],
)
async def test_the_mock_sends_what_the_recording_holds(
    recording: str, path: str, body: dict[str, Any]
) -> None:
    async with TestClient(TestServer(build())) as client:
        answer = await client.post(path, json=body, headers={"X-Mock": ALL_NUMBERS})
        sent = await answer.text()

    assert sequence(sent) == sequence(recorded(recording))


def recorded(name: str) -> str:
    chunks = json.loads((CHUNKS / f"{name}.json").read_text())["chunks"]
    return b"".join(base64.b64decode(chunk) for chunk, _ in chunks).decode()


def sequence(stream: str) -> list[str]:
    """The shapes of a stream's events in their order; a run of like ones once."""
    if stream.lstrip().startswith(("{", "[")):
        body = json.loads(stream)
        shapes = [shape(part) for part in body] if isinstance(body, list) else [shape(body)]
    else:
        shapes = [
            json.dumps(shape(json.loads(line[6:]))) if line.startswith("data: {") else line
            for line in stream.splitlines()
            if line
        ]
    return [str(key) for key, _ in groupby(map(str, shapes))]


def shape(value: Any) -> Any:
    """The value with its leaves replaced by their types; event types and finish reasons stay."""
    if isinstance(value, dict):
        kept = ("type", "object", "role", "finish_reason", "stop_reason", "finishReason")
        return {
            key: item if key in kept and isinstance(item, str) else shape(item)
            for key, item in sorted(value.items())
        }
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__
