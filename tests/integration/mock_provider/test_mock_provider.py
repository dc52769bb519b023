"""Holds the mock provider to its own promises: a bill checked by hand, and faults on demand."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from tallyman_kong.provider_usage import Counted, read_reported

from mock_provider.app import build

Client = TestClient[web.Request, web.Application]

SYSTEM = "Answer in one line"  # 4 words
ASKED = "Say what a Fourier transform does"  # 6 words, which are the answer too


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with TestClient(TestServer(build())) as client:
        yield client


def openai(**more: Any) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": ASKED}]
    return "/v1/chat/completions", {"model": "gpt-4o", "messages": messages, **more}


def anthropic(**more: Any) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": [{"type": "text", "text": ASKED}]}]
    body = {"model": "claude-3-5-sonnet", "system": SYSTEM, "messages": messages}
    return "/v1/messages", {**body, "max_tokens": 1000, **more}


def gemini(method: str = "generateContent", **more: Any) -> tuple[str, dict[str, Any]]:
    body = {
        "systemInstruction": {"parts": [{"text": SYSTEM}]},
        "contents": [{"role": "user", "parts": [{"text": ASKED}]}],
    }
    return f"/v1beta/models/gemini-1.5-pro:{method}", {**body, **more}


@pytest.mark.parametrize(
    ("asked", "usage_of"),
    [
        pytest.param(openai(), lambda body: {"usage": body["usage"]}, id="OpenAI"),
        pytest.param(anthropic(), lambda body: {"usage": body["usage"]}, id="Anthropic"),
        pytest.param(gemini(), lambda body: {"usageMetadata": body["usageMetadata"]}, id="Gemini"),
    ],
)
async def test_a_word_is_a_token_on_both_sides_in_every_format(
    client: Client, asked: tuple[str, dict[str, Any]], usage_of: Callable[[Any], dict[str, Any]]
) -> None:
    path, body = asked
    answer = await client.post(
        path, json=body, headers={"X-Mock": "cached=3, written=2, reasoning=5"}
    )

    reported = read_reported(usage_of(await answer.json()))

    assert reported is not None
    assert (reported.request, reported.response) == (Counted(4 + 6), Counted(6 + 5))
    assert reported.cache_read == Counted(3)


async def test_an_openai_stream_reports_only_when_asked(client: Client) -> None:
    plain = await events(client, *openai(stream=True))
    asked = await events(client, *openai(stream=True, stream_options={"include_usage": True}))

    assert all("usage" not in chunk for chunk in plain)
    assert [chunk["usage"] for chunk in asked[:-1]] == [None] * 7  # six words and the finish
    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"]["prompt_tokens"] == 10
    assert asked[-1]["usage"]["completion_tokens"] == 6


async def test_an_anthropic_stream_holds_the_input_first_and_the_output_last(
    client: Client,
) -> None:
    stream = await events(client, *anthropic(stream=True), mock="cached=3, written=2")

    assert stream[0]["message"]["usage"] == {
        "input_tokens": 5,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 3,
        "output_tokens": 1,
        "service_tier": "standard",
    }
    assert stream[-2]["usage"] == {"output_tokens": 6}


async def test_a_gemini_stream_counts_up_and_ends_with_the_thoughts(client: Client) -> None:
    path, body = gemini("streamGenerateContent")

    stream = await events(client, f"{path}?alt=sse", body, mock="reasoning=5")
    array = json.loads(await text(client, path, body, mock="reasoning=5"))

    assert stream == array
    counts = [part["usageMetadata"]["candidatesTokenCount"] for part in stream]
    assert counts == [1, 2, 3, 4, 5, 6]
    assert stream[-1]["usageMetadata"]["thoughtsTokenCount"] == 5


async def test_the_answer_stops_at_the_limit_and_says_so(client: Client) -> None:
    answer = await client.post("/v1/chat/completions", json=openai(max_tokens=2)[1])

    body = await answer.json()
    assert body["choices"][0]["message"]["content"] == "Say what"
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("asked", [openai(), anthropic(), gemini()], ids=str)
async def test_an_error_comes_on_demand_in_the_providers_own_words(
    client: Client, asked: tuple[str, dict[str, Any]]
) -> None:
    path, body = asked
    answer = await client.post(path, json=body, headers={"X-Mock": "fault=429"})

    assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    assert "429" in (await answer.json())["error"]["message"]


async def test_a_models_name_can_ask_for_the_error(client: Client) -> None:
    path, body = openai(model="mock-503")

    answer = await client.post(path, json=body)

    assert answer.status == 503


async def test_a_cut_stream_ends_without_its_end(client: Client) -> None:
    path, body = openai(stream=True, stream_options={"include_usage": True})
    answer = await client.post(path, json=body, headers={"X-Mock": "fault=cut"})

    received = bytearray()
    with pytest.raises(aiohttp.ClientPayloadError):
        await drain(answer.content, received)

    assert received.count(b"data: ") == 4  # of nine
    assert b"[DONE]" not in received


async def test_a_cut_answer_never_comes(client: Client) -> None:
    path, body = anthropic()

    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.post(path, json=body, headers={"X-Mock": "fault=cut"})


async def test_a_slow_stream_can_be_left_in_the_middle(client: Client) -> None:
    path, body = openai(stream=True)
    async with client.post(path, json=body, headers={"X-Mock": "pause=0.01"}) as answer:
        first = await answer.content.readline()

    after = await client.post(path, json=openai()[1])

    assert first.startswith(b"data: ")
    assert after.status == 200


async def test_a_silent_answer_has_no_usage(client: Client) -> None:
    stream = await events(client, *anthropic(stream=True), mock="fault=silent")
    path, body = openai()
    whole = await client.post(path, json=body, headers={"X-Mock": "fault=silent"})

    assert "usage" not in json.dumps(stream)
    assert "usage" not in await whole.json()


@pytest.mark.parametrize(
    ("body", "mock", "says"),
    [
        pytest.param(b"{", "", "not JSON", id="broken JSON"),
        pytest.param(b"[]", "", "must be an object", id="a list"),
        pytest.param(b'{"model": "m"}', "", "messages", id="no messages"),
        pytest.param(b'{"messages": [{"content": "x"}]}', "", "model", id="no model"),
        pytest.param(json.dumps(openai()[1]).encode(), "fault=200", "fault", id="a fault of 200"),
        pytest.param(json.dumps(openai()[1]).encode(), "sleep=1", "sleep", id="an unknown wish"),
        pytest.param(json.dumps(openai()[1]).encode(), "pause=x", "pause", id="no number"),
    ],
)
async def test_a_bad_request_is_told_what_is_wrong(
    client: Client, body: bytes, mock: str, says: str
) -> None:
    answer = await client.post("/v1/chat/completions", data=body, headers={"X-Mock": mock})

    assert answer.status == 400
    assert says in (await answer.json())["error"]["message"]


async def text(client: Client, path: str, body: dict[str, Any], mock: str = "") -> str:
    answer = await client.post(path, json=body, headers={"X-Mock": mock})
    assert answer.status == 200
    return await answer.text()


async def drain(content: aiohttp.StreamReader, into: bytearray) -> None:
    async for piece in content.iter_any():
        into += piece


async def events(
    client: Client, path: str, body: dict[str, Any], mock: str = ""
) -> list[dict[str, Any]]:
    """The JSON of each `data:` line, without OpenAI's `[DONE]`."""
    lines = (await text(client, path, body, mock)).splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
