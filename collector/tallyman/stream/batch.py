"""Owns what the consumer takes from Kafka at a time, and the offsets that are due when it is stored.

It does not check or store anything: see `message.py` and `consumer.py`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiokafka.structs import TopicPartition

from tallyman.stream.message import Record


@dataclass(frozen=True)
class BatchLimits:
    """A batch is closed by whichever it reaches first."""

    events: int = 50_000
    size_bytes: int = 32 * 1024 * 1024
    wait_seconds: float = 0.2


@dataclass
class Batch:
    """Records of one assignment; those of a partition stand in its order.

    `assignment` is the number of the assignment that they were read under: after a rebalance
    another consumer may have them, and the batch is dropped. `next_offsets` are to be committed when
    all of it is stored or set aside: everything below them is dealt with.
    """

    assignment: int
    limits: BatchLimits
    records: list[Record] = field(default_factory=list)
    next_offsets: dict[TopicPartition, int] = field(default_factory=dict)
    size_bytes: int = 0
    opened_at: float = field(default_factory=time.monotonic)

    def add(self, records: Sequence[Record]) -> None:
        """Put records of one partition in, in its order, behind those that it has of that partition."""
        if not records:
            return
        last = records[-1]
        self.next_offsets[TopicPartition(last.topic, last.partition)] = last.offset + 1
        self.records.extend(records)
        self.size_bytes += sum([len(one.value or b"") + len(one.key or b"") for one in records])

    @property
    def room(self) -> int:
        """How many more records it takes."""
        return self.limits.events - len(self.records)

    @property
    def seconds_left(self) -> float:
        """How long it may still wait for more; 0 when it is to be closed."""
        if self.room <= 0 or self.size_bytes >= self.limits.size_bytes:
            return 0.0
        return max(0.0, self.opened_at + self.limits.wait_seconds - time.monotonic())
