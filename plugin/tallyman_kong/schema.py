"""The plugin's schema, version and priority, in the form in which Kong wants them.

Kong stops on a default of "" on a string: a string field that has no sensible default has none,
and its description says when it must be set. The values are read in `configuration.py` (what decides
an event) and `sink.py` (where it goes).
"""

from typing import Any

from tallyman_kong import __version__
from tallyman_kong.configuration import LONGEST_TEXT, UsageConfiguration
from tallyman_kong.sink import (
    DEFAULT_KEEPALIVE_MS,
    DEFAULT_TIMEOUT_MS,
    DEFAULT_TOPIC,
    SASL_MECHANISMS,
    SECURITY_PROTOCOLS,
)

VERSION = __version__
PRIORITY = 11  # beside Kong's own loggers (http-log 12, file-log 9); the log phase sees all at any

_DEFAULT = UsageConfiguration()

Field = dict[str, dict[str, Any]]


def _field(name: str, kind: str, description: str, **more: Any) -> Field:
    return {name: {"type": kind, "description": description, **more}}


_KAFKA: list[Field] = [
    _field(
        "brokers",
        "array",
        "Brokers to begin with, each as host:port. Must be set where sink is kafka.",
        elements={"type": "string"},
        default=[],
    ),
    _field("topic", "string", "The topic that events are produced to.", default=DEFAULT_TOPIC),
    _field(
        "security_protocol",
        "string",
        "How brokers are spoken to.",
        one_of=list(SECURITY_PROTOCOLS),
        default="PLAINTEXT",
    ),
    _field(
        "sasl_mechanism",
        "string",
        "The SASL mechanism, where security_protocol has SASL.",
        one_of=list(SASL_MECHANISMS),
        default="PLAIN",
    ),
    _field(
        "sasl_username",
        "string",
        "The SASL user. Must be set where security_protocol has SASL; no default.",
        referenceable=True,
    ),
    _field(
        "sasl_password",
        "string",
        "The SASL password. Must be set where security_protocol has SASL; no default.",
        referenceable=True,
        encrypted=True,
    ),
    _field(
        "ssl_cafile",
        "string",
        "Path, beside the plugin server, of the CA certificates that brokers are checked against. "
        "No default: the system's.",
    ),
]

_SUBJECT: list[Field] = [
    _field(
        "look_up_value_in",
        "string",
        "Where the subject, who is charged, comes from.",
        one_of=["consumer", "credential", "header"],
        default=_DEFAULT.subject_from,
    ),
    _field(
        "field",
        "string",
        "With consumer: username, custom_id or id. With header: the request header's name. "
        "With credential: not used, the credential's id is taken.",
        default=_DEFAULT.subject_field,
    ),
]

_ATTRIBUTE: list[Field] = [
    _field(
        "source",
        "string",
        "Where the attribute is found in the request.",
        one_of=["header"],
        default="header",
    ),
    _field(
        "look_up_value_in",
        "string",
        "The request header's name. Required; no default.",
        required=True,
    ),
    _field(
        "event_property_name",
        "string",
        "The field of the event's data that holds the value. Required; no default.",
        required=True,
    ),
]

SCHEMA: list[Field] = [
    _field(
        "sink",
        "string",
        "Where events are sent: to an HTTP endpoint, or to Kafka.",
        one_of=["http", "kafka"],
        default="http",
    ),
    _field(
        "ingest_endpoint",
        "string",
        "The HTTP endpoint where usage events are sent. Must be set where sink is http; no default.",
        referenceable=True,
    ),
    _field(
        "api_token",
        "string",
        "Bearer token for the ingest endpoint. No default: without it no token is sent.",
        referenceable=True,
        encrypted=True,
    ),
    _field(
        "timeout",
        "integer",
        "Milliseconds that one request to the sink may take.",
        default=DEFAULT_TIMEOUT_MS,
        between=[1, 3_600_000],
    ),
    _field(
        "keepalive",
        "integer",
        "Milliseconds that an idle connection to the ingest endpoint is kept open.",
        default=DEFAULT_KEEPALIVE_MS,
        between=[1, 3_600_000],
    ),
    _field(
        "ssl_verify",
        "boolean",
        "Whether the sink's TLS certificate is checked.",
        default=True,
    ),
    _field(
        "kafka",
        "record",
        "The Kafka cluster, where sink is kafka. The default is its fields' defaults.",
        required=True,  # has Kong fill in the fields' defaults; it need not be given
        fields=_KAFKA,
    ),
    _field(
        "source",
        "string",
        "The events' CloudEvents source. The same for every gateway that shares its request ids.",
        len_max=LONGEST_TEXT,
        default=_DEFAULT.source,
    ),
    _field(
        "subject",
        "record",
        "Who is charged. A call that has none is counted under `anonymous`. "
        "The default is its fields' defaults.",
        required=True,
        fields=_SUBJECT,
    ),
    _field(
        "attributes",
        "array",
        "Request headers that become fields of the event's data; no other header is ever taken.",
        elements={"type": "record", "fields": _ATTRIBUTE},
        default=[
            {
                "source": "header",
                "look_up_value_in": attribute.header,
                "event_property_name": attribute.name,
            }
            for attribute in _DEFAULT.attributes
        ],
    ),
    _field(
        "failed_calls",
        "string",
        "Whether the tokens that the provider reported for a failed or refused call are charged.",
        one_of=["waive", "charge"],
        default="charge" if _DEFAULT.charge_failed_calls else "waive",
    ),
    _field(
        "estimated_counts",
        "string",
        "Whether estimated tokens of an answered call are charged.",
        one_of=["charge", "waive"],
        default="charge" if _DEFAULT.charge_estimated_counts else "waive",
    ),
    _field(
        "split_cached_tokens",
        "boolean",
        "Whether cached input becomes events of its own, cache_read and cache_write.",
        default=_DEFAULT.split_cached_tokens,
    ),
]
