"""Gemini's generateContent and streamGenerateContent, as server-sent events and as a JSON array.

It owns the format alone; the words and the numbers are `question.py`'s.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from mock_provider.question import Answer, Question, limit_of, messages_of, texts_of

CONTENT_TYPE = "text/event-stream"
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


def read(body: Mapping[str, Any]) -> Question:
    """The model and whether to stream are in the path: the caller puts them in."""
    contents = messages_of(body, "contents")
    system = body.get("systemInstruction") or body.get("system_instruction") or {}
    settings = body.get("generationConfig") or body.get("generation_config") or {}
    return Question(
        model="",
        texts=tuple(
            chain(
                texts_of(_get(system, "parts"), "systemInstruction.parts"),
                *(
                    texts_of(content.get("parts"), f"contents[{index}].parts")
                    for index, content in enumerate(contents)
                ),
            )
        ),
        max_tokens=limit_of(_get(settings, "maxOutputTokens"), "generationConfig.maxOutputTokens"),
    )


def usage(answer: Answer, pieces: int | None = None) -> dict[str, Any]:
    """The running numbers after so many pieces; the final ones, with thoughts, for None."""
    if pieces is not None:
        return {
            "promptTokenCount": answer.prompt_tokens,
            "candidatesTokenCount": pieces,
            "totalTokenCount": answer.prompt_tokens + pieces,
        }
    return {
        "promptTokenCount": answer.prompt_tokens,
        "candidatesTokenCount": len(answer.words),
        "totalTokenCount": answer.prompt_tokens + answer.answer_tokens,
        "thoughtsTokenCount": answer.reasoning_tokens,
        "cachedContentTokenCount": answer.cached_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": answer.prompt_tokens}],
    }


def whole(question: Question, answer: Answer, is_silent: bool) -> dict[str, Any]:
    final = {} if is_silent else {"usageMetadata": usage(answer)}
    return _part(question, answer.text, {"finishReason": _finish(answer)}, final)


def stream(question: Question, answer: Answer, is_silent: bool) -> Iterator[bytes]:
    for part in _parts(question, answer, is_silent):
        yield b"data: " + json.dumps(part).encode() + b"\n\n"


def stream_array(question: Question, answer: Answer, is_silent: bool) -> Iterator[bytes]:
    """What Gemini streams without `alt=sse`: one JSON array, an element at a time."""
    opening = b"["
    for part in _parts(question, answer, is_silent):
        yield opening + json.dumps(part, indent=2).encode()
        opening = b",\n"
    yield b"]"


def error(status: int, message: str) -> dict[str, Any]:
    kind = STATUSES.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
    return {"error": {"code": status, "message": message, "status": kind}}


def _parts(question: Question, answer: Answer, is_silent: bool) -> Iterator[dict[str, Any]]:
    *others, last = answer.pieces
    for count, piece in enumerate(others, 1):
        running = {} if is_silent else {"usageMetadata": usage(answer, count)}
        yield _part(question, piece, {}, running)
    final = {} if is_silent else {"usageMetadata": usage(answer)}
    yield _part(question, last, {"finishReason": _finish(answer)}, final)


def _part(
    question: Question, text: str, ending: dict[str, Any], rest: dict[str, Any]
) -> dict[str, Any]:
    content = {"parts": [{"text": text}], "role": "model"}
    return {
        "candidates": [{"content": content, "index": 0, **ending}],
        **rest,
        "modelVersion": question.model,
    }


def _finish(answer: Answer) -> str:
    return "MAX_TOKENS" if answer.is_cut_short else "STOP"


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None
