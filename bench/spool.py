"""How many events a second one process spools: `python -m bench.spool [--quick]`.

The spool alone (events ready, groups of several sizes, an fsync per group), and the whole way of the
plugin server's thread: log entry as text, parsed, counted, spooled.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tallyman_kong import usage
from tallyman_kong.intake import Intake, reader
from tallyman_kong.sink import HttpSink
from tallyman_kong.spool import Group, Spool

from bench.figure import Figure, report
from bench.recorded import recorded_entry, recorded_event

GROUPS = (50, 500, 2000)
LIMIT = 64 * 1024**3
UNIT = "events/s"


def measure(is_quick: bool) -> Iterator[Figure]:
    events = 10_000 if is_quick else 100_000
    entry, event = recorded_entry(), recorded_event()
    rules = usage.configuration(None)
    for size in GROUPS:
        with spool() as opened:
            groups = [Group(events=[("sink", event)] * size) for _ in range(events // size)]
            started = time.perf_counter()
            for group in groups:
                opened.append(group)
            seconds = time.perf_counter() - started
        key = "spool_append_per_s" if size == GROUPS[1] else None
        goal = "≥ 20,000" if key else None
        rate = len(groups) * size / seconds
        yield Figure(f"spooled in groups of {size}", rate, UNIT, goal=goal, key=key)
    with spool() as opened:
        intake = Intake(opened, max_bytes=LIMIT)
        instance = reader(rules, HttpSink("sink", "http://127.0.0.1:9/events"))
        text = json.dumps(entry)
        started = time.perf_counter()
        intake.start()
        for _ in range(events // 2):
            intake.offer(text, instance)
        intake.stop(within_seconds=600)
        seconds = time.perf_counter() - started
    yield Figure(
        "from Kong's log entry to the spool",
        events / seconds,
        UNIT,
        f"spooled in groups of {GROUPS[1]}",
    )


@contextmanager
def spool() -> Iterator[Spool]:
    with tempfile.TemporaryDirectory() as folder:
        opened = Spool(
            Path(folder) / "spool.db", "bench", max_bytes=LIMIT, survives_power_loss=True
        )
        try:
            yield opened
        finally:
            opened.close()


if __name__ == "__main__":
    report(measure)
