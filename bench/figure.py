"""Owns what a benchmark says: a figure a line, as JSON on its standard output.

It does not repeat, compare or judge: `run.py` does.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True)
class Figure:
    """One measured value, such as 1200 of `requests/s`.

    baseline  the name of a figure of the same run that this one is to be seen against
    goal      what it was built for, such as `< 300`; shown beside it, and never asserted
    key       the name that results.json is searched by; with a baseline it is that of the ratio
    """

    name: str
    value: float
    unit: str
    baseline: str | None = None
    goal: str | None = None
    key: str | None = None

    @classmethod
    def read(cls, line: str) -> Self:
        return cls(**json.loads(line))


def memory(of: str, key: str, events: int, before: float, after: float) -> Iterator[Figure]:
    """What it takes after so many events, in MB, and how much more after as many again."""
    yield Figure(f"memory of {of} after {events:,} events", before, "MB", key=f"memory_mb_{key}")
    yield Figure(
        f"its growth over the next {events:,} events",
        (after / before - 1) * 100,
        "%",
        goal="≤ 5",
        key=f"memory_growth_pct_{key}",
    )


def report(measure: Callable[[bool], Iterable[Figure]]) -> None:
    """Measure, with few repetitions if the command has `--quick`, and print figures as they come."""
    for figure in measure("--quick" in sys.argv[1:]):
        print(json.dumps({k: v for k, v in asdict(figure).items() if v is not None}), flush=True)
