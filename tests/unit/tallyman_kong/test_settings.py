"""What `tallyman-kong` is told: on the command line, or in the environment."""

from pathlib import Path

import pytest
from tallyman_kong.settings import OPTIONS, SettingError, Settings, environment_of, settings

DEFAULT = Settings(
    prefix=Path("/run/tallyman"),
    spool=Path("/var/lib/tallyman/spool.db"),
    node_id="",
    spool_max_bytes=1_024_000_000,
    queue_max_bytes=64_000_000,
    socket_mode=0o660,
    metrics=("127.0.0.1", 9542),
    drain_seconds=10.0,
    heartbeat_seconds=60.0,
    log_level="info",
    api_token="",
    sasl_password="",
)


def test_without_anything_the_defaults_hold() -> None:
    assert settings({}, {}) == DEFAULT


def test_the_command_line_goes_before_the_environment() -> None:
    environment = {"TALLYMAN_KONG_NODE_ID": "from-the-environment"}

    assert settings({}, environment).node_id == "from-the-environment"
    assert settings({"node_id": "given"}, environment).node_id == "given"


def test_a_child_is_given_the_same_settings_by_its_environment() -> None:
    given = {
        "prefix": "/tmp/p",
        "spool": "/tmp/s.db",
        "node_id": "kong-7",
        "spool_max_mb": "1.5",
        "queue_max_mb": "2",
        "socket_mode": "666",
        "metrics": "[::1]:1",
        "drain_seconds": "0.25",
        "log_level": "debug",
    }
    secrets = {"TALLYMAN_KONG_API_TOKEN": "t", "TALLYMAN_KONG_SASL_PASSWORD": "p"}
    parents = settings(given, secrets)

    assert settings({}, environment_of(parents)) == parents
    assert settings({}, environment_of(DEFAULT)) == DEFAULT


def test_the_page_can_be_switched_off() -> None:
    parents = settings({"metrics": "off"}, {})

    assert parents.metrics is None
    assert settings({}, environment_of(parents)) == parents


def test_the_page_may_be_on_an_ipv6_address() -> None:
    assert settings({"metrics": "[::1]:9542"}, {}).metrics == ("::1", 9542)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prefix", "/" + "x" * 100),
        ("node_id", "two words"),
        ("node_id", "ä"),
        ("node_id", "x" * 129),
        ("spool_max_mb", "much"),
        ("spool_max_mb", "0"),
        ("spool_max_mb", "nan"),
        ("spool_max_mb", "inf"),
        ("queue_max_mb", "-1"),
        ("socket_mode", "0"),
        ("socket_mode", "1777"),
        ("metrics", "9542"),
        ("metrics", "host:"),
        ("metrics", "host:70000"),
        ("metrics", "host:0"),
        ("metrics", "::1:9542"),
        ("metrics", "[]:9542"),
        ("spool_max_mb", "1e300"),
        ("queue_max_mb", "1e300"),
        ("drain_seconds", "-1"),
        ("drain_seconds", "1e300"),
        ("log_level", "loud"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name.replace("_", "-")):
        settings({name: value}, {})


def test_secrets_are_taken_from_the_environment_alone() -> None:
    assert [option.name for option in OPTIONS if option.secret] == ["api-token", "sasl-password"]
