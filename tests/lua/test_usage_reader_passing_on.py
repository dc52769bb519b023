"""What the client gets of an answer, and when an answer has ended, where no recording shows it."""

import json
from typing import Any

import pytest

from tests.lua.gateway import ASK, BOTH, CURE, Switches, needs_luajit, play

pytestmark = needs_luajit

USAGE = {"prompt_tokens": 23, "completion_tokens": 11}
CHUNK = b'data: {"choices": [], "usage": ' + json.dumps(USAGE).encode() + b"}\n"
WORD = b'data: {"choices": [{"delta": {"content": "hi"}}], "usage": null}\n\n'

asked = pytest.mark.parametrize(
    "switches", [pytest.param(ASK, id="asked"), pytest.param(BOTH, id="both")]
)


def passed(body: bytes, switches: Switches, mode: str = "lines") -> bytes:
    return b"".join(play(mode, [(body, False), (b"", True)], switches)["passed"])


@asked
@pytest.mark.parametrize("first", [b"event: usage\n", b"id: 7\n", b"data: half\n"])
def test_a_usage_chunk_within_a_larger_event_stays(first: bytes, switches: Switches) -> None:
    body = WORD + first + CHUNK + b"\n" + WORD + b"data: [DONE]\n\n"

    assert passed(body, switches) == body


@asked
def test_a_usage_chunk_after_a_comment_is_taken_out(switches: Switches) -> None:
    body = WORD + b": ping\n" + CHUNK + b"\n" + b"data: [DONE]\n\n"

    assert passed(body, switches) == WORD + b": ping\n" + b"data: [DONE]\n\n"


@asked
def test_usage_in_a_chunk_that_has_words_stays(switches: Switches) -> None:
    with_words = WORD.replace(b"null", json.dumps(USAGE).encode())
    body = with_words + b'data: {"usage": {"a": 1}}\n\n' + b'data: {"choices": []}\n\n'

    assert passed(body, switches) == body


def test_between_the_documents_of_a_cured_list_there_is_a_line_end() -> None:
    chunks = [(b'[{"a": 1}', False), (b', {"b": 2}', False), (b', {"c": 3}', False), (b"]", True)]

    played = play("json", chunks, CURE)

    assert played["passed"] == [b'[{"a": 1}\n', b', {"b": 2}\n', b', {"c": 3}\n', b"]"]


def running(usage: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0}], "usage": usage}).encode() + b"\n\n"


@pytest.mark.parametrize("usage", [USAGE, {"inputTokens": 3, "outputTokens": 4}, {}])
def test_usage_alone_does_not_end_a_stream(usage: dict[str, Any]) -> None:
    published = play("lines", [(running(usage) * 2, False)])["published"]

    assert published["done"] is False


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([b'{"a": 1}\n', b'{"b": 2}\n', b'{"c": 3}\n'], id="NDJSON"),
        pytest.param([WORD, b": ping\n\n", WORD, b"data: [DONE]\n\n"], id="events"),
    ],
)
def test_a_cured_message_is_passed_on_as_soon_as_it_is_whole(messages: list[bytes]) -> None:
    played = play("lines", [(message, False) for message in messages], CURE)

    assert played["passed"] == messages


@pytest.mark.parametrize(
    ("chunk", "left"),
    [
        pytest.param(CHUNK + b"\n", 0, id="a chunk that asking emptied"),
        pytest.param(WORD, 1, id="a chunk that it did not touch"),
        pytest.param(b"", 1, id="one that was empty as it came"),
    ],
)
def test_a_chunk_that_asking_emptied_repeats_no_event_in_ai_proxy(chunk: bytes, left: int) -> None:
    assert play("lines", [(WORD, False), (chunk, False)], ASK)["last_events"] == left
