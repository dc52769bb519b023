"""Where events go: the sink's settings, as the plugin's configuration in Kong gives them.

It does not send; `http_sink.py` and `kafka_sink.py` do.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
DEFAULT_TOPIC = "llm.usage"
DEFAULT_TIMEOUT_MS = 10_000
DEFAULT_KEEPALIVE_MS = 60_000
LONGEST_NAME = 64
LONGEST_SETTINGS = 32_000  # characters of JSON: a line of the pipe between our processes
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True)
class HttpSink:
    """An endpoint that takes batches of CloudEvents. `name` is the sink's in the spool."""

    name: str
    endpoint: str
    api_token: str | None = None
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    keepalive_ms: int = DEFAULT_KEEPALIVE_MS
    ssl_verify: bool = True
    kind: str = "http"

    @property
    def address(self) -> str:
        return self.endpoint


@dataclass(frozen=True)
class KafkaSink:
    """A topic of a Kafka cluster. `name` is the sink's in the spool."""

    name: str
    brokers: tuple[str, ...]
    topic: str = DEFAULT_TOPIC
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_cafile: str | None = None
    ssl_verify: bool = True
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    kind: str = "kafka"

    @property
    def address(self) -> str:
        return f"{','.join(self.brokers)} {self.topic}"


Sink = HttpSink | KafkaSink


def read_sink(config: Mapping[str, Any]) -> Sink:
    """Read the sink of the plugin's configuration as Kong gives it.

    Raises:
        ValueError: the sink cannot be used; the message names the field, and holds no secret.
    """
    sink = _read(config)
    if len(json.dumps(to_message(sink))) > LONGEST_SETTINGS:
        raise ValueError("the sink's settings are too long: is api_token or kafka.brokers right?")
    return sink


def _read(config: Mapping[str, Any]) -> Sink:
    kind = config.get("sink") or "http"
    timeout_ms = _milliseconds(config, "timeout", DEFAULT_TIMEOUT_MS)
    ssl_verify = config.get("ssl_verify") is not False
    if kind == "http":
        endpoint = _endpoint(config.get("ingest_endpoint"))
        return HttpSink(
            name=_name(config, f"http {endpoint}"),
            endpoint=endpoint,
            api_token=_secret(config.get("api_token"), "api_token"),
            timeout_ms=timeout_ms,
            keepalive_ms=_milliseconds(config, "keepalive", DEFAULT_KEEPALIVE_MS),
            ssl_verify=ssl_verify,
        )
    if kind == "kafka":
        return _kafka(config, timeout_ms, ssl_verify=ssl_verify)
    raise ValueError("sink must be http or kafka")


def without_secrets(sink: Sink) -> str:
    """The sink as JSON that may be on disk: whether it needs a secret, but not the secret."""
    fields = asdict(sink)
    secret = fields.pop("api_token" if sink.kind == "http" else "sasl_password")
    return json.dumps({**fields, "needs_secret": secret is not None}, sort_keys=True)


def restored(
    stored: Mapping[str, str], *, api_token: str, sasl_password: str
) -> dict[str, Sink | None]:
    """The sinks by name, from what is on disk, with a secret from the environment.

    None where the secret is missing, or where it may be another sink's: two plugins' tokens may be
    two tenants', and the events of one must not be sent with the token of the other.
    """
    read = {name: json.loads(text) for name, text in stored.items()}
    kinds = [fields["kind"] for fields in read.values() if fields["needs_secret"]]
    given = {"http": api_token, "kafka": sasl_password}
    secrets = {kind: given[kind] if kinds.count(kind) == 1 else "" for kind in given}
    return {name: _restored(fields, secrets[fields["kind"]]) for name, fields in read.items()}


def _restored(stored: dict[str, Any], secret: str) -> Sink | None:
    fields = dict(stored)
    needs_secret = fields.pop("needs_secret")
    if needs_secret and not secret:
        return None
    name = "api_token" if fields["kind"] == "http" else "sasl_password"
    return from_message({**fields, name: secret if needs_secret else None})


def to_message(sink: Sink) -> dict[str, Any]:
    """The whole sink, secrets included, for the pipe between our own processes only."""
    return asdict(sink)


def from_message(fields: Mapping[str, Any]) -> Sink:
    if fields["kind"] == "http":
        return HttpSink(**fields)
    return KafkaSink(**{**fields, "brokers": tuple(fields["brokers"])})


def _name(config: Mapping[str, Any], address: str) -> str:
    """What the sink is called in the spool: Kong's id of the plugin, whatever is set on it later.

    So a new token or endpoint also takes what was spooled before, and two plugins with one endpoint
    and different tokens, which may be different tenants', stay apart.
    """
    plugin = config.get("__plugin_id")
    if isinstance(plugin, str) and plugin:
        return plugin[:LONGEST_NAME]
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def _kafka(config: Mapping[str, Any], timeout_ms: int, *, ssl_verify: bool) -> KafkaSink:
    given = config.get("kafka")
    kafka = given if isinstance(given, Mapping) else {}
    brokers = kafka.get("brokers")
    if not isinstance(brokers, list) or not brokers:
        raise ValueError("kafka.brokers must name at least one broker as host:port")
    for index, broker in enumerate(brokers):
        host, _, port = broker.rpartition(":") if isinstance(broker, str) else ("", "", "")
        if not host or "/" in host or not port.isdecimal() or not 0 < int(port) <= 65535:
            raise ValueError(f"kafka.brokers[{index}] must be host:port")
    protocol = kafka.get("security_protocol") or "PLAINTEXT"
    if protocol not in SECURITY_PROTOCOLS:
        raise ValueError(f"kafka.security_protocol must be one of {', '.join(SECURITY_PROTOCOLS)}")
    mechanism = kafka.get("sasl_mechanism") or "PLAIN"
    if mechanism not in SASL_MECHANISMS:
        raise ValueError(f"kafka.sasl_mechanism must be one of {', '.join(SASL_MECHANISMS)}")
    uses_sasl = protocol.startswith("SASL")
    username = kafka.get("sasl_username") or None
    password = _secret(kafka.get("sasl_password"), "kafka.sasl_password")
    if uses_sasl and (username is None or password is None):
        raise ValueError(f"kafka.sasl_username and sasl_password must be set with {protocol}")
    topic = str(kafka.get("topic") or DEFAULT_TOPIC)
    if not _TOPIC.fullmatch(topic):
        raise ValueError("kafka.topic must be at most 249 letters, digits, dots, _ and -")
    return KafkaSink(
        name=_name(config, f"kafka {','.join(brokers)} {topic}"),
        brokers=tuple(brokers),
        topic=topic,
        security_protocol=protocol,
        sasl_mechanism=mechanism if uses_sasl else None,
        sasl_username=username if uses_sasl else None,
        sasl_password=password if uses_sasl else None,
        ssl_cafile=kafka.get("ssl_cafile") or None,
        ssl_verify=ssl_verify,
        timeout_ms=timeout_ms,
    )


def _endpoint(value: Any) -> str:
    """An endpoint is kept in the spool, so it may not hold a secret."""
    if not isinstance(value, str) or not value:
        raise ValueError("ingest_endpoint must be set where sink is http")
    try:
        url = urlsplit(value)
        valid = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        valid = False
    if not valid or not value.isprintable() or " " in value:
        raise ValueError("ingest_endpoint must be an http or https URL")
    if url.username or url.password or url.query or url.fragment:
        raise ValueError(
            "ingest_endpoint must have no user, password, query or fragment; "
            "a secret belongs in api_token"
        )
    return value


def _secret(value: Any, name: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.isprintable() or not value.isascii():
        raise ValueError(f"{name} must be printable ASCII text")
    return value


def _milliseconds(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 3_600_000:
        raise ValueError(f"{name} must be between 1 and 3600000 milliseconds")
    return int(value)
