"""When the reader asks for usage, and what it makes of an answer's headers."""

from typing import Any

import pytest

from tests.lua.gateway import needs_luajit, run

pytestmark = needs_luajit

CHAT = "messages = {{role = 'user', content = 'hi'}}"


def ask(
    body: str, method: str = "POST", content_type: str = "application/json", switch: str = "y"
) -> Any:
    return run("ask", switch, method, content_type, body)


def headers(
    content_type: str, source: str = "service", length: str = "", encoding: str = ""
) -> Any:
    return run("header", source, content_type, length, encoding)["published"]


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        pytest.param(f"{{stream = true, {CHAT}}}", {"include_usage": True}, id="a chat"),
        pytest.param("{stream = true, prompt = 'hi'}", {"include_usage": True}, id="a completion"),
        pytest.param(
            f"{{stream = true, stream_options = {{include_usage = false, other = 1}}, {CHAT}}}",
            {"include_usage": True, "other": 1},
            id="the client declined it: its other options stay",
        ),
        pytest.param(
            f"{{stream = true, stream_options = 'odd', {CHAT}}}",
            {"include_usage": True},
            id="options that are none",
        ),
    ],
)
def test_usage_is_asked_for_where_a_stream_was_wanted_without_it(
    body: str, asked: dict[str, Any]
) -> None:
    done = ask(body)

    assert done["asked"] is True
    assert done["sent"]["stream_options"] == asked
    assert done["sent"]["stream"] is True


@pytest.mark.parametrize(
    ("body", "method", "content_type", "switch"),
    [
        pytest.param(f"{{{CHAT}}}", "POST", "application/json", "y", id="no stream"),
        pytest.param(f"{{stream = 'true', {CHAT}}}", "POST", "application/json", "y", id="a word"),
        pytest.param(
            "{stream = true, input = 'hi'}", "POST", "application/json", "y", id="no chat"
        ),
        pytest.param(f"{{stream = true, {CHAT}}}", "GET", "application/json", "y", id="GET"),
        pytest.param(f"{{stream = true, {CHAT}}}", "POST", "text/plain", "y", id="no JSON"),
        pytest.param(
            f"{{stream = true, {CHAT}}}", "POST", "application/json", "n", id="switched off"
        ),
        pytest.param("'a string'", "POST", "application/json", "y", id="a body that is no object"),
        pytest.param("nil", "POST", "application/json", "y", id="no body"),
        pytest.param("throws", "POST", "application/json", "y", id="a body that cannot be read"),
        pytest.param(
            f"{{stream = true, stream_options = {{include_usage = true}}, {CHAT}}}",
            "POST",
            "application/json",
            "y",
            id="the client asked itself, so nothing will be stripped",
        ),
    ],
)
def test_any_other_request_goes_on_untouched(
    body: str, method: str, content_type: str, switch: str
) -> None:
    done = ask(body, method, content_type, switch)

    assert done["sent"] == "nothing"
    assert done["asked"] is False


def test_a_request_without_a_content_type_is_taken_as_json() -> None:
    assert ask(f"{{stream = true, {CHAT}}}", content_type="")["asked"] is True


def test_the_provider_is_asked_not_to_compress() -> None:
    assert ask("nil")["headers"] == {"Accept-Encoding": "identity"}


@pytest.mark.parametrize(
    ("content_type", "mode"),
    [
        ("text/event-stream; charset=utf-8", "lines"),
        ("application/x-ndjson", "lines"),
        ("application/stream+json", "lines"),
        ("application/vnd.amazon.eventstream", "aws"),
        ("application/json; charset=UTF-8", "json"),
    ],
)
def test_the_provider_s_content_type_says_how_its_answer_is_read(
    content_type: str, mode: str
) -> None:
    assert headers(content_type) == {
        "v": 1,
        "mode": mode,
        "events": 0,
        "deltas": 0,
        "bytes": 0,
        "text_bytes": 0,
        "done": False,
        "eof": False,
        "req_bytes": 123,
    }


@pytest.mark.parametrize(
    ("content_type", "source"),
    [
        pytest.param("text/html", "service", id="another content type"),
        pytest.param("", "service", id="no content type"),
        pytest.param("application/json", "exit", id="an answer of Kong itself"),
        pytest.param("application/json", "error", id="an error of Kong itself"),
    ],
)
def test_nothing_is_published_on_what_is_not_a_provider_s_answer(
    content_type: str, source: str
) -> None:
    assert headers(content_type, source) == "nothing"


def test_a_compressed_answer_says_its_encoding_and_is_not_read() -> None:
    assert headers("text/event-stream", encoding="gzip")["encoding"] == "gzip"
    assert "encoding" not in headers("text/event-stream", encoding="identity")
