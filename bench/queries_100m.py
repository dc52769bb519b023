"""The figures of `queries.py` for ten times as many events, by hand: `make bench-100m`."""

import asyncio
from collections.abc import Iterator

from bench.figure import Figure, report
from bench.queries import measure_of

EVENTS = 100_000_000


def measure(is_quick: bool) -> Iterator[Figure]:
    yield from asyncio.run(measure_of(EVENTS // 50 if is_quick else EVENTS))


if __name__ == "__main__":
    report(measure)
