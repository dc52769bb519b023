"""Owns what the consumer takes from Kafka at a time, and the offsets that are due when it is stored.

It does not check or store anything: see `message.py` and `consumer.py`.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aiokafka.structs import TopicPartition

from tallyman.stream.message import Record


@dataclass(frozen=True)
class BatchLimits:
    """A batch is closed by whichever it reaches first."""

    events: int = 30_000
    size_bytes: int = 32 * 1024 * 1024
    wait_seconds: float = 0.2


@dataclass(frozen=True)
class Offsets:
    """The next offset to be read of each partition: everything below it is dealt with."""

    next: Mapping[TopicPartition, int]

    @classmethod
    def after(cls, records: Iterable[Record]) -> "Offsets":
        """Behind the last of some records, which stand in their partition's order."""
        behind = {(one.topic, one.partition): one.offset + 1 for one in records}
        return cls({TopicPartition(*where): offset for where, offset in behind.items()})


@dataclass
class Batch:
    """Records of one assignment; those of a partition stand in its order.

    `assignment` is the number of the assignment that they were read under: after a rebalance
    another consumer may have them, and the batch is dropped.
    """

    assignment: int
    limits: BatchLimits
    records: list[Record] = field(default_factory=list)
    size_bytes: int = 0
    opened_at: float = field(default_factory=time.monotonic)

    def add(self, records: Iterable[Record]) -> None:
        """Put records in, behind those of the same partition."""
        for record in records:
            self.records.append(record)
            self.size_bytes += len(record.value or b"") + len(record.key or b"")

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

    @property
    def offsets(self) -> Offsets:
        """What is to be committed when all of it is stored or set aside."""
        return Offsets.after(self.records)
