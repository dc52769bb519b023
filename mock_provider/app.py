"""Serves the three formats over HTTP, and breaks the answer off where the request wishes it.

It does not know what a format looks like.
"""

import asyncio
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from mock_provider import anthropic, gemini, openai
from mock_provider.question import Answer, BadQuestion, Question, Wishes, answer, wishes

HANG_SECONDS = 3600.0  # longer than any gateway waits


@dataclass(frozen=True)
class Format:
    """A provider's format as functions."""

    read: Callable[[Mapping[str, Any]], Question]
    whole: Callable[[Question, Answer, bool], dict[str, Any]]
    stream: Callable[[Question, Answer, bool], Iterator[bytes]]
    error: Callable[[int, str], dict[str, Any]]
    content_type: str = "text/event-stream"


OPENAI = Format(openai.read, openai.whole, openai.stream, openai.error)
ANTHROPIC = Format(anthropic.read, anthropic.whole, anthropic.stream, anthropic.error)
GEMINI = Format(gemini.read, gemini.whole, gemini.stream, gemini.error)
GEMINI_ARRAY = dataclasses.replace(
    GEMINI, stream=gemini.stream_array, content_type="application/json"
)


def build() -> web.Application:
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_get("/health", _health)
    app.router.add_post("/v1/chat/completions", _openai)
    app.router.add_post("/v1/messages", _anthropic)
    app.router.add_post("/{version:v1|v1beta}/models/{model:[^/:]+}:generateContent", _gemini)
    app.router.add_post("/{version:v1|v1beta}/models/{model:[^/:]+}:streamGenerateContent", _gemini)
    return app


async def _health(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _openai(request: web.Request) -> web.StreamResponse:
    return await _answer(request, OPENAI)


async def _anthropic(request: web.Request) -> web.StreamResponse:
    return await _answer(request, ANTHROPIC)


async def _gemini(request: web.Request) -> web.StreamResponse:
    is_stream = request.path.endswith(":streamGenerateContent")
    spoken = GEMINI if request.query.get("alt") == "sse" or not is_stream else GEMINI_ARRAY
    return await _answer(request, spoken, model=request.match_info["model"], stream=is_stream)


async def _answer(request: web.Request, spoken: Format, **path: Any) -> web.StreamResponse:
    try:
        question = dataclasses.replace(spoken.read(await _body(request)), **path)
        wish = wishes(request.headers.get("X-Mock", ""), question.model)
    except BadQuestion as err:
        return web.json_response(spoken.error(400, str(err)), status=400)
    if wish.status is not None:
        headers = {"Retry-After": "7"} if wish.status == 429 else {}
        error = spoken.error(wish.status, f"As wished: {wish.status}")
        return web.json_response(error, status=wish.status, headers=headers)
    if wish.fault == "hang":
        await asyncio.sleep(HANG_SECONDS)
    is_silent = wish.fault == "silent"
    answered = answer(question, wish)
    if question.stream:
        return await _stream(
            request, spoken, list(spoken.stream(question, answered, is_silent)), wish
        )
    if wish.fault == "cut":
        return _cut(request)
    return web.json_response(spoken.whole(question, answered, is_silent))


async def _body(request: web.Request) -> Mapping[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError as err:
        raise BadQuestion(f"the body is not JSON: {err}") from err
    if not isinstance(body, Mapping):
        raise BadQuestion("the body must be an object")
    return body


async def _stream(
    request: web.Request, spoken: Format, pieces: list[bytes], wish: Wishes
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": spoken.content_type})
    await response.prepare(request)
    is_cut = wish.fault == "cut"
    try:
        for piece in pieces[: len(pieces) // 2] if is_cut else pieces:
            await asyncio.sleep(wish.pause)
            await response.write(piece)
        if is_cut:
            return _cut(request, response)
        await response.write_eof()
    except ConnectionResetError:
        pass  # the client has gone: that is what slow streams are for
    return response


def _cut(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """End the connection behind what was written: no last chunk, so no end of the body."""
    if request.transport is not None:
        request.transport.close()
    return response or web.Response()
