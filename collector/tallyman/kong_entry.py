"""Turns an entry of Kong's log into checked events, by the plugin's own rules.

It does not say where entries come from: `POST /kong/log` and `tallyman replay` do.
"""

from typing import Any

import msgspec
from tallyman_kong.usage import UsageConfiguration, read

from tallyman.domain.event import CloudEvent, parse_event
from tallyman.errors import InvalidEvent


def events_of(entry: Any, configuration: UsageConfiguration) -> list[CloudEvent]:
    """The entry's events; none where it is no LLM call.

    Raises:
        InvalidEvent: it is no entry, or a call that can have no identity.
    """
    if not isinstance(entry, dict):
        raise InvalidEvent("the entry is no object")
    reading = read(entry, configuration)
    if reading.bad is not None:
        raise InvalidEvent(reading.bad)
    return [parse_event(msgspec.json.encode(event)) for event in reading.events]
