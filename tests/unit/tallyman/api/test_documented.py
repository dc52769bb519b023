"""docs/api.md and docs/operations.md hold what the code has: routes, error codes, metrics."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase
from tallyman import errors, metrics
from tallyman.api.problems import STATUSES
from tallyman.api.routes import ROUTES

DOCS = Path(__file__).parents[4] / "docs"


def rows(file: str, section: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    text = (DOCS / file).read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    table = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_every_route_is_documented_with_its_scope() -> None:
    assert rows("api.md", "Routes") == [
        [
            route.method,
            f"`{route.path}`{'*' if route.openmeter else ''}",
            str(route.scope or "open"),
            route.summary,
        ]
        for route in ROUTES
    ]


def _classes(cls: type[errors.TallymanError]) -> Iterator[type[errors.TallymanError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _classes(child)


def test_every_error_code_is_documented_with_its_status() -> None:
    expected = {}
    for cls in _classes(errors.TallymanError):
        status = next(STATUSES[base][0] for base in cls.__mro__ if base in STATUSES)
        expected[f"`{cls.code}`"] = "–" if cls is errors.ConfigurationError else str(int(status))
    expected |= {f"`{code}`": "400" for code in get_args(errors.QueryCode)}

    assert {code: status for code, status, _ in rows("api.md", "Errors")} == expected


def test_every_metric_of_the_api_is_documented() -> None:
    declared = {
        f"`{metric._name}{'_total' if isinstance(metric, Counter) else ''}`": metric._documentation
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
    }
    documented = dict(rows("operations.md", "Metrics of `tallyman serve`"))

    assert documented == declared
    assert all(re.fullmatch(r"`tallyman_\w+`", name) for name in declared)
