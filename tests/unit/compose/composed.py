"""Reads docker-compose.yml as Compose does, as far as the tests need it."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docker-compose.yml").read_text()
_VARIABLE = re.compile(r"\$\{(\w+):\?([^}]+)\}")
_WITH_DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")


def variables() -> set[str]:
    """The names that the file takes from the environment, each of which stops it if unset."""
    return {name for name, _ in _VARIABLE.findall(TEXT)}


@cache
def composed() -> dict[str, Any]:
    """The file with every variable that must be set as `secret-of-<NAME>`, and no other set."""
    document = yaml.safe_load(_WITH_DEFAULT.sub(r"\1", _VARIABLE.sub(r"secret-of-\1", TEXT)))
    assert isinstance(document, dict)
    return document


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = composed()["services"]
    return found


def environment(service: str) -> dict[str, str]:
    given = services()[service].get("environment", {})
    return {name: "" if value is None else str(value) for name, value in given.items()}
