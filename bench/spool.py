"""How many events a second one process spools: `python bench/spool.py [EVENTS] [DIRECTORY]`.

Prints the spool alone (events ready, groups of several sizes, an fsync per group), and the whole
way of the plugin server's thread: log entry as text, parsed, counted, spooled.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from tallyman_kong import usage
from tallyman_kong.intake import Intake, reader
from tallyman_kong.sink import HttpSink
from tallyman_kong.spool import Group, Spool

RECORDED = Path(__file__).parents[1] / "tests/golden/kong-3.9.3/openai_chat.json"
GROUPS = (50, 500, 2000)
LIMIT = 64 * 1024**3


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    entry = json.loads(RECORDED.read_text())["serialized_log"]
    rules = usage.configuration(None)
    event = usage.read(entry, rules).events[0]
    for size in GROUPS:
        with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
            spool = Spool(
                Path(folder) / "spool.db", "bench", max_bytes=LIMIT, survives_power_loss=True
            )
            groups = [Group(events=[("sink", event)] * size) for _ in range(count // size)]
            started = time.perf_counter()
            for group in groups:
                spool.append(group)
            print(f"spool, groups of {size:>4}: {rate(len(groups) * size, started)}")
            spool.close()
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        spool = Spool(Path(folder) / "spool.db", "bench", max_bytes=LIMIT, survives_power_loss=True)
        intake = Intake(spool, max_bytes=LIMIT)
        instance = reader(rules, HttpSink("sink", "http://127.0.0.1:9/events"))
        text = json.dumps(entry)
        started = time.perf_counter()
        intake.start()
        for _ in range(count // 2):
            intake.offer(text, instance)
        intake.stop(within_seconds=600)
        print(f"log entry to spool:    {rate(count, started)}")


def rate(events: int, started: float) -> str:
    seconds = time.perf_counter() - started
    return f"{events / seconds:>9,.0f} events/s ({events:,} in {seconds:.1f} s)"


if __name__ == "__main__":
    main()
