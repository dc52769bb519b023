"""How much of what a provider reports is read: each bound on its edge, what is within and what is beyond."""

import json
from typing import Any

import pytest

from tests.lua.gateway import CURE, OFF, Switches, needs_luajit, play

pytestmark = needs_luajit

BOUND = 1024 * 1024
USAGE = {"prompt_tokens": 23, "completion_tokens": 11}


def published(document: Any) -> Any:
    body = b"data: " + json.dumps(document).encode() + b"\n\n"
    return play("lines", [(body, True)])["published"]


def test_usage_is_read_four_objects_deep_and_no_deeper() -> None:
    deep = {"n": 1, "a": {"n": 2, "b": {"n": 3, "c": {"n": 4, "d": {"n": 5, "e": {"n": 6}}}}}}

    read = published({"usage": deep})["usage"]["usage"]

    assert read == {"n": 1, "a": {"n": 2, "b": {"n": 3, "c": {"n": 4, "d": {}}}}}


def test_the_first_128_numbers_are_read_and_no_more() -> None:
    read = published({"usage": {f"n{i}": i for i in range(200)}})["usage"]["usage"]

    assert read == {f"n{i}": i for i in range(128)}


def test_a_name_may_have_64_characters() -> None:
    read = published({"usage": {"n" * 64: 1, "m" * 65: 2}})["usage"]["usage"]

    assert read == {"n" * 64: 1}


@pytest.mark.parametrize(("length", "is_read"), [(255, True), (256, False)])
def test_a_model_s_name_may_have_255_characters(length: int, is_read: bool) -> None:
    assert ("model" in published({"model": "m" * length})) == is_read


@pytest.mark.parametrize("switches", [pytest.param(OFF, id="off"), pytest.param(CURE, id="cured")])
@pytest.mark.parametrize(("beyond", "is_read"), [(0, True), (1, False)])
@pytest.mark.parametrize("mode", ["lines", "json", "aws"])
def test_a_message_of_1_mib_is_read_and_one_byte_more_is_passed_on_unread(
    mode: str, beyond: int, is_read: bool, switches: Switches
) -> None:
    size = BOUND + beyond
    first, last = b'{"usage": ' + json.dumps(USAGE).encode() + b', "x": "', b'"}'
    if mode == "lines":
        first, end = b"data: " + first, b"\n\n"
    elif mode == "json":
        size += 1  # the brace that ends it is not held
        end = b""
    else:
        first, last, end = size.to_bytes(4, "big") + bytes(8) + first, last + bytes(4), b""
    message = first + b"x" * (size - len(first) - len(last)) + last
    chunks = [(message[:-1], False), (message[-1:], False), (end, True)]

    played = play(mode, chunks, switches)

    assert ("usage" in played["published"]) == is_read
    assert b"".join(played["passed"]) == message + end
    if not is_read:
        assert played["published"].get("over") or played["published"].get("bad")
