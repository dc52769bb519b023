"""Every metric of the plugin, declared once, and their Prometheus text.

What counts events is kept in the spool's file, in the transaction that it counts, so it survives
restarts and agrees with what is spooled. This module holds no numbers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Count(NamedTuple):
    """A metric's name with one set of labels, in Prometheus' own text form."""

    name: str
    labels: str = ""


@dataclass(frozen=True)
class Metric:
    """One metric. `labels` names the labels that each of its numbers carries."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()

    def of(self, **labels: str) -> Count:
        if tuple(labels) != self.labels:
            raise ValueError(f"{self.name} has the labels {self.labels}, not {tuple(labels)}")
        return Count(self.name, ",".join(f'{key}="{value}"' for key, value in labels.items()))


def _counter(name: str, help_text: str, *labels: str) -> Metric:
    return Metric(f"tallyman_plugin_{name}_total", "counter", help_text, labels)


def _gauge(name: str, help_text: str, *labels: str) -> Metric:
    return Metric(f"tallyman_plugin_{name}", "gauge", help_text, labels)


ENTRIES = _counter("entries", "Log entries that were taken from Kong, LLM calls or not.")
EVENTS = _counter(
    "events",
    "Events spooled, by the call's outcome and how the number was obtained.",
    "outcome",
    "usage_source",
)
INVALID_COUNTS = _counter("invalid_counts", "Reported values that did not pass as a count.")
BAD_ENTRIES = _counter("bad_entries", "Log entries that could not become events.")
REFUSED = _counter(
    "refused",
    "Log entries that were not kept, by reason: queue_full, spool_full, too_large, "
    "configuration, no_entry, stopping or error.",
    "reason",
)
SENT = _counter("sent", "Events that the sink has acknowledged.", "sink")
SEND_ERRORS = _counter("send_errors", "Tries to send that failed and are repeated.", "kind")
SET_ASIDE = _counter("set_aside", "Events that the sink refuses, and so are not sent again.")
GIVEN_UP = _counter(
    "given_up", "Events that the sink refuses and that found no room to be set aside: not counted."
)
RESTARTS = _counter("restarts", "How often a process ended by itself and was started.", "process")
SPOOLED = _gauge("spool_events", "Events in the spool that wait for their acknowledgement.")
SPOOL_BYTES = _gauge("spool_bytes", "Bytes of the spool in use, without what is set aside.")
SPOOL_MAX_BYTES = _gauge("spool_max_bytes", "Bytes at which the spool refuses new events.")
SPOOL_AGE = _gauge("spool_oldest_seconds", "Age of the oldest event in the spool, 0 if none.")
SET_ASIDE_EVENTS = _gauge("set_aside_events", "Events that are set aside now.")
PROCESS_UP = _gauge("process_up", "Whether the process runs.", "process")
HEALTHY = _gauge(
    "healthy", "1 if the spool is writable and not full, and the server and the sender work."
)

METRICS = (
    ENTRIES,
    EVENTS,
    INVALID_COUNTS,
    BAD_ENTRIES,
    REFUSED,
    SENT,
    SEND_ERRORS,
    SET_ASIDE,
    GIVEN_UP,
    RESTARTS,
    SPOOLED,
    SPOOL_BYTES,
    SPOOL_MAX_BYTES,
    SPOOL_AGE,
    SET_ASIDE_EVENTS,
    PROCESS_UP,
    HEALTHY,
)


def prometheus_text(values: Mapping[Count, float]) -> str:
    """The page's text. A metric without labels is there from the start, as 0."""
    return "".join(_lines(values))


def _lines(values: Mapping[Count, float]) -> Iterable[str]:
    for metric in METRICS:
        yield f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"
        found = {count: value for count, value in values.items() if count.name == metric.name}
        if not found and not metric.labels:
            found = {metric.of(): 0}
        for count in sorted(found):
            labels = f"{{{count.labels}}}" if count.labels else ""
            yield f"{count.name}{labels} {found[count]:.15g}\n"
