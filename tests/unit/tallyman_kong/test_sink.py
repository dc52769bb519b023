"""The sink's settings: what is accepted, what is on disk, and what never is."""

from typing import Any

import pytest
from tallyman_kong.sink import (
    HttpSink,
    KafkaSink,
    Sink,
    from_message,
    read_sink,
    restored,
    sink_id,
    to_message,
    without_secrets,
)

HTTP = HttpSink("https://collector:8888/events", api_token="tm_secret")
KAFKA = KafkaSink(
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
        ({"ingest_endpoint": "http://u:tm_secret@a/"}, "ingest_endpoint must have no user"),
        ({"ingest_endpoint": "http://a/?key=tm_secret"}, "ingest_endpoint must have no user"),
        ({"ingest_endpoint": "http://a/", "api_token": "tm_secret\r\nx: y"}, "api_token must be"),
        ({"ingest_endpoint": "http://a/", "timeout": 0}, "timeout must be between"),
        ({"ingest_endpoint": "http://a/", "keepalive": True}, "keepalive must be between"),
        ({"sink": "pigeon"}, "sink must be http or kafka"),
        ({"sink": "kafka"}, r"kafka\.brokers must name at least one broker"),
        ({"sink": "kafka", "kafka": {"brokers": "kafka:9092"}}, r"kafka\.brokers must name"),
        ({"sink": "kafka", "kafka": {"brokers": ["kafka"]}}, r"kafka\.brokers\[0\] must be"),
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

    assert "tm_secret" not in stored + sink_id(sink)
    assert restored(stored, api_token="tm_secret", sasl_password="tm_secret") == sink
    assert restored(stored, api_token="", sasl_password="") is None


def test_a_sink_that_needs_no_secret_comes_back_without_one() -> None:
    sink = HttpSink("https://collector:8888/events")

    assert restored(without_secrets(sink), api_token="", sasl_password="") == sink


@pytest.mark.parametrize("sink", [HTTP, KAFKA], ids=["http", "kafka"])
def test_a_sink_is_the_same_after_the_pipe_between_the_processes(sink: Sink) -> None:
    assert from_message(to_message(sink)) == sink


def test_a_new_token_or_time_out_is_the_same_sink_and_another_address_is_not() -> None:
    other_token = HttpSink(HTTP.endpoint, api_token="tm_new", timeout_ms=1, ssl_verify=False)

    assert sink_id(other_token) == sink_id(HTTP)
    assert sink_id(HttpSink("https://collector:8888/other")) != sink_id(HTTP)
    assert sink_id(KafkaSink(KAFKA.brokers, topic="other")) != sink_id(KAFKA)
