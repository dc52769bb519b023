"""Owns how brokers are reached: addresses, TLS and SASL, the same for every client.

It does not own a client: each part opens its own.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallyman.config import SaslMechanism, SecurityProtocol


@dataclass(frozen=True)
class KafkaConnection:
    """`brokers` are host:port, as many as are to be tried at the start."""

    brokers: tuple[str, ...]
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_cafile: Path | None = None

    def options(self) -> dict[str, Any]:
        """What every aiokafka client takes."""
        options: dict[str, Any] = {
            "bootstrap_servers": list(self.brokers),
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol in ("SSL", "SASL_SSL"):
            cafile = None if self.ssl_cafile is None else str(self.ssl_cafile)
            options["ssl_context"] = ssl.create_default_context(cafile=cafile)
        if self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL"):
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password
        return options

    def durable_producer_options(self) -> dict[str, Any]:
        """What a producer takes that loses nothing and repeats nothing by itself."""
        return self.options() | {
            "enable_idempotence": True,
            "acks": "all",
            "compression_type": "zstd",
            "max_batch_size": 256 * 1024,
        }
