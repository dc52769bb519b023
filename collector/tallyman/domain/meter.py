"""What a meter is: which events it reads, how it sums them up, and by what it can be split.

It does not run a query: `store/meter_sql.py` renders one.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from tallyman.errors import InvalidInput, InvalidParameter


class Aggregation(StrEnum):
    """How the values of the events are summed up."""

    SUM = "sum"
    COUNT = "count"
    UNIQUE_COUNT = "unique_count"
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    LATEST = "latest"


class Granularity(StrEnum):
    """The length of a window, an ISO 8601 duration."""

    MINUTE = "PT1M"
    HOUR = "PT1H"
    DAY = "P1D"
    MONTH = "P1M"


@dataclass(frozen=True)
class Meter:
    """`value_property` and the dimensions are JSONPaths into the event's data.

    `only`, of a built-in meter, keeps the events whose dimension has this value.
    """

    id: str
    namespace: str
    key: str
    name: str
    aggregation: Aggregation
    event_type: str
    value_property: str | None
    dimensions: dict[str, str]
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    events_from: datetime | None = None
    deleted_at: datetime | None = None
    only: tuple[str, str] | None = None

    @property
    def unit(self) -> str:
        """What people call one of what it counts: a token, a call, an event, or a unit."""
        if self.aggregation is Aggregation.COUNT:
            return "call" if self.only == ("type", "request") else "event"
        return "token" if (self.value_property or "").endswith("tokens") else "unit"


@dataclass(frozen=True)
class MeterQuery:
    """What is asked of a meter: [from_, to), windows, a split and equality filters by dimension."""

    from_: datetime | None = None
    to: datetime | None = None
    granularity: Granularity | None = None
    time_zone: str = "UTC"
    group_by: tuple[str, ...] = ()
    filters: tuple["DimensionFilter", ...] = ()


@dataclass(frozen=True)
class DimensionFilter:
    """One operator on one dimension; `and` and `or` hold filters of the same dimension."""

    dimension: str
    operator: str
    values: tuple[str, ...] = ()
    nested: tuple["DimensionFilter", ...] = ()


@dataclass(frozen=True)
class MeterRow:
    """One group of one window. `value` is None where no event had one."""

    value: Decimal
    from_: datetime
    to: datetime
    dimensions: dict[str, str]


_STEP: Final = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\[(\d{1,4})\]|\['([^'\\]{1,128})'\]")


def parse_path(path: str, at: str = "value_property") -> tuple[str | int, ...]:
    """Read the JSONPath subset `$.a.b[0]['c d']` as keys and 0-based indexes.

    Raises:
        InvalidInput: it is no such path; names the field `at`.
    """
    steps: list[str | int] = []
    position = 1
    while path.startswith("$") and position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            break
        key, index, quoted = match.groups()
        steps.append(int(index) if index is not None else key or quoted)
        position = match.end()
    if not steps or position != len(path) or len(steps) > 8:
        reason = (
            "must be a JSONPath of at most 8 steps such as $.tokens or $.usage['cached tokens'][0]"
        )
        raise InvalidInput(f"{at} {reason}", [InvalidParameter(at, "matches_regex", reason)])
    return tuple(steps)
