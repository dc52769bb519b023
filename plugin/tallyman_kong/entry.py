"""Reads the JSON of Kong's log, the same way on every way in; what it says is `usage.py`'s.

Only what `usage.py` looks at is made into objects. The rest, prompts and answers that `log_payloads`
puts there among it, is passed over.
"""

import json
from typing import Any, TypedDict

import msgspec


class _Ai(TypedDict, total=False):
    meta: Any
    usage: Any
    # the usage reader's, besides
    mode: Any
    whole: Any
    done: Any
    eof: Any
    over: Any
    bad: Any
    encoding: Any
    model: Any
    req_bytes: Any
    deltas: Any
    text_bytes: Any


_Answered = TypedDict("_Answered", {"content-type": Any, "x-kong-llm-model": Any}, total=False)


class _Named(TypedDict, total=False):
    id: Any
    name: Any


class _Consumer(TypedDict, total=False):
    id: Any
    username: Any
    custom_id: Any


class _Request(TypedDict, total=False):
    id: Any
    size: Any
    headers: dict[str, Any]


class _Response(TypedDict, total=False):
    status: Any
    headers: _Answered


class _Latencies(TypedDict, total=False):
    request: Any


class _Entry(TypedDict, total=False):
    ai: dict[str, _Ai]
    request: _Request
    response: _Response
    consumer: _Consumer
    authenticated_entity: _Named
    service: _Named
    route: _Named
    latencies: _Latencies
    tries: Any
    started_at: Any
    upstream_status: Any
    workspace_name: Any


_decoder = msgspec.json.Decoder(_Entry | list[_Entry])


def decode(text: str | bytes) -> Any:
    """Parse an entry of the log, or an array of them.

    Kong passes the bytes of headers on as clients sent them: what is not UTF-8 becomes U+FFFD.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deep.
    """
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        # Of another shape, or JSON that only the standard library takes: `NaN`, half a surrogate
        # pair. It is slower, and what the rules are written for.
        return json.loads(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)
