"""What a second consumer process adds on this machine: `python -m bench.scaling [--quick]`.

With enough cores, disk and broker it comes to 2.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.consumers import per_second
from bench.figure import Figure, report
from bench.sent import events
from tests.rigs.kafka import Kafka

EVENTS = 400_000
ONE = "Kafka → store, one consumer process"


def measure(is_quick: bool) -> Iterator[Figure]:
    sent = events(EVENTS // 4 if is_quick else EVENTS)
    with tempfile.TemporaryDirectory() as folder:
        kafka = Kafka(Path(folder) / "kafka")
        kafka.start()
        try:
            one = per_second(Path(folder) / "one", kafka, sent, 1)
            two = per_second(Path(folder) / "two", kafka, sent, 2)
        finally:
            kafka.stop()
    yield Figure(ONE, one, "events/s", key="ingest_one_process_per_s")
    yield Figure(
        "the same, two with a partition each",
        two,
        "events/s",
        baseline=ONE,
        key="ingest_scaling_2",
    )


if __name__ == "__main__":
    report(measure)
