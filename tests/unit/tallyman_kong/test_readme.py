"""plugin/README.md lists every setting, field and metric, as they are in the code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tallyman_kong.metrics import METRICS
from tallyman_kong.schema import SCHEMA
from tallyman_kong.settings import OPTIONS

README = Path(__file__).parents[3] / "plugin" / "README.md"


def _fields(schema: list[dict[str, Any]], at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for field in schema:
        [(name, definition)] = field.items()
        nested = [*definition.get("fields", ()), *definition.get("elements", {}).get("fields", ())]
        if not nested or definition["type"] == "array":
            yield at + name, definition
        yield from _fields(nested, f"{at}{name}{'[]' if definition['type'] == 'array' else ''}.")


def option_rows() -> list[str]:
    return [
        f"| {'–' if option.secret else f'`--{option.name}`'} | `{option.variable}` "
        f"| {f'`{option.default}`' if option.default else '–'} | {option.help} |"
        for option in OPTIONS
    ]


def field_rows() -> list[str]:
    return [
        f"| `{name}` | {_type(field)} | {_default(field)} | {field['description']} |"
        for name, field in _fields(SCHEMA)
    ]


def metric_rows() -> list[str]:
    return [
        f"| `{metric.name}`{_labels(metric.labels)} | {metric.kind} | {metric.help} |"
        for metric in METRICS
    ]


def _labels(labels: tuple[str, ...]) -> str:
    return f" by {', '.join(f'`{label}`' for label in labels)}" if labels else ""


def _type(field: dict[str, Any]) -> str:
    if "one_of" in field:
        return ", ".join(f"`{choice}`" for choice in field["one_of"])
    return str(field["type"])


def _default(field: dict[str, Any]) -> str:
    default = field.get("default")
    if isinstance(default, list):
        names = [attribute["look_up_value_in"] for attribute in default]
        return ", ".join(f"`{name}`" for name in names) or "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return "–" if default is None else f"`{default}`"


def test_the_readme_lists_every_setting() -> None:
    assert _missing(option_rows()) == []


def test_the_readme_lists_every_field_of_the_configuration() -> None:
    assert _missing(field_rows()) == []


def test_the_readme_lists_every_metric() -> None:
    assert _missing(metric_rows()) == []


def _missing(rows: list[str]) -> list[str]:
    text = README.read_text()
    return [row for row in rows if row not in text]
