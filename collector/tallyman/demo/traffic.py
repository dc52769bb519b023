"""The demo's traffic: entries that a real Kong 3.9.3 logged, replayed for several consumers.

Only who called, when, and the request id are changed; the numbers are as recorded.
"""

import copy
import hashlib
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any, Final

# consumer, recorded call, how often
PLAN: Final = (
    ("acme-corp", "openai_chat", 6),
    ("acme-corp", "openai_stream", 4),
    ("acme-corp", "anthropic_chat", 2),
    ("acme-corp", "provider_429", 1),
    ("globex", "anthropic_stream", 5),
    ("globex", "openai_stream_aborted", 1),
    ("globex", "gemini_stream", 3),
    ("initech", "openai_mini", 4),
    ("initech", "gemini_chat", 2),
    ("initech", "mistral_chat", 3),
    (None, "kong_401", 1),
)
FIRST_CALL_MS: Final = 1795253064000
BETWEEN_CALLS_MS: Final = 1500


def entries() -> Iterator[dict[str, Any]]:
    """The log entries in order of time; the same at every run, so a second run adds nothing."""
    found = recorded()
    calls = [(consumer, name, nth) for consumer, name, times in PLAN for nth in range(1, times + 1)]
    for index, (consumer, name, nth) in enumerate(calls):
        at_ms = FIRST_CALL_MS + index * BETWEEN_CALLS_MS
        yield played(found[name], consumer, f"{consumer}/{name}/{nth}", at_ms)


def recorded() -> dict[str, dict[str, Any]]:
    """The entries as Kong logged them, by name."""
    text = (resources.files(__package__) / "recorded.jsonl").read_text()
    return {line["name"]: line["entry"] for line in map(json.loads, text.splitlines())}


def played(
    recorded: dict[str, Any], consumer: str | None, identity: str, started_at_ms: int
) -> dict[str, Any]:
    """The entry as another call: of this consumer, at this time, with a request id of its own."""
    entry = copy.deepcopy(recorded)
    entry["request"]["id"] = hashlib.sha256(identity.encode()).hexdigest()[:32]
    entry["started_at"] = started_at_ms
    if consumer is not None:
        entry["consumer"]["username"] = consumer
        entry["consumer"]["id"] = hashlib.sha256(consumer.encode()).hexdigest()[:32]
        entry["consumer"].pop("custom_id", None)
    return entry
