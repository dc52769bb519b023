"""Plays the mock provider's answers into the usage reader: what it finds is the bill by hand."""

from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from tallyman_kong.provider_usage import Counted, read_reported

from mock_provider.app import build
from tests.lua.gateway import needs_luajit, play

SAID = "Explain what a Fourier transform does in two sentences."  # nine words
OPENAI: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": SAID}]}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": SAID}]}]}
AT_GEMINI = "/v1beta/models/gemini-1.5-pro"
USAGE = {"stream_options": {"include_usage": True}}

pytestmark = needs_luajit


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/chat/completions", OPENAI, id="OpenAI"),
        pytest.param("/v1/chat/completions", OPENAI | USAGE | {"stream": True}, id="OpenAI stream"),
        pytest.param("/v1/messages", OPENAI, id="Anthropic"),
        pytest.param("/v1/messages", OPENAI | {"stream": True}, id="Anthropic stream"),
        pytest.param(f"{AT_GEMINI}:generateContent", GEMINI, id="Gemini"),
        pytest.param(f"{AT_GEMINI}:streamGenerateContent", GEMINI, id="Gemini array"),
        pytest.param(f"{AT_GEMINI}:streamGenerateContent?alt=sse", GEMINI, id="Gemini stream"),
    ],
)
async def test_the_reader_finds_nine_words_asked_and_eleven_tokens_answered(
    path: str, body: dict[str, Any]
) -> None:
    mock = {"X-Mock": "cached=3, reasoning=2"}
    async with TestClient(TestServer(build())) as client:
        answer = await client.post(path, json=body, headers=mock)
        mode = "lines" if answer.content_type == "text/event-stream" else "json"
        sent = await answer.read()

    published = play(mode, [(sent[:700], False), (sent[700:], False), (b"", True)])["published"]

    reported = read_reported(published["usage"])
    assert reported is not None
    assert (reported.request, reported.response) == (Counted(9), Counted(9 + 2))
    assert (reported.cache_read, published["done"]) == (Counted(3), True)
