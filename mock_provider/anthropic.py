"""Anthropic's messages, whole and streamed.

It owns the format alone; the words and the numbers are `question.py`'s.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mock_provider.question import Answer, BadQuestion, Question, limit_of, messages_of, texts_of

CONTENT_TYPE = "text/event-stream"
ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def read(body: Mapping[str, Any]) -> Question:
    messages = messages_of(body, "messages")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadQuestion("model must be a string")
    return Question(
        model=model,
        texts=(
            *texts_of(body.get("system"), "system"),
            *(
                text
                for index, message in enumerate(messages)
                for text in texts_of(message.get("content"), f"messages[{index}].content")
            ),
        ),
        max_tokens=limit_of(body.get("max_tokens"), "max_tokens"),
        stream=body.get("stream") is True,
    )


def usage(answer: Answer) -> dict[str, Any]:
    """What was cached is beside `input_tokens`, not in it."""
    cached = answer.cached_tokens + answer.written_tokens
    return {
        "input_tokens": answer.prompt_tokens - cached,
        "cache_creation_input_tokens": answer.written_tokens,
        "cache_read_input_tokens": answer.cached_tokens,
        "output_tokens": answer.answer_tokens,
    }


def whole(question: Question, answer: Answer, is_silent: bool) -> dict[str, Any]:
    return {
        **_message(question),
        "content": [{"type": "text", "text": answer.text}],
        "stop_reason": _stop(answer),
        **({} if is_silent else {"usage": usage(answer)}),
    }


def stream(question: Question, answer: Answer, is_silent: bool) -> Iterator[bytes]:
    """`message_start` holds the input and a placeholder of 1; `message_delta` the true output."""
    start = {**usage(answer), "output_tokens": 1, "service_tier": "standard"}
    message = {**_message(question), "content": [], "stop_reason": None}
    yield _event("message_start", message=message if is_silent else {**message, "usage": start})
    yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield _event("ping")
    for piece in answer.pieces:
        yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    yield _event("content_block_stop", index=0)
    end: dict[str, Any] = {"delta": {"stop_reason": _stop(answer), "stop_sequence": None}}
    if not is_silent:
        end["usage"] = {"output_tokens": answer.answer_tokens}
    yield _event("message_delta", **end)
    yield _event("message_stop")


def error(status: int, message: str) -> dict[str, Any]:
    kind = ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def _message(question: Question) -> dict[str, Any]:
    return {"id": "msg_mock", "type": "message", "role": "assistant", "model": question.model}


def _stop(answer: Answer) -> str:
    return "max_tokens" if answer.is_cut_short else "end_turn"


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()
