"""What the reader finds in recorded answers, and that it passes on what came in."""

import json
import re
from typing import Any

import pytest

from tests.lua.gateway import (
    ASK,
    BOTH,
    CURE,
    OFF,
    Recording,
    Switches,
    cut,
    different_bodies,
    in_bytes,
    needs_luajit,
    play,
    recordings,
)

pytestmark = needs_luajit

# The clock and the request are not the recording's; `key` is which of the words' names came first.
NOT_THE_ANSWERS = ("ttft", "req_bytes", "key")
every_recording = pytest.mark.parametrize(
    "recording", [pytest.param(r, id=r.case) for r in recordings()]
)
every_body = pytest.mark.parametrize(
    "recording", [pytest.param(r, id=r.case) for r in different_bodies()]
)


def of_the_answer(published: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in published.items() if key not in NOT_THE_ANSWERS}


def is_usage_chunk(event: bytes) -> bool:
    if not event.startswith(b"data: {"):
        return False
    document = json.loads(event[6:])
    return document.get("choices") == [] and bool(document.get("usage"))


def without_usage_chunk(body: bytes) -> bytes:
    """The body less OpenAI's usage chunk and the empty line that ends it."""
    events = re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)", body)
    return b"".join(event for event in events if not is_usage_chunk(event))


def whole_lines(body: bytes) -> bytes:
    return body[: body.rfind(b"\n") + 1]


def whole_messages(recording: Recording, body: bytes) -> bytes:
    """An aborted answer's messages, as far as they came whole."""
    if body.startswith(b"{"):
        return whole_lines(body)
    return body[: max(body.rfind(b"\n\n"), -2) + 2]


def expected_passed(recording: Recording, switches: Switches) -> bytes:
    body = recording.body
    if recording.mode != "lines":
        return body
    if switches.ask:
        body = without_usage_chunk(body)
        if not recording.ended:
            body = whole_lines(body)
    if switches.cure:
        body = body.replace(b"\r\n", b"\n")
        if not recording.ended:
            body = whole_messages(recording, body)
    return body


def documents(listed: bytes) -> Any:
    """A list's documents; of a list that was cut off, those that are whole."""
    text = listed.decode()
    for end in (text, text[: text.rfind("}") + 1] + "]"):
        try:
            return json.loads(end)
        except ValueError:
            continue
    raise AssertionError(text)


@every_recording
def test_the_reader_publishes_what_it_published_on_a_real_kong(recording: Recording) -> None:
    played = play(recording.mode, recording.chunks)

    assert of_the_answer(played["published"]) == of_the_answer(recording.published)


@every_recording
def test_with_both_switches_off_no_chunk_is_ever_written_to(recording: Recording) -> None:
    played = play(recording.mode, recording.chunks)

    assert played["writes"] == 0
    assert played["passed"] == [chunk for chunk, _ in recording.chunks]


def asked_in(recording: Recording) -> bool:
    """Is this OpenAI's format, in which alone a usage chunk can be asked for?"""
    return recording.body.startswith(b"data: {")


SWITCHED = [
    pytest.param(recording, switches, id=f"{recording.case}, {name}")
    for recording in different_bodies()
    for name, switches in (("off", OFF), ("asked", ASK), ("cured", CURE), ("both", BOTH))
    if asked_in(recording) or not switches.ask
]


@pytest.mark.parametrize(("recording", "switches"), SWITCHED)
def test_wherever_an_answer_is_cut_the_same_is_published_and_passed_on(
    recording: Recording, switches: Switches
) -> None:
    # The long body's events are all alike: every 997th byte, and all near its ends, will do.
    step = 1 if len(recording.body) < 10_000 else 997

    done = cut(recording, switches, step)

    assert done["differ"] == {}
    assert done["runs"] > min(len(recording.body), 1000) - 1
    assert of_the_answer(done["published"]) == of_the_answer(recording.published)


@pytest.mark.parametrize(
    ("recording", "switches"),
    [
        pytest.param(recording, switches, id=f"{recording.case}, {name}")
        for recording in recordings()
        for name, switches in (("asked", ASK), ("cured", CURE), ("both", BOTH))
        if recording.mode != "json"
    ],
)
def test_what_is_passed_on_is_what_came_in_less_the_usage_chunk_asked_for_and_crlf_as_lf_when_cured(
    recording: Recording, switches: Switches
) -> None:
    played = play(recording.mode, recording.chunks, switches)

    passed = b"".join(played["passed"])
    if recording.mode == "aws" and not recording.ended and switches.cure:
        assert recording.body.startswith(passed)
        return
    assert passed == expected_passed(recording, switches)


@pytest.mark.parametrize(
    "recording",
    [
        pytest.param(r, id=r.case)
        for r in recordings()
        if r.case.startswith("gemini") and r.mode == "json"
    ],
)
def test_a_cured_list_is_passed_on_as_the_same_documents_with_only_line_ends_added(
    recording: Recording,
) -> None:
    played = play(recording.mode, recording.chunks, CURE)

    passed = b"".join(played["passed"])
    assert documents(passed) == documents(recording.body)
    assert recording.body.replace(b"\n", b"").startswith(passed.replace(b"\n", b""))


@pytest.mark.parametrize(
    "recording", [pytest.param(r, id=r.case) for r in recordings() if r.case.startswith("full_")]
)
def test_an_answer_that_is_no_stream_is_passed_on_untouched(recording: Recording) -> None:
    for length in ("", str(len(recording.body))):
        played = play("json", in_bytes(recording.body), BOTH, length)

        assert played["writes"] == 0


@every_body
def test_when_cured_every_chunk_that_is_passed_on_is_whole_messages(recording: Recording) -> None:
    if not recording.ended or recording.published.get("whole"):
        return
    pieces = [
        piece for piece in play(recording.mode, in_bytes(recording.body), CURE)["passed"] if piece
    ]

    for piece in pieces[:-1]:
        if recording.mode == "aws":
            assert int.from_bytes(piece[:4], "big") == len(piece)
        elif recording.mode == "lines":
            ending = b"\n" if piece.startswith(b"{") else b"\n\n"
            assert piece.endswith(ending) or piece == b"\n"
        else:
            json.loads(piece.strip().lstrip(b"[,").rstrip(b"]") or b"{}")


@pytest.mark.parametrize(
    ("switches", "left"),
    [
        pytest.param(CURE, 0, id="the cure takes them away"),
        pytest.param(OFF, 1, id="without it they are ai-proxy's own affair"),
    ],
)
def test_at_an_empty_chunk_ai_proxy_finds_no_events_to_repeat(
    switches: Switches, left: int
) -> None:
    played = play("lines", [(b'data: {"a": 1}\n\n', False), (b"", False)], switches)

    assert played["last_events"] == left
