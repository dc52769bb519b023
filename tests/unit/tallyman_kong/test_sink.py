"""The sink's settings: what is accepted, what is on disk, and what never is."""

from dataclasses import replace
from typing import Any

import pytest
from tallyman_kong.sink import (
    HttpSink,
    KafkaSink,
    Sink,
    from_message,
    read_sink,
    restored,
    to_message,
    without_secrets,
)

HTTP = HttpSink("p-1", "https://collector:8888/events", api_token="tm_secret")
KAFKA = KafkaSink(
    "p-2",
    ("kafka-1:9093", "kafka-2:9093"),
    security_protocol="SASL_SSL",
    sasl_mechanism="SCRAM-SHA-512",
    sasl_username="tallyman",
    sasl_password="tm_secret",
)
SASL = {"brokers": ["kafka:9093"], "security_protocol": "SASL_SSL"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "ingest_endpoint must be set"),
        ({"ingest_endpoint": 7}, "ingest_endpoint must be set"),
        ({"ingest_endpoint": "collector/events"}, "ingest_endpoint must be an http or https URL"),
        ({"ingest_endpoint": "http://:80/"}, "ingest_endpoint must be an http or https URL"),
        ({"ingest_endpoint": "http://a:99999/"}, "ingest_endpoint must be an http or https URL"),
        ({"ingest_endpoint": "http://a:0/"}, "ingest_endpoint must be an http or https URL"),
        ({"ingest_endpoint": "http://a b/"}, "ingest_endpoint must be an http or https URL"),
        ({"ingest_endpoint": "http://a/\n"}, "ingest_endpoint must be an http or https URL"),
        ({"ingest_endpoint": "http://u:tm_secret@a/"}, "ingest_endpoint must have no user"),
        ({"ingest_endpoint": "http://a/?key=tm_secret"}, "ingest_endpoint must have no user"),
        ({"ingest_endpoint": "http://a/", "api_token": "tm_secret\r\nx: y"}, "api_token must be"),
        ({"ingest_endpoint": "http://a/", "api_token": "x" * 40_000}, "settings are too long"),
        ({"ingest_endpoint": "http://a/", "timeout": 0}, "timeout must be between"),
        ({"ingest_endpoint": "http://a/", "timeout": 0.5}, "timeout must be between"),
        ({"ingest_endpoint": "http://a/", "keepalive": True}, "keepalive must be between"),
        ({"sink": "pigeon"}, "sink must be http or kafka"),
        ({"sink": "kafka"}, r"kafka\.brokers must name at least one broker"),
        ({"sink": "kafka", "kafka": {"brokers": "kafka:9092"}}, r"kafka\.brokers must name"),
        ({"sink": "kafka", "kafka": {"brokers": ["kafka"]}}, r"kafka\.brokers\[0\] must be"),
        ({"sink": "kafka", "kafka": {"brokers": ["a:99999"]}}, r"kafka\.brokers\[0\] must be"),
        ({"sink": "kafka", "kafka": {"brokers": ["SSL://a:1"]}}, r"kafka\.brokers\[0\] must be"),
        ({"sink": "kafka", "kafka": {"brokers": ["a:1"], "topic": "a b"}}, r"kafka\.topic must be"),
        ({"sink": "kafka", "kafka": SASL}, r"kafka\.sasl_username and sasl_password must be set"),
        ({"sink": "kafka", "kafka": {**SASL, "sasl_mechanism": "OK"}}, r"kafka\.sasl_mechanism"),
        ({"sink": "kafka", "kafka": {**SASL, "security_protocol": "X"}}, "security_protocol"),
    ],
)
def test_a_sink_that_cannot_be_used_is_named_by_field_and_without_its_secret(
    config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read_sink(config)

    assert "tm_secret" not in str(raised.value)


@pytest.mark.parametrize("sink", [HTTP, KAFKA], ids=["http", "kafka"])
def test_no_secret_is_in_what_is_stored_and_the_rest_comes_back_with_it(sink: Sink) -> None:
    stored = without_secrets(sink)

    assert "tm_secret" not in stored
    assert restored({"s": stored}, api_token="tm_secret", sasl_password="tm_secret") == {"s": sink}
    assert restored({"s": stored}, api_token="", sasl_password="") == {"s": None}


def test_a_sink_that_needs_no_secret_comes_back_without_one() -> None:
    sink = HttpSink("p-1", "https://collector:8888/events")

    stored = {"p-1": without_secrets(sink)}
    assert restored(stored, api_token="tm_secret", sasl_password="") == {"p-1": sink}


def test_the_environments_token_goes_to_no_sink_where_it_may_be_anothers() -> None:
    open_sink = HttpSink("p-3", "https://elsewhere/events")
    other = replace(HTTP, name="p-4", api_token="another tenant's")
    sinks = {sink.name: without_secrets(sink) for sink in (HTTP, KAFKA, open_sink)}

    one_each = restored(sinks, api_token="tm_secret", sasl_password="tm_secret")
    two_tenants = restored(
        {**sinks, "p-4": without_secrets(other)}, api_token="tm_secret", sasl_password="tm_secret"
    )

    assert one_each == {"p-1": HTTP, "p-2": KAFKA, "p-3": open_sink}
    assert two_tenants == {"p-1": None, "p-2": KAFKA, "p-3": open_sink, "p-4": None}


@pytest.mark.parametrize("sink", [HTTP, KAFKA], ids=["http", "kafka"])
def test_a_sink_is_the_same_after_the_pipe_between_the_processes(sink: Sink) -> None:
    assert from_message(to_message(sink)) == sink


def test_a_plugin_keeps_its_sink_whatever_is_changed_on_it() -> None:
    before = {"__plugin_id": "p-1", "ingest_endpoint": "http://a/", "api_token": "old"}
    kafka = {"__plugin_id": "p-1", "sink": "kafka", "kafka": {"brokers": ["kafka:9092"]}}

    assert read_sink(before).name == read_sink(kafka).name == "p-1"


def test_two_plugins_with_one_endpoint_have_a_sink_each() -> None:
    names = {
        read_sink({"__plugin_id": plugin, "ingest_endpoint": "http://a/"}).name
        for plugin in ("p-1", "p-2")
    }

    assert names == {"p-1", "p-2"}


def test_without_kongs_id_a_sink_is_named_by_its_address() -> None:
    one = read_sink({"ingest_endpoint": "http://a/", "api_token": "one"})
    other = read_sink({"ingest_endpoint": "http://b/", "api_token": "one"})

    assert one.name == read_sink({"ingest_endpoint": "http://a/", "api_token": "two"}).name
    assert one.name != other.name
