"""Finds the plugin's configuration in the gateway's own file, so that it is written once.

It does not say what the fields mean: that is `tallyman_kong.usage`'s, for the plugin too.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import yaml
from tallyman_kong.usage import UsageConfiguration, configuration

from tallyman.errors import ConfigurationError

PLUGIN: Final = "tallyman"
# The plugin's schema; anything else in a plain mapping is a slip that would change what is counted.
FIELDS: Final = frozenset(
    {
        "sink",
        "ingest_endpoint",
        "api_token",
        "timeout",
        "keepalive",
        "ssl_verify",
        "kafka",
        "source",
        "subject",
        "attributes",
        "failed_calls",
        "estimated_counts",
        "split_cached_tokens",
    }
)
# decK puts the environment into the text before it is YAML: the inner quotes may break it.
_VARIABLE = re.compile(r"""\$\{\{\s*env\s+["']([A-Za-z0-9_]+)["']\s*(?:\|[^}]*)?\}\}""")
_MARK = re.compile(r"__environment_([A-Za-z0-9_]+?)__")


def load_usage_configuration(
    path: Path, environment: Mapping[str, str] = os.environ
) -> UsageConfiguration:
    """What the plugin makes events by, from a decK file or a plain mapping of its configuration.

    A decK file may hold the plugin anywhere; where it is there more than once, all must agree on
    what decides an event. Variables (`${{ env "DECK_…" }}`) are only looked up where they decide
    an event: a secret need not be set.

    Raises:
        ConfigurationError: the file cannot be read, names no such plugin, or contradicts itself.
    """
    document = _load(path)
    found = dict(_plugins(document, document.get("_plugin_configs") or {}, ""))
    if not found:
        found = {"": _plain(document, path)}
    read: dict[str, UsageConfiguration] = {}
    for place, config in found.items():
        try:
            read[place] = configuration(_filled(config, environment))
        except (ValueError, TypeError, AttributeError) as err:
            raise ConfigurationError(f"{path}: {place and place + ': '}{err}") from err
        _require_variables(read[place], place, path)
    _require_agreement(read, path)
    return next(iter(read.values()))


def read_deck(path: Path, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """A decK file with the variables that are set; for the others see `unset_variables`.

    Raises:
        ConfigurationError: it cannot be read.
    """
    filled = _filled(_load(path), environment)
    assert isinstance(filled, dict)  # noqa: S101 – a mapping stays one
    return filled


def unset_variables(value: object) -> list[str]:
    """The variables that something of `read_deck` depends on, and that are not set."""
    return sorted(set(_MARK.findall(repr(value))))


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigurationError(f"{path} cannot be read: {err}") from err
    try:
        document = yaml.safe_load(_VARIABLE.sub(r"__environment_\1__", text))
    except yaml.YAMLError as err:
        raise ConfigurationError(f"{path} is not YAML or JSON: {err}") from err
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} is not a mapping")
    return document


def _plugins(node: Any, shared: Any, at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every enabled `tallyman` under any `plugins`, with the place where it stands."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from _plugins(item, shared, f"{at}[{_name(item) or index}]")
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        place = f"{at}.{key}".lstrip(".")
        if key not in ("plugins", "data") or not isinstance(value, list):
            yield from _plugins(value, shared, place)
            continue
        for index, plugin in enumerate(value):
            if not isinstance(plugin, dict) or plugin.get("name") != PLUGIN:
                continue
            if plugin.get("enabled", True) is not False:
                name = plugin.get("_config")
                inherited = (shared.get(name) or {}) if isinstance(shared, dict) else {}
                yield f"{place}[{index}]", {**inherited, **(plugin.get("config") or {})}


def _name(item: Any) -> str | None:
    return (item.get("name") or item.get("username")) if isinstance(item, dict) else None


def _plain(document: dict[str, Any], path: Path) -> dict[str, Any]:
    if "_format_version" in document or "services" in document:
        raise ConfigurationError(
            f"{path} has no enabled plugin {PLUGIN}; a gateway without it takes a file with the "
            "plugin's configuration alone, such as `source: kong`"
        )
    if unknown := sorted(str(key) for key in document.keys() - FIELDS):
        raise ConfigurationError(f"{path}: the plugin has no field {', '.join(unknown)}")
    return document


def _filled(value: Any, environment: Mapping[str, str]) -> Any:
    """The value with the variables that are set; decK reads true and false as booleans."""
    if isinstance(value, dict):
        return {key: _filled(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, environment) for item in value]
    if not isinstance(value, str):
        return value
    filled = _MARK.sub(lambda mark: environment.get(mark[1], mark[0]), value)
    if filled != value and filled in ("true", "false"):
        return filled == "true"
    return filled


def _require_variables(usage: UsageConfiguration, place: str, path: Path) -> None:
    if unset := unset_variables(usage):
        raise ConfigurationError(
            f"{path}: {place and place + ': '}what is counted depends on {', '.join(unset)}, "
            "which is not set"
        )


def _require_agreement(read: Mapping[str, UsageConfiguration], path: Path) -> None:
    if len(set(read.values())) <= 1:
        return
    differing = [
        field.name
        for field in fields(UsageConfiguration)
        if len({getattr(usage, field.name) for usage in read.values()}) > 1
    ]
    raise ConfigurationError(
        f"{path}: the plugins {', '.join(read)} disagree on {', '.join(differing)}, so which of "
        "them an entry passed through cannot be told; make them alike, or give a file with one"
    )
