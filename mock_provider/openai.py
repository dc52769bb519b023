"""OpenAI's chat completions, whole and streamed, as OpenAI-compatible providers speak them too.

It owns the format alone; the words and the numbers are `question.py`'s.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mock_provider.question import Answer, BadQuestion, Question, limit_of, messages_of, texts_of

CONTENT_TYPE = "text/event-stream"
ERROR_TYPES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


def read(body: Mapping[str, Any]) -> Question:
    messages = messages_of(body, "messages")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadQuestion("model must be a string")
    options = body.get("stream_options") or {}
    if not isinstance(options, Mapping):
        raise BadQuestion("stream_options must be an object")
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    return Question(
        model=model,
        texts=tuple(
            text
            for index, message in enumerate(messages)
            for text in texts_of(message.get("content"), f"messages[{index}].content")
        ),
        max_tokens=limit_of(limit, "max_completion_tokens"),
        stream=body.get("stream") is True,
        include_usage=options.get("include_usage") is True,
    )


def usage(answer: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.answer_tokens,
        "total_tokens": answer.prompt_tokens + answer.answer_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
    }


def whole(question: Question, answer: Answer, is_silent: bool) -> dict[str, Any]:
    return {
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": 1,
        "model": question.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer.text},
                "finish_reason": _finish(answer),
            }
        ],
        **({} if is_silent else {"usage": usage(answer)}),
    }


def stream(question: Question, answer: Answer, is_silent: bool) -> Iterator[bytes]:
    """With `include_usage` every chunk has `usage`: null, and the numbers in one of its own."""
    reports = question.include_usage and not is_silent
    first: dict[str, Any] = {"role": "assistant"}
    for piece in answer.pieces:
        choice = {"index": 0, "delta": {"content": piece, **first}, "finish_reason": None}
        yield _chunk(question, [choice], {"usage": None} if reports else {})
        first = {}
    choice = {"index": 0, "delta": {}, "finish_reason": _finish(answer)}
    yield _chunk(question, [choice], {"usage": None} if reports else {})
    if reports:
        yield _chunk(question, [], {"usage": usage(answer)})
    yield b"data: [DONE]\n\n"


def error(status: int, message: str) -> dict[str, Any]:
    code = ERROR_TYPES.get(status)
    kind = (
        "invalid_request_error" if status < 429 else "requests" if status == 429 else "server_error"
    )
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _finish(answer: Answer) -> str:
    return "length" if answer.is_cut_short else "stop"


def _chunk(question: Question, choices: list[dict[str, Any]], rest: dict[str, Any]) -> bytes:
    chunk = {
        "id": "chatcmpl-mock",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": question.model,
        "choices": choices,
        **rest,
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"
