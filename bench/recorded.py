"""Owns what the benchmarks send, those events that the plugin makes of a recorded log entry, and a meter of them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tallyman.domain.builtin_meters import DIMENSIONS, EVENT_TYPE
from tallyman.domain.meter import Aggregation, Meter
from tallyman_kong import usage

RECORDED = Path(__file__).parents[1] / "tests/golden/kong-3.9.3/openai_chat.json"


def recorded_entry() -> dict[str, Any]:
    """Kong's log entry of a chat."""
    found: dict[str, Any] = json.loads(RECORDED.read_text())["serialized_log"]
    return found


def recorded_event() -> dict[str, Any]:
    """The first of its events, as it is sent."""
    return dict(usage.read(recorded_entry(), usage.configuration(None)).events[0])


def meter_of(aggregation: Aggregation, value_property: str | None = None) -> Meter:
    """A meter over them with the built-in ones' dimensions."""
    made = datetime(2026, 11, 1, tzinfo=UTC)
    return Meter(
        id="bench",
        namespace="default",
        key="bench",
        name="bench",
        aggregation=aggregation,
        event_type=EVENT_TYPE,
        value_property=value_property,
        dimensions=dict(DIMENSIONS),
        created_at=made,
        updated_at=made,
    )
