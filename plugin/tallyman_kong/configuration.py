"""What of the plugin's configuration decides an event's content.

The sink's and the spool's settings are not here: they never change an event.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CREDENTIAL_HEADERS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "apikey",
        "api-key",
        "x-api-key",
        "x-goog-api-key",
    }
)
RESERVED_PROPERTIES = frozenset(
    [
        "tokens",
        "type",
        "provider",
        "model",
        "request_model",
        "consumer_id",
        "credential_id",
        "service",
        "route",
        "workspace",
        "status_code",
        "stream",
        "outcome",
        "usage_source",
        "waived_tokens",
        "latency_ms",
        "llm_latency_ms",
    ]
)
LONGEST_TEXT = 256  # characters, as many as the collector takes of each text of the envelope
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110's token


@dataclass(frozen=True)
class Attribute:
    """A request header that becomes a field of the event's data."""

    header: str
    name: str


DEFAULT_ATTRIBUTES = (
    Attribute("x-tallyman-task", "task"),
    Attribute("x-tallyman-feature", "feature"),
)


@dataclass(frozen=True)
class UsageConfiguration:
    """What of the plugin's configuration decides an event's content."""

    source: str = "kong"
    subject_from: str = "consumer"
    subject_field: str = "username"
    attributes: tuple[Attribute, ...] = DEFAULT_ATTRIBUTES
    charge_failed_calls: bool = False
    charge_estimated_counts: bool = True
    split_cached_tokens: bool = False


def configuration(config: Mapping[str, Any] | None) -> UsageConfiguration:
    """Read the plugin's configuration as Kong gives it; absent and null values take the default.

    Raises:
        ValueError: a value that the schema would refuse; the message names the field.
    """
    given = {key: value for key, value in (config or {}).items() if value is not None}
    subject = _record(given.get("subject", {}), ("look_up_value_in", "field"), "subject")
    subject_from = _choice(
        subject, "look_up_value_in", ("consumer", "credential", "header"), "subject."
    )
    return UsageConfiguration(
        source=_source(given),
        subject_from=subject_from,
        subject_field=_subject_field(subject, subject_from),
        attributes=_attributes(given),
        charge_failed_calls=_choice(given, "failed_calls", ("waive", "charge")) == "charge",
        charge_estimated_counts=_choice(given, "estimated_counts", ("charge", "waive")) == "charge",
        split_cached_tokens=_switch(given, "split_cached_tokens"),
    )


def _source(given: Mapping[str, Any]) -> str:
    source = given.get("source", UsageConfiguration.source)
    if not isinstance(source, str) or not source:
        raise ValueError("source must be text, and not empty")
    if len(source) > LONGEST_TEXT:
        raise ValueError(f"source must be at most {LONGEST_TEXT} characters")
    return source


def _switch(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {value!r}")
    return value


def _record(value: Any, fields: tuple[str, ...], at: str) -> dict[str, Any]:
    """What is set of a record; a field that it does not have is a slip."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{at} must be a record of {', '.join(fields)}")
    if unknown := sorted(str(name) for name in value.keys() - set(fields)):
        raise ValueError(f"{at} has no field {', '.join(unknown)}")
    return {name: field for name, field in value.items() if field is not None}


def _choice(given: Mapping[str, Any], name: str, choices: tuple[str, ...], at: str = "") -> str:
    value = given.get(name, choices[0])
    if value not in choices:
        raise ValueError(f"{at}{name} must be one of {', '.join(choices)}, not {value!r}")
    return str(value)


def _subject_field(subject: Mapping[str, Any], subject_from: str) -> str:
    if subject_from == "header":
        return _header_name(subject.get("field"), "subject.field")
    if subject_from == "credential":
        return "id"
    return _choice(subject, "field", ("username", "custom_id", "id"), "subject.")


def _attributes(given: Mapping[str, Any]) -> tuple[Attribute, ...]:
    value = given.get("attributes")
    if value is None:
        return DEFAULT_ATTRIBUTES
    if not isinstance(value, list | tuple):
        raise ValueError("attributes must be a list")
    attributes = tuple(_attribute(attribute, index) for index, attribute in enumerate(value))
    names = [attribute.name for attribute in attributes]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"attributes[{index}].event_property_name {name} is there twice")
    return attributes


def _attribute(given: Any, index: int) -> Attribute:
    at = f"attributes[{index}]"
    value = _record(given, ("source", "look_up_value_in", "event_property_name"), at)
    _choice(value, "source", ("header",), f"{at}.")
    name = value.get("event_property_name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{at}.event_property_name must name a field of the event's data")
    if name in RESERVED_PROPERTIES:
        raise ValueError(f"{at}.event_property_name must not be {name}, a field of every event")
    return Attribute(_header_name(value.get("look_up_value_in"), f"{at}.look_up_value_in"), name)


def _header_name(value: Any, at: str) -> str:
    if not isinstance(value, str) or not _HEADER_NAME.fullmatch(value):
        raise ValueError(f"{at} must name a request header")
    if value.lower() in CREDENTIAL_HEADERS:
        raise ValueError(f"{at} must not be {value}, which carries a credential")
    return value.lower()
