"""The demo's traffic: entries that a real Kong 3.9.3 logged, replayed for several consumers.

Only who called, when, and the request id are changed; the numbers are as recorded.
"""

import copy
import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
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
INTO_THE_MONTH: Final = timedelta(days=20, hours=9, minutes=24, seconds=24)
BETWEEN_CALLS_MS: Final = 1500
SETTLED: Final = timedelta(days=2)


def month(now: datetime) -> datetime:
    """The beginning of the last month that is over for two days: nothing more is waited for."""
    this_month = (now - SETTLED).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (this_month - timedelta(days=1)).replace(day=1)


def entries(month: datetime) -> Iterator[dict[str, Any]]:
    """The log entries of a month in order of time; always the same, so a second run adds nothing."""
    found = recorded()
    first_call_ms = int((month + INTO_THE_MONTH).timestamp() * 1000)
    calls = [(consumer, name, nth) for consumer, name, times in PLAN for nth in range(1, times + 1)]
    for index, (consumer, name, nth) in enumerate(calls):
        identity = f"{month:%Y-%m}/{consumer}/{name}/{nth}"
        at_ms = first_call_ms + index * BETWEEN_CALLS_MS
        yield played(found[name], consumer, identity, at_ms)


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
