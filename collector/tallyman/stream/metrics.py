"""Owns every metric of the consumer, declared once.

It does not own the page that shows them.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class ConsumerMetrics:
    """What the consumer counts, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.consumed = Counter(
            "tallyman_consumer_messages",
            "Messages whose offsets are committed",
            registry=registry,
        )
        self.stored = Counter(
            "tallyman_consumer_stored_events", "Events that were new", registry=registry
        )
        self.known = Counter(
            "tallyman_consumer_known_events",
            "Events that were stored before, and were dropped",
            registry=registry,
        )
        self.conflicts = Counter(
            "tallyman_consumer_conflicting_events",
            "Events whose identity is known with another content; the first stays",
            registry=registry,
        )
        self.dead = Counter(
            "tallyman_consumer_dead_letters",
            "Messages that were set aside, by code",
            ["code"],
            registry=registry,
        )
        self.failures = Counter(
            "tallyman_consumer_failures",
            "Attempts that failed and are repeated, by step",
            ["step"],
            registry=registry,
        )
        self.dropped = Counter(
            "tallyman_consumer_dropped_batches",
            "Batches left to another consumer by a rebalance",
            registry=registry,
        )
        self.lag = Gauge(
            "tallyman_consumer_lag_messages",
            "Messages of the partition that are not committed yet",
            ["topic", "partition"],
            registry=registry,
        )
        self.batch_events = Histogram(
            "tallyman_consumer_batch_messages",
            "Messages per batch",
            buckets=(1, 10, 100, 500, 1_000, 2_500, 5_000, 10_000, 25_000),
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "tallyman_consumer_batch_seconds",
            "Seconds from a checked batch to its committed offsets",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
            registry=registry,
        )
