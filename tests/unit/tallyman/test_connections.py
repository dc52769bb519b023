"""Settings that are right each for itself, and still cannot be used."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from tallyman import connections
from tallyman.config import Settings
from tallyman.errors import ConfigurationError

KAFKA: dict[str, Any] = {"kafka_brokers": "kafka:9092", "clickhouse_url": SecretStr("http://ch")}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"kafka_brokers": " , "}, "kafka_brokers"),
        ({"clickhouse_url": None}, "clickhouse_url"),
        ({"kafka_ssl_cafile": Path("/nowhere/ca.pem")}, "kafka_ssl_cafile"),
        ({"kafka_security_protocol": "SASL_SSL"}, "kafka_sasl_username"),
    ],
)
def test_settings_of_kafka_that_cannot_be_used_are_named(
    changed: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        connections.kafka_connection(Settings(**KAFKA | changed))


@pytest.mark.parametrize(
    "url",
    ["nonsense:geheim", "tcp://geheim@ch", "http://", "http://:8123/x", "http://[", "http://ch:x/"],
)
def test_a_clickhouse_url_that_is_none_is_named_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="clickhouse_url") as caught:
        connections.open_clickhouse(Settings(clickhouse_url=SecretStr(url)))

    assert "geheim" not in str(caught.value)


def test_a_cluster_without_a_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="clickhouse_cluster needs clickhouse_url"):
        connections.open_clickhouse(Settings(data_dir=tmp_path, clickhouse_cluster="tallyman"))
