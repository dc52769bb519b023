"""Turns one entry of Kong's log into usage events: the counting rules of docs/counting.md.

It is pure and needs the standard library alone, since the plugin, `tallyman replay` and the
collector's `/kong/log` all run it. It does not store, send or number events.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from tallyman_kong.call import (
    NOTHING,
    Call,
    Entry,
    calls_of,
    is_number,
    llm_model_header,
    mapping,
    outcome_of,
    status_of,
    text,
)
from tallyman_kong.configuration import (
    LONGEST_TEXT,
    Attribute,
    UsageConfiguration,
    configuration,
)
from tallyman_kong.provider_usage import Counted, Reported

__all__ = [
    "Attribute",
    "Event",
    "Reading",
    "UsageConfiguration",
    "configuration",
    "consumer_subject",
    "read",
]

EVENT_TYPE = "llm.tokens"
ANONYMOUS = "anonymous"
Event = dict[str, Any]


class Reading(NamedTuple):
    """What an entry gave. `bad` says why an LLM call could not become events."""

    events: tuple[Event, ...] = ()
    invalid_counts: int = 0
    bad: str | None = None


class _Numbers:
    """Tokens by type and how each was obtained; `invalid` counts what did not pass as a count."""

    def __init__(self) -> None:
        self.tokens: dict[str, int] = {}
        self.source: dict[str, str] = {}
        self.invalid = 0

    def put(self, kind: str, tokens: int, source: str) -> None:
        self.tokens[kind] = tokens
        self.source[kind] = source


def read(entry: Entry, configuration: UsageConfiguration) -> Reading:
    """Turn an entry into its events: for each call, `request` and `response`, then cached types.

    The same entry and configuration always give the same events. An entry that is no LLM call
    gives none.
    """
    calls = list(calls_of(entry))
    if not calls:
        return Reading()
    request_id = text(mapping(entry.get("request")).get("id"))
    started_at = entry.get("started_at")
    if request_id is None:
        return Reading(bad="the entry has no request.id, so its events would have no identity")
    if not is_number(started_at) or not 0 <= started_at < 253402300800000:
        return Reading(bad="the entry has no started_at in Unix milliseconds")
    events: list[Event] = []
    invalid = 0
    if any(len(f"{request_id}:{call.namespace}:cache_write") > LONGEST_TEXT for call in calls):
        return Reading(bad="the entry's request.id or a namespace is too long for an identity")
    subject = _subject(entry, configuration)
    time = _rfc3339(started_at)
    for call in calls:
        outcome = outcome_of(entry, call)
        numbers = _count(entry, call, outcome, split=configuration.split_cached_tokens)
        invalid += numbers.invalid
        shared = _shared_data(entry, call, outcome, configuration)
        for kind, tokens in numbers.tokens.items():
            source = numbers.source[kind]
            charged = _is_charged(outcome, source, configuration)
            events.append(
                {
                    "specversion": "1.0",
                    "id": text(f"{request_id}:{call.namespace}:{kind}"),
                    "source": configuration.source,
                    "type": EVENT_TYPE,
                    "subject": subject,
                    "time": time,
                    "datacontenttype": "application/json",
                    "data": {
                        "tokens": tokens if charged else 0,
                        "type": kind,
                        **shared,
                        "usage_source": source,
                        "waived_tokens": 0 if charged else tokens,
                    },
                }
            )
    return Reading(tuple(events), invalid)


# What was used


def _count(entry: Entry, call: Call, outcome: str, *, split: bool) -> _Numbers:
    numbers = _Numbers()
    guessed = call.guessed if _is_trusted(entry, call) else NOTHING
    _count_request(numbers, entry, call, outcome, guessed.get("prompt_tokens"))
    _count_response(numbers, call, outcome, guessed.get("completion_tokens"))
    if split and call.reported is not None and numbers.source["request"] == "provider":
        _split_cached(numbers, call.reported)
    return numbers


def _count_request(numbers: _Numbers, entry: Entry, call: Call, outcome: str, trusted: Any) -> None:
    """`trusted` is ai-proxy's number where that is the provider's."""
    counted = _reported(call, "request")
    if counted is None:
        counted = _count_of(trusted)
    if counted is not None:
        _put_counted(numbers, "request", counted)
        return
    guess = 0 if outcome in ("refused", "failed") else _prompt_estimate(entry, call)
    _put_estimate(numbers, "request", guess)


def _count_response(numbers: _Numbers, call: Call, outcome: str, trusted: Any) -> None:
    counted = _reported(call, "response")
    if counted is None:
        counted = _count_of(trusted)
    reported_too_early = outcome == "aborted" or (
        call.reported is not None and call.reported.response_is_placeholder
    )
    if counted is not None and (counted.tokens is None or not reported_too_early):
        _put_counted(numbers, "response", counted)
        return
    seen = _answer_seen(call) if outcome in ("aborted", "complete") else 0
    if outcome in ("aborted", "complete") and counted is not None and counted.tokens:
        seen = max(seen, counted.tokens)
    _put_estimate(numbers, "response", seen)


def _put_counted(numbers: _Numbers, kind: str, counted: Counted) -> None:
    if counted.tokens is None:
        numbers.invalid += 1
        numbers.put(kind, 0, "none")
    else:
        numbers.put(kind, counted.tokens, "provider")


def _put_estimate(numbers: _Numbers, kind: str, tokens: int) -> None:
    numbers.put(kind, tokens, "estimated" if tokens > 0 else "none")


def _reported(call: Call, kind: str) -> Counted | None:
    if call.reported is None:
        return None
    return call.reported.request if kind == "request" else call.reported.response


def _could_read(call: Call) -> bool:
    reader = call.reader
    if reader is None:
        return False
    return not ("encoding" in reader or reader.get("over") is True or reader.get("bad"))


def _is_trusted(entry: Entry, call: Call) -> bool:
    """Whether ai-proxy's own two numbers are the provider's."""
    if _could_read(call) or call.is_stream:
        return False
    completion = call.guessed.get("completion_tokens")
    answered = status_of(mapping(entry.get("response")).get("status")) == 200
    return (
        answered
        and status_of(entry.get("upstream_status")) == 200
        and not (is_number(completion) and completion == 0)
        and completion is not None
    )


def _prompt_estimate(entry: Entry, call: Call) -> int:
    if not call.has_ai and call.reader is None and not call.is_stream:
        return 0  # statistics are switched off: no sign of what was used
    if guess := _tokens_or_0(call.guessed.get("prompt_tokens")):
        return guess
    request = mapping(entry.get("request"))
    sizes = (
        call.reader.get("req_bytes") if call.reader is not None else None,
        mapping(request.get("headers")).get("content-length"),
        request.get("size"),
    )
    for size in sizes:
        count = _count_of(int(size) if isinstance(size, str) and size.isdecimal() else size)
        if count is not None and count.tokens is not None:
            return count.tokens // 4
    return 0


def _answer_seen(call: Call) -> int:
    guess = 0 if _could_read(call) else _tokens_or_0(call.guessed.get("completion_tokens"))
    if call.reader is None:
        return guess
    pieces = _tokens_or_0(call.reader.get("deltas"))
    return max(guess, pieces, _tokens_or_0(call.reader.get("text_bytes")) // 4)


def _tokens_or_0(value: Any) -> int:
    return Counted.of(value).tokens or 0


def _split_cached(numbers: _Numbers, reported: Reported) -> None:
    counted = {"cache_read": reported.cache_read, "cache_write": reported.cache_write}
    cached = {kind: count.tokens for kind, count in counted.items() if count.tokens is not None}
    numbers.invalid += len(counted) - len(cached)
    whole = numbers.tokens["request"]
    if len(cached) < len(counted) or not 0 < sum(cached.values()) <= whole:
        return
    numbers.tokens["request"] = whole - sum(cached.values())
    for kind, tokens in cached.items():
        if tokens:
            numbers.put(kind, tokens, "provider")


def _count_of(value: Any) -> Counted | None:
    return None if value is None else Counted.of(value)


def _is_charged(outcome: str, source: str, configuration: UsageConfiguration) -> bool:
    if outcome in ("failed", "refused"):
        return configuration.charge_failed_calls
    return source != "estimated" or configuration.charge_estimated_counts


# What else an event says


def _shared_data(
    entry: Entry, call: Call, outcome: str, configuration: UsageConfiguration
) -> dict[str, Any]:
    provider, _, model = llm_model_header(entry).partition("/")
    answered_by = call.reader.get("model") if call.reader is not None else None
    status = mapping(entry.get("response")).get("status")
    headers = mapping(mapping(entry.get("request")).get("headers"))
    return {
        "provider": _short(call.meta.get("provider_name")) or _short(provider),
        "model": _short(answered_by) or _short(call.meta.get("response_model")) or _short(model),
        "request_model": _short(call.meta.get("request_model")) or _short(model),
        "consumer_id": _short(mapping(entry.get("consumer")).get("id")),
        "credential_id": _short(mapping(entry.get("authenticated_entity")).get("id")),
        "service": _short(mapping(entry.get("service")).get("name")),
        "route": _short(mapping(entry.get("route")).get("name")),
        "workspace": _short(entry.get("workspace_name")),
        "status_code": status if is_number(status) else None,
        "stream": call.is_stream,
        "outcome": outcome,
        "latency_ms": _milliseconds(mapping(entry.get("latencies")).get("request")),
        "llm_latency_ms": _milliseconds(call.meta.get("llm_latency")),
        **{
            attribute.name: _header(headers, attribute.header)
            for attribute in configuration.attributes
        },
    }


def _subject(entry: Entry, configuration: UsageConfiguration) -> str:
    if configuration.subject_from == "header":
        headers = mapping(mapping(entry.get("request")).get("headers"))
        return _header(headers, configuration.subject_field) or ANONYMOUS
    if configuration.subject_from == "credential":
        return _short(mapping(entry.get("authenticated_entity")).get("id")) or ANONYMOUS
    return (
        consumer_subject(mapping(entry.get("consumer")), configuration.subject_field) or ANONYMOUS
    )


def consumer_subject(consumer: Mapping[str, Any], field: str) -> str | None:
    """The subject of a consumer's calls: the field, or what else it has; its id for one too long."""
    fields = (field, "username", "custom_id", "id")
    who = next((who for name in fields if (who := text(consumer.get(name)))), None)
    if who is None or len(who) <= LONGEST_TEXT:
        return who
    return _short(consumer.get("id"))


def _header(headers: Mapping[str, Any], name: str) -> str | None:
    value = headers.get(name)
    return _short(value[0] if isinstance(value, list) and value else value)


def _short(value: Any) -> str | None:
    """A text that the collector takes, at whatever length it came."""
    sent = text(value)
    return sent[:LONGEST_TEXT] if sent else None


def _rfc3339(unix_ms: float) -> str:
    seconds, milliseconds = divmod(int(unix_ms), 1000)
    return f"{_rfc3339_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=64)
def _rfc3339_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def _milliseconds(value: Any) -> int | None:
    return int(value) if is_number(value) and value >= 0 else None
