"""What `tallyman-kong` is told when it starts: options, each also an environment variable.

What Kong's administrator sets per plugin instance is not here but in `schema.py`.
"""

import argparse
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENVIRONMENT_PREFIX = "TALLYMAN_KONG_"
PLUGIN_NAME = "tallyman"
MEGABYTE = 1_000_000
MOST_MEGABYTES = 1e9  # a petabyte: beyond that it is a slip, and no number for SQLite or a clock
MOST_SECONDS = 3600.0
LONGEST_PREFIX = 107 - len(f"/{PLUGIN_NAME}.sock.4194304")


class SettingError(ValueError):
    """A setting stops the start; the message names it."""


@dataclass(frozen=True)
class Option:
    """One setting: `--name`, or TALLYMAN_KONG_NAME. `secret` ones are environment only."""

    name: str
    default: str
    help: str
    secret: bool = False

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.replace("-", "_").upper()


OPTIONS = (
    Option("prefix", "/run/tallyman", "directory of the socket tallyman.sock and of tallyman.json"),
    Option("spool", "/var/lib/tallyman/spool.db", "the spool, one SQLite file per node"),
    Option(
        "node-id",
        "",
        "stable name of this gateway node in each event; by default what the spool was begun with, "
        "at first the host's name",
    ),
    Option(
        "spool-max-mb", "1024", "size at which the spool refuses new events, in MB of 10^6 bytes"
    ),
    Option("queue-max-mb", "64", "log entries held in memory before the spool has them, in MB"),
    Option("socket-mode", "660", "octal mode of the socket; Kong's user needs to write to it"),
    Option("metrics", "127.0.0.1:9542", "address of the metrics and health page; `off` for none"),
    Option("drain-seconds", "10", "how long a stop may take to send what is spooled"),
    Option(
        "heartbeat-seconds",
        "60",
        "how often each sink is told what waits in the spool, as an event `tallyman.heartbeat`; "
        "0 for never, where the sink is not Tallyman's collector",
    ),
    Option("log-level", "info", "debug, info, warning or error"),
    Option(
        "api-token",
        "",
        "token for the one HTTP sink that has a token, until Kong sends it again after a restart",
        secret=True,
    ),
    Option(
        "sasl-password",
        "",
        "the same for Kafka's SASL password",
        secret=True,
    ),
)


@dataclass(frozen=True)
class Settings:
    """What `tallyman-kong` was told. `node_id` is empty where the spool decides."""

    prefix: Path
    spool: Path
    node_id: str
    spool_max_bytes: int
    queue_max_bytes: int
    socket_mode: int
    metrics: tuple[str, int] | None
    drain_seconds: float
    heartbeat_seconds: float
    log_level: str
    api_token: str
    sasl_password: str

    @property
    def socket(self) -> Path:
        return self.prefix / f"{PLUGIN_NAME}.sock"

    @property
    def dump(self) -> Path:
        return self.prefix / f"{PLUGIN_NAME}.json"


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="tallyman-kong",
        description="The Kong plugin `tallyman`: its plugin server, spool and sender.",
        epilog=f"Each option may be given in the environment as {ENVIRONMENT_PREFIX}NAME.",
    )
    for option in OPTIONS:
        if not option.secret:
            default = f"(default: {option.default})" if option.default else ""
            result.add_argument(f"--{option.name}", metavar="…", help=f"{option.help} {default}")
    return result


def settings(given: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; what is given on the command line goes before the environment.

    Raises:
        SettingError: a value that cannot be; the message names it.
    """
    texts: dict[str, str] = {}
    for option in OPTIONS:
        key = option.name.replace("-", "_")
        texts[key] = given.get(key) or environment.get(option.variable) or option.default
    return Settings(
        prefix=_prefix(texts["prefix"]),
        spool=Path(texts["spool"]),
        node_id=_node_id(texts["node_id"]),
        spool_max_bytes=int(_number(texts, "spool_max_mb", 1, MOST_MEGABYTES) * MEGABYTE),
        queue_max_bytes=int(_number(texts, "queue_max_mb", 1, MOST_MEGABYTES) * MEGABYTE),
        socket_mode=_mode(texts["socket_mode"]),
        metrics=_address(texts["metrics"]),
        drain_seconds=_number(texts, "drain_seconds", 0, MOST_SECONDS),
        heartbeat_seconds=_number(texts, "heartbeat_seconds", 0, MOST_SECONDS),
        log_level=_log_level(texts["log_level"]),
        api_token=texts["api_token"],
        sasl_password=texts["sasl_password"],
    )


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment variables that give a child the same settings."""
    host, port = settings.metrics or ("", 0)
    host = f"[{host}]" if ":" in host else host
    values = {
        "prefix": str(settings.prefix),
        "spool": str(settings.spool),
        "node-id": settings.node_id,
        "spool-max-mb": repr(settings.spool_max_bytes / MEGABYTE),
        "queue-max-mb": repr(settings.queue_max_bytes / MEGABYTE),
        "socket-mode": f"{settings.socket_mode:o}",
        "metrics": f"{host}:{port}" if settings.metrics else "off",
        "drain-seconds": repr(settings.drain_seconds),
        "heartbeat-seconds": repr(settings.heartbeat_seconds),
        "log-level": settings.log_level,
        "api-token": settings.api_token,
        "sasl-password": settings.sasl_password,
    }
    return {option.variable: values[option.name] for option in OPTIONS}


def host_name() -> str:
    return socket.gethostname()


def _prefix(text: str) -> Path:
    """The socket is first made under a longer name, and a Unix socket's path has 107 bytes."""
    if len(os.fsencode(text)) > LONGEST_PREFIX:
        raise SettingError(f"prefix must have at most {LONGEST_PREFIX} bytes, for a socket's sake")
    return Path(text)


def _number(texts: Mapping[str, str], key: str, least: float, most: float) -> float:
    name = key.replace("_", "-")
    try:
        value = float(texts[key])
    except ValueError as err:
        raise SettingError(f"{name} must be a number, not {texts[key]!r}") from err
    if not least <= value <= most:
        raise SettingError(f"{name} must be between {least:g} and {most:g}, not {texts[key]}")
    return value


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError as err:
        raise SettingError(f"socket-mode must be an octal mode such as 660, not {text!r}") from err
    if not 0 < mode <= 0o777:
        raise SettingError(f"socket-mode must be between 1 and 777, not {text}")
    return mode


def _address(text: str) -> tuple[str, int] | None:
    if text == "off":
        return None
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]  # an IPv6 address
    elif ":" in host:
        host = ""
    if not host or not port.isdecimal() or not 0 < int(port) <= 65535:
        raise SettingError(f"metrics must be HOST:PORT, [IPv6]:PORT or off, not {text!r}")
    return host, int(port)


def _node_id(text: str) -> str:
    if len(text) > 128 or not all("!" <= character <= "~" for character in text):
        raise SettingError("node-id must be at most 128 printable ASCII characters, no spaces")
    return text


def _log_level(text: str) -> str:
    if text not in ("debug", "info", "warning", "error"):
        raise SettingError(f"log-level must be debug, info, warning or error, not {text!r}")
    return text
