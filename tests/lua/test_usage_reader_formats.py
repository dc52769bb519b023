"""Where each provider's format has its numbers, its model and its end, also where no recording has it."""

import json
from typing import Any

import pytest

from tests.lua.gateway import CURE, OFF, Switches, needs_luajit, play

pytestmark = needs_luajit

N = {"n": 7}
BEFORE = {"choices": [{"delta": {"content": "hi"}}]}  # the first document is read whatever is in it


def published(*documents: Any, switches: Switches = OFF) -> Any:
    body = b"".join(b"data: " + json.dumps(d).encode() + b"\n\n" for d in documents)
    return play("lines", [(body, False)], switches)["published"]


@pytest.mark.parametrize(
    ("where", "document"),
    [
        ("usage", {"choices": [], "usage": N}),
        ("x_groq.usage", {"choices": [], "x_groq": {"id": "r", "usage": N}}),
        ("response.usage", {"type": "response.completed", "response": {"usage": N}}),
        ("message.usage", {"type": "message_start", "message": {"usage": N}}),
        ("usageMetadata", {"candidates": [], "usageMetadata": N}),
        ("response.usageMetadata", {"response": {"usageMetadata": N}}),
        ("meta", {"text": "hi", "meta": N}),
        ("response.meta", {"event_type": "stream-end", "response": {"meta": N}}),
        ("delta.usage", {"type": "message-end", "delta": {"usage": N}}),
    ],
)
def test_usage_is_published_under_the_name_of_where_it_stood(
    where: str, document: dict[str, Any]
) -> None:
    assert published(BEFORE, document)["usage"] == {where: N}


def test_ollama_s_two_numbers_are_published_and_nothing_else_of_its_document() -> None:
    last = {"done": True, "eval_count": 3, "prompt_eval_count": 4, "eval_duration": 5}

    assert published(BEFORE, last)["usage"] == {"ollama": {"prompt_eval_count": 4, "eval_count": 3}}
    assert "usage" not in published(BEFORE, {"eval_count": "3", "prompt_eval_count": None})


@pytest.mark.parametrize(
    ("document", "done"),
    [
        ({"type": "response.completed"}, True),
        ({"type": "response.incomplete"}, True),
        ({"type": "response.failed"}, True),
        ({"type": "response.output_text.delta"}, False),
        ({"type": "message_stop"}, True),
        ({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": N}, False),
        ({"usageMetadata": N, "candidates": [{"finishReason": "STOP"}]}, True),
        ({"usageMetadata": N, "candidates": [{}]}, False),
        ({"candidates": [{"finishReason": "STOP"}]}, False),
        ({"event_type": "stream-end", "response": {"meta": N}}, True),
        ({"type": "message-end", "delta": {"usage": N}}, True),
        ({"is_finished": True, "meta": N}, True),
        ({"is_finished": False, "meta": N}, False),
        ({"done": True, "eval_count": 3}, True),
        ({"done": False, "eval_count": 3}, False),
    ],
)
def test_a_format_s_own_end_ends_the_stream(document: dict[str, Any], done: bool) -> None:
    assert published(BEFORE, document)["done"] is done


@pytest.mark.parametrize(
    "document",
    [
        {"model": "m-1", "usage": N},
        {"modelVersion": "m-1", "usageMetadata": N},
        {"type": "message_start", "message": {"model": "m-1", "usage": N}},
        {"type": "response.completed", "response": {"model": "m-1"}},
        {"model": "m-1", "done": True, "eval_count": 3},
    ],
)
def test_the_model_that_answered_is_published(document: dict[str, Any]) -> None:
    assert published({"model": "m-0"}, document)["model"] == "m-1"


def test_a_list_of_known_length_is_passed_on_untouched() -> None:
    chunks = [(b'[{"a": 1}, {"b"', False), (b": 2}]", True)]

    assert play("json", chunks, CURE, length="22")["writes"] == 0


@pytest.mark.parametrize(("body", "done"), [(b'[{"a": 1}]', True), (b'[{"a": 1}', False)])
def test_a_list_ends_with_its_bracket(body: bytes, done: bool) -> None:
    assert play("json", [(body, False)])["published"]["done"] is done
