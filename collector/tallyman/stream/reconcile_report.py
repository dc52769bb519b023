"""What a reconciliation found, as it is kept, answered and shown.

How it is found is `reconcile.py`'s.
"""

from datetime import datetime

import msgspec

from tallyman.domain.completeness import GapKind


class NodeReport(msgspec.Struct):
    """A gateway node of a namespace: its numbers that came in, and what it last said of its spool.

    `refused` and `bad` are log entries that got no number up to its last heartbeat, since the last one of
    its spool that came in before, or since the spool was begun. A `silent` one was not heard for a day:
    what its spool held is lost, as far as anybody knows.
    """

    node: str
    last: int
    late: int
    lost: int
    set_aside: int
    refused: int
    bad: int
    waiting: int | None
    heartbeat_at: datetime | None
    sinks: int
    namespace: str = ""
    silent: bool = False


class GapReport(msgspec.Struct):
    """Numbers of a node or a door that are missing, after what came in at `after`.

    `at_most`: some of them may never have been given. `namespace` is the node's; a door has none.
    """

    lane: str
    first: int
    last: int
    kind: GapKind
    after: datetime
    at_most: bool = False
    namespace: str = ""


class HourReport(msgspec.Struct):
    """What became of what was accepted in the hour that begins at `hour`."""

    hour: datetime
    accepted: int
    counted: int
    known: int
    conflicts: int
    dead: int
    missing: int


class RollupHourReport(msgspec.Struct):
    """An hour of the rollup that said something else than the events."""

    namespace: str
    type: str
    hour: datetime


class LogReport(msgspec.Struct):
    """Kong's log against the store: the events of its calls, and those that are not stored."""

    files: list[str]
    events: int
    uncounted: int
    calls: list[str]
    bad: int = 0
    made_good: int = 0


class Report(msgspec.Struct):
    """What a reconciliation found; `is_complete` where nothing is missing, or was wrong.

    Of what came in from `since` on. `lost` numbers of nodes, `missing` numbers of doors, `refused` log
    entries and `forgotten` ids (remembered though not stored, put right by this) are missing. `late` and
    `waiting` (in Kafka) may still come. `dead` letters are kept and can be replayed. `differing` hours of
    the rollup said something else than the events, and were put right by this; nothing of them is missing.
    """

    at: datetime
    since: datetime
    is_complete: bool
    lost: int
    missing: int
    refused: int
    forgotten: int
    late: int
    waiting: int
    set_aside: int
    dead: int
    unattributed_events: int
    unattributed_subjects: int
    nodes: list[NodeReport]
    gaps: list[GapReport]
    hours: list[HourReport]
    log: LogReport | None = None
    differing: int = 0
    rollup: list[RollupHourReport] = []


def missing_in(report: Report) -> int:
    """How much is missing, whatever it is."""
    return report.lost + report.missing + report.refused + report.forgotten
