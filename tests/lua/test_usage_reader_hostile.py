"""What is not a provider's answer: the reader never fails, never holds more than its bound, and never
loses a byte of it."""

import json
import random
import re
from typing import Any

import pytest

from tests.lua.gateway import (
    ASK,
    BOTH,
    CURE,
    OFF,
    Switches,
    fail,
    flood,
    fuzz,
    in_bytes,
    needs_luajit,
    play,
    recordings,
)

pytestmark = needs_luajit

BOUND = 1024 * 1024
# Beside the unfinished message: the published numbers, and the names of the state's own fields.
AND_A_LITTLE = 16 * 1024
MIB = b"x" * 1024 * 1024

every_switch = pytest.mark.parametrize(
    "switches",
    [
        pytest.param(OFF, id="off"),
        pytest.param(ASK, id="asked"),
        pytest.param(CURE, id="cured"),
        pytest.param(BOTH, id="both"),
    ],
)


def usage(prompt: int, completion: int) -> str:
    return json.dumps({"usage": {"prompt_tokens": prompt, "completion_tokens": completion}})


def event(document: Any) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def said(content: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}}]}


TRUE_USAGE = {"prompt_tokens": 23, "completion_tokens": 11}
END = event({"choices": [], "usage": TRUE_USAGE}) + b"data: [DONE]\n\n"
NESTED = b"[" * 100_000

LINES = {
    "strings that look like usage": event(said(f"\n\ndata: {usage(999, 999)}\n\n")) + END,
    "usage in a tool's arguments": event(
        {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": usage(999, 999)}}]}}]}
    )
    + END,
    "a word that ends like a key": event(said('"usage"')) + event(said('\\"usage\\":{')) + END,
    "broken JSON": b'data: {"usage": {"prompt_tokens": 1, \n\ndata: {"usage"}\n\n' + END,
    "usage that is no object": event({"usage": [1], "choices": []}) + event({"usage": "x"}) + END,
    "members of other kinds": event({"usage": {"prompt_tokens": {"a": {}}}, "type": {"b": 1}})
    + event({"message": 5, "response": [], "delta": "d", "x_groq": True, "model": {"m": 1}})
    + END,
    "nested deep": b'data: {"usage": ' + NESTED + b"\n\n" + END,
    "nested deep in objects": b'data: {"usage":' + b'{"a":' * 50_000 + b"\n\n" + END,
    "a lone quote": b'data: {"\n\n"\n\ndata: "\n\n{"\n\n' + END,
    "a backslash at the end": b'data: {"usage": "\\\n\ndata: {"text": "\\\n\n' + END,
    "NUL bytes": b'data: {"usage": {"\x00": 1}}\n\n\x00\n\x00data: {}\n\n' + END,
    "bytes that are not UTF-8": b'data: {"model": "\xff\xfe", "text": "\xc3("}\n\n' + END,
    "lone carriage returns": b"data: {}\r\r\rdata: {}\r\n\r\n\n" + END,
    "keys without values": b'data: {"usage":}\n\ndata: {"usage":\n\ndata: {:}\n\n' + END,
}


@every_switch
@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in LINES.items()])
def test_only_the_true_usage_is_found_among_lines_that_look_like_it(
    body: bytes, switches: Switches
) -> None:
    played = play("lines", [(body, False), (b"", True)], switches)

    published = played["published"]
    assert published["usage"]["usage"] == TRUE_USAGE
    assert published["done"] is True
    assert "err" not in published
    passed = b"".join(played["passed"])
    assert passed.replace(b"\r\n", b"\n") in (
        body.replace(b"\r\n", b"\n"),
        body.replace(b"\r\n", b"\n").replace(event({"choices": [], "usage": TRUE_USAGE}), b""),
    )


@pytest.mark.parametrize(
    "body", [pytest.param(body, id=name) for name, body in LINES.items() if len(body) < 10_000]
)
def test_hostile_lines_are_read_alike_in_single_bytes(body: bytes) -> None:
    in_one = play("lines", [(body, False), (b"", True)], BOTH)
    in_many = play("lines", in_bytes(body), BOTH)

    assert in_many["published"] == in_one["published"]
    assert b"".join(in_many["passed"]) == b"".join(in_one["passed"])


@every_switch
@pytest.mark.parametrize(
    ("mode", "piece", "times", "then"),
    [
        pytest.param("lines", MIB, 10, b"\n\n" + END, id="a line of 10 MiB"),
        pytest.param("lines", b"data: " + MIB[:-6], 10, b"\n\n" + END, id="a data line of 10 MiB"),
        pytest.param("lines", b'{"a":"', 400_000, b"\n" + END, id="a line in small pieces"),
        pytest.param("lines", b"x", 1_200_000, b"\n" + END, id="a line in single bytes"),
        pytest.param("lines", b"data: x\n", 300_000, b"\n" + END, id="lines that no message ends"),
        pytest.param("lines", b"x" * 9000 + b"\n", 1000, b"\n" + END, id="long lines, no message"),
        pytest.param("lines", b"\n", 100_000, END, id="nothing but line ends"),
        pytest.param("json", MIB, 10, b"", id="10 MiB of no JSON"),
        pytest.param("json", b'{"a": "' + MIB, 10, b'"}', id="10 MiB of one JSON string"),
        pytest.param("json", b'[{"a": 1,', 300_000, b"}]", id="nested deep"),
        pytest.param("json", b"[", 100_000, b"]", id="100,000 brackets"),
        pytest.param("json", b"[ {} , " + b" " * 999, 5000, b"]", id="space between documents"),
        pytest.param("json", b"}", 100_000, b"{}", id="nothing but closing braces"),
        pytest.param("json", b"\\", 100_000, b'"', id="nothing but backslashes"),
        pytest.param("aws", b"\xff" * 100, 1000, b"", id="a frame of 4 GiB"),
        pytest.param(
            "aws", b"\x00\x10\x00\x00\x00\x00\x00\x00" + MIB[:-8], 9, b"", id="1 MiB frames"
        ),
        pytest.param(
            "aws", b"\x00\x0f\x00\x00\x00\x00\x00\x00", 200_000, b"", id="a long frame slowly"
        ),
        pytest.param("aws", b"\x00", 100_000, b"", id="nothing but zeros"),
    ],
)
def test_however_long_a_message_is_only_its_bound_is_held_and_no_byte_is_lost(
    mode: str, piece: bytes, times: int, then: bytes, switches: Switches
) -> None:
    done = flood(mode, piece, times, then, switches)

    sent = len(piece) * times + len(then)
    usage_chunk = len(event({"choices": [], "usage": TRUE_USAGE}))
    assert done["most_held"] <= BOUND + AND_A_LITTLE
    assert done["most_entries"] < 2000
    assert done["published"]["bytes"] == sent
    assert "err" not in done["published"]
    if mode == "lines":
        assert done["passed_bytes"] in (sent, sent - usage_chunk)
        assert done["published"]["usage"]["usage"] == TRUE_USAGE
    elif mode == "aws":
        assert done["passed_bytes"] == sent
    else:  # a list's documents are passed on with a line end after them
        assert sent <= done["passed_bytes"] <= sent + 2 * times
    assert done["seconds"] < 5


def test_a_line_beyond_the_bound_says_that_it_was_not_read() -> None:
    done = flood("lines", b"data: " + MIB, 2, b"\n\n" + END, OFF)

    assert done["published"]["over"] is True


def test_what_is_published_is_small_whatever_is_reported() -> None:
    many = {f"name_{i}": {"n": i, "m": {"o": i}} for i in range(20_000)}
    long = {"n" * 5000: 1, "prompt_tokens": 3, "words and words": 4}
    body = event({"usage": many}) + event({"usage": long, "model": "m" * 5000, "choices": []})

    published = play("lines", [(body, True)])["published"]

    assert published["usage"]["usage"] == {"prompt_tokens": 3}
    assert "model" not in published
    first = play("lines", [(event({"usage": many}), True)])["published"]
    assert len(json.dumps(first)) < 8000


@pytest.mark.parametrize("count", ["1e999", "-1e999", "nan", "inf", "1e308"])
def test_a_number_that_no_log_entry_could_hold_is_published_as_no_count(count: str) -> None:
    body = b'data: {"usage": {"prompt_tokens": %b}}\n\n' % count.encode()

    published = play("lines", [(body, True)])["published"]

    assert published["usage"]["usage"] == {"prompt_tokens": -1}


CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(event(said(CANARY)) + END, id="an answer"),
        pytest.param(event({"model": f"{CANARY} " * 40, "usage": TRUE_USAGE}), id="a long model"),
        pytest.param(event({"usage": {"x": CANARY, f"a {CANARY}": 1}}), id="usage with text"),
        pytest.param(b'data: {"usage": {' + CANARY.encode() + b"\n\n", id="broken JSON"),
        pytest.param(event({"type": CANARY, "usage": TRUE_USAGE}), id="a type"),
    ],
)
def test_no_text_of_an_answer_is_published(body: bytes) -> None:
    assert CANARY not in json.dumps(play("lines", [(body, True)], BOTH)["published"])


def mutated(seed: int) -> list[bytes]:
    """Recorded bodies with bytes changed, cut out and doubled, and bytes that are only random."""
    chance = random.Random(seed)
    bodies = [recording.body for recording in recordings() if len(recording.body) < 5000]
    made = []
    for _ in range(400):
        body = bytearray(chance.choice(bodies))
        for _ in range(chance.randint(1, 20)):
            at = chance.randrange(len(body))
            match chance.randrange(4):
                case 0:
                    body[at] = chance.randrange(256)
                case 1:
                    del body[at : at + chance.randint(1, 50)]
                case 2:
                    body[at:at] = body[at : at + chance.randint(1, 200)]
                case _:
                    body[at:at] = chance.choice(
                        (b'"', b"\\", b"{", b"}", b"[", b"\n", b"\r\n", b"\0")
                    )
            body = body or bytearray(b"{")
        made.append(bytes(body))
    return made + [chance.randbytes(chance.randint(1, 3000)) for _ in range(100)]


@every_switch
@pytest.mark.parametrize("mode", ["lines", "json", "aws"])
def test_random_bytes_never_make_the_reader_fail_or_lose_any(mode: str, switches: Switches) -> None:
    bodies = mutated(20261121)

    done = fuzz(mode, bodies, switches)

    assert done["failed"] == 0
    assert done["most_held"] <= BOUND
    assert done["came"] == sum(map(len, bodies))
    if mode == "aws" or not (switches.cure or switches.ask):
        assert done["went"] == done["came"]


def test_random_lines_that_are_cured_lose_nothing_but_carriage_returns() -> None:
    for body in mutated(7)[::3]:
        played = play("lines", [(body, True)], CURE)

        assert b"".join(played["passed"]) == re.sub(rb"\r\n", b"\n", body)


@every_switch
@pytest.mark.parametrize("mode", ["lines", "json", "aws"])
def test_a_reader_that_fails_passes_on_what_it_held_and_publishes_no_text(
    mode: str, switches: Switches
) -> None:
    first, second = b"data: half a ", CANARY.encode() + b"\n\n"
    if mode == "aws":
        first, second = b"\0\0\0\x20\0", b"\0\0\0" + b"\0\0\0\0{" + CANARY.encode() + b"}" * 9

    done = fail(mode, first, second, switches)

    assert b"".join(done["passed"]) == first + second + second
    assert CANARY not in json.dumps(done["published"])
    assert (done["published"].get("err"), done["published"]["eof"]) in (
        (mode, True),
        (None, True),  # a failure within one document is only counted
    )
