"""Runs consumer processes, each with a partition and a chDB directory of its own, and says how fast they are.

They share nothing but the cores, the disk and the broker.
"""

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.sent import Sent, produce
from tests.rigs.kafka import Kafka
from tests.rigs.stream import Stream

Reading = tuple[float, int]  # when, and how much was committed


def per_second(folder: Path, kafka: Kafka, sent: Sent, consumers: int) -> float:
    """What so many store together from when the last has begun until the first has ended."""
    streams = [Stream(kafka, partitions=1) for _ in range(consumers)]
    for stream in streams:
        asyncio.run(_fill(stream, sent))
    processes = [
        _start(folder / str(number), stream, len(sent.values))
        for number, stream in enumerate(streams)
    ]
    each = []
    for process in processes:
        output, _ = process.communicate()
        assert process.returncode == 0, "a consumer failed"
        each.append([_reading(line) for line in output.splitlines()])
    return together(each)


def together(each: Sequence[Sequence[Reading]]) -> float:
    """What all of them committed a second while all of them were at work."""
    began = max(readings[0][0] for readings in each)
    ended = min(readings[-1][0] for readings in each)
    assert began < ended, "they were not at work at the same time: take more events"
    done = sum(_done(readings, ended) - _done(readings, began) for readings in each)
    return done / (ended - began)


async def _fill(stream: Stream, sent: Sent) -> None:
    await stream.create()
    await produce(stream, sent)


def _start(folder: Path, stream: Stream, count: int) -> subprocess.Popen[str]:
    folder.mkdir(parents=True)
    arguments = [str(folder / "chdb"), stream.kafka.bootstrap, stream.topic, str(count)]
    return subprocess.Popen(
        [sys.executable, "-m", "bench.consumer_process", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )


def _reading(line: str) -> Reading:
    when, done = line.split()
    return float(when), int(done)


def _done(readings: Sequence[Reading], at: float) -> float:
    """How much was committed at that time, on a straight line between two readings."""
    for (before, done), (after, more) in itertools.pairwise(readings):
        if before <= at <= after:
            return done + (more - done) * (at - before) / (after - before)
    raise ValueError("nothing was read around that time")
