"""Owns the events that the benchmarks send: those that the plugin makes of a recorded log entry."""

import json
from pathlib import Path
from typing import Any

from tallyman_kong import usage

RECORDED = Path(__file__).parents[1] / "tests/golden/kong-3.9.3/openai_chat.json"


def recorded_entry() -> dict[str, Any]:
    """Kong's log entry of a chat."""
    found: dict[str, Any] = json.loads(RECORDED.read_text())["serialized_log"]
    return found


def recorded_event() -> dict[str, Any]:
    """The first of its events, as it is sent."""
    return dict(usage.read(recorded_entry(), usage.configuration(None)).events[0])
