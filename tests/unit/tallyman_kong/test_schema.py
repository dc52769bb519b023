"""The schema that Kong gets, held to what Kong accepts and to what the plugin reads."""

from collections.abc import Iterator
from typing import Any

import pytest
from tallyman_kong.configuration import UsageConfiguration, configuration
from tallyman_kong.schema import PRIORITY, SCHEMA, VERSION
from tallyman_kong.sink import HttpSink, KafkaSink, read_sink

# Fields that must be given, or may be absent: no value would be right for everybody, and "" stops
# Kong. Records take their fields' defaults.
WITHOUT_DEFAULT = {
    "ingest_endpoint",
    "api_token",
    "kafka",
    "kafka.sasl_username",
    "kafka.sasl_password",
    "kafka.ssl_cafile",
    "subject",
    "attributes[].look_up_value_in",
    "attributes[].event_property_name",
}


def _fields(schema: list[dict[str, Any]], at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for field in schema:
        [(name, definition)] = field.items()
        yield at + name, definition
        yield from _fields(definition.get("fields", []), f"{at}{name}.")
        yield from _fields(definition.get("elements", {}).get("fields", []), f"{at}{name}[].")


FIELDS = dict(_fields(SCHEMA))


def _defaults(schema: list[dict[str, Any]]) -> dict[str, Any]:
    """The configuration as Kong gives it where nothing was set."""
    defaults: dict[str, Any] = {}
    for field in schema:
        [(name, definition)] = field.items()
        if definition["type"] == "record":
            defaults[name] = _defaults(definition["fields"])
        else:
            defaults[name] = definition.get("default")
    return defaults


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_has_a_description_a_type_and_a_default_or_says_that_it_has_none(
    name: str,
) -> None:
    field = FIELDS[name]

    assert field["description"].endswith(".")
    assert field["type"] in ("string", "integer", "boolean", "array", "record")
    assert ("default" in field) == (name not in WITHOUT_DEFAULT)
    if name in WITHOUT_DEFAULT:
        assert "default" in field["description"].lower()


def test_no_default_is_an_empty_string_which_stops_kong() -> None:
    assert [name for name, field in FIELDS.items() if field.get("default") == ""] == []


@pytest.mark.parametrize("name", [n for n, field in FIELDS.items() if "one_of" in field])
def test_a_default_is_one_of_the_choices(name: str) -> None:
    assert FIELDS[name]["default"] in FIELDS[name]["one_of"]


def test_secrets_may_be_references_and_are_stored_encrypted() -> None:
    secrets = {name for name, field in FIELDS.items() if field.get("encrypted")}

    assert secrets == {"api_token", "kafka.sasl_password"}
    assert all(FIELDS[name]["referenceable"] for name in secrets | {"ingest_endpoint"})


def test_the_schemas_defaults_are_what_the_plugin_takes_for_absent_values() -> None:
    given = _defaults(SCHEMA)

    assert configuration(given) == configuration({}) == UsageConfiguration()
    given = {**given, "__plugin_id": "p-1", "ingest_endpoint": "https://collector/events"}
    assert read_sink(given) == HttpSink("p-1", "https://collector/events")
    given = {**given, "sink": "kafka", "kafka": {**given["kafka"], "brokers": ["kafka:9092"]}}
    assert read_sink(given) == KafkaSink("p-1", ("kafka:9092",))


def test_every_field_of_kongs_own_metering_plugin_keeps_its_name() -> None:
    names = [
        "ingest_endpoint",
        "api_token",
        "timeout",
        "keepalive",
        "ssl_verify",
        "subject.look_up_value_in",
        "subject.field",
        "attributes[].source",
        "attributes[].look_up_value_in",
        "attributes[].event_property_name",
    ]

    assert set(names) <= set(FIELDS)


def test_version_and_priority_are_as_kong_wants_them() -> None:
    assert [part.isdecimal() for part in VERSION.split(".")] == [True] * 3
    assert isinstance(PRIORITY, int)
