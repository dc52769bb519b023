"""Finds the LLM calls in an entry of Kong's log, and tells how each of them went.

It does not count: the numbers are `usage.py`'s.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeGuard

from tallyman_kong.provider_usage import Reported, read_reported

READER_NAMESPACE = "tallyman"
PROXY_NAMESPACE = "proxy"
STREAM_CONTENT_TYPES = (
    "text/event-stream",
    "application/x-ndjson",
    "application/stream+json",
    "application/vnd.amazon.eventstream",
)


Entry = Mapping[str, Any]
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Call(NamedTuple):
    """One LLM call of an entry. `reported` is None where the reader did not see its body."""

    namespace: str
    meta: Mapping[str, Any]
    guessed: Mapping[str, Any]
    reader: Mapping[str, Any] | None
    reported: Reported | None
    has_ai: bool
    is_stream: bool


def calls_of(entry: Entry) -> Iterator[Call]:
    ai = mapping(entry.get("ai"))
    found = {
        name: mapping(value)
        for name, value in ai.items()
        if name != READER_NAMESPACE and isinstance(mapping(value).get("meta"), Mapping)
    }
    header = llm_model_header(entry)
    named = any(
        _names(call["meta"], header) for name, call in found.items() if not is_transformer(name)
    )
    if header and not named:
        found.setdefault(PROXY_NAMESPACE, {})
    proxied = _proxied_namespace(list(found))
    reader = ai.get(READER_NAMESPACE)
    for name in sorted(found, key=lambda name: (name != PROXY_NAMESPACE, name)):
        seen = reader if name == proxied and isinstance(reader, Mapping) else None
        yield Call(
            namespace=name,
            meta=mapping(found[name].get("meta")),
            guessed=mapping(found[name].get("usage")),
            reader=seen,
            reported=read_reported(mapping(seen.get("usage"))) if seen is not None else None,
            has_ai="meta" in found[name],
            is_stream=_is_stream(entry, name, seen),
        )


def _names(meta: Any, header: str) -> bool:
    """Whether a call's meta is about the answer that the header names."""
    provider, _, model = header.partition("/")
    models = (meta.get("response_model"), meta.get("request_model"))
    return meta.get("provider_name") == provider and model in models


def _proxied_namespace(names: list[str]) -> str | None:
    if PROXY_NAMESPACE in names:
        return PROXY_NAMESPACE
    others = [name for name in names if not is_transformer(name)]
    return others[0] if len(others) == 1 else None


def is_transformer(namespace: str) -> bool:
    """Whether the namespace's calls are a plugin's own, beside the request that Kong proxied."""
    return "transformer" in namespace


def llm_model_header(entry: Entry) -> str:
    headers = mapping(mapping(entry.get("response")).get("headers"))
    value = headers.get("x-kong-llm-model")
    return value if isinstance(value, str) and "/" in value else ""


def outcome_of(entry: Entry, call: Call) -> str:
    if not entry.get("tries") or call.meta.get("provider_name") == "UNSPECIFIED":
        return "refused"
    upstream = status_of(entry.get("upstream_status"))
    answered = status_of(mapping(entry.get("response")).get("status"))
    if upstream is None or upstream >= 400 or (answered is not None and answered >= 400):
        return "failed"
    if call.is_stream and not _has_ended(call):
        return "aborted"
    return "complete"


def _is_stream(entry: Entry, namespace: str, reader: Mapping[str, Any] | None) -> bool:
    if is_transformer(namespace):
        return False
    if reader is not None:
        mode = reader.get("mode")
        return mode in ("lines", "aws") or (mode == "json" and reader.get("whole") is False)
    headers = mapping(mapping(entry.get("response")).get("headers"))
    content_type = headers.get("content-type")
    return isinstance(content_type, str) and content_type.startswith(STREAM_CONTENT_TYPES)


def _has_ended(call: Call) -> bool:
    reader = call.reader
    if reader is None:
        return call.has_ai
    if reader.get("done") is True:
        return True
    clean = reader.get("eof") is True
    final = call.reported is not None and call.reported.is_final
    return clean and (final or "encoding" in reader)


def status_of(value: Any) -> int | None:
    """`upstream_status` is an int, a string, or empty if the provider never answered.

    After retries nginx joins the statuses of all tries (`502, 200`); the last one answered.
    """
    if isinstance(value, str):
        last = value.split(",")[-1].strip()
        return int(last) if last.isdecimal() else None
    return int(value) if is_number(value) else None


def mapping(value: Any) -> Mapping[str, Any]:
    # A dict is told by its type: asking whether it is a Mapping takes ten times as long.
    if type(value) is dict or isinstance(value, Mapping):
        return value
    return NOTHING


def text(value: Any) -> str | None:
    """A text that can be sent: what is not Unicode (half a surrogate pair) becomes U+FFFD."""
    if not isinstance(value, str) or not value:
        return None
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def is_number(value: Any) -> TypeGuard[int | float]:
    """A finite number; bool is none."""
    if type(value) is int:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value == value and abs(value) != float("inf")
