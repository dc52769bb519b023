"""Owns the events that go through Kafka in a benchmark, as the plugin produces them, and puts them there."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bench.recorded import recorded_event
from tests.rigs.stream import Stream

SUBJECTS = 1000
FIRST = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Sent:
    """The events as the plugin produces them, each with its subject."""

    values: Sequence[bytes]
    subjects: Sequence[bytes]


def events(count: int) -> Sent:
    event = recorded_event()
    values, subjects = [], []
    for number in range(count):
        subject = f"consumer-{number % SUBJECTS}"
        event = {  # in the order of the plugin's spool
            "nodeid": "node-1",
            "sequence": f"{number:018d}",
            **event,
            "id": f"{number:032x}:proxy:request",
            "subject": subject,
            "time": f"{FIRST + timedelta(milliseconds=number):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
        }
        values.append(json.dumps(event, separators=(",", ":")).encode())
        subjects.append(subject.encode())
    return Sent(values, subjects)


async def produce(stream: Stream, sent: Sent) -> None:
    """Put them into the stream's first partition, in their order."""
    async with stream.producer() as producer:
        batch = producer.create_batch()
        for value, subject in zip(sent.values, sent.subjects, strict=True):
            if batch.append(key=subject, value=value, timestamp=None) is None:
                await producer.send_batch(batch, stream.topic, partition=0)
                batch = producer.create_batch()
                batch.append(key=subject, value=value, timestamp=None)
        await producer.send_batch(batch, stream.topic, partition=0)
        await producer.flush()
