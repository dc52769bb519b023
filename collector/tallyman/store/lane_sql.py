"""The lanes of numbers that must have no holes: the nodes' and the doors', and the SQL that reads them.

Which holes there are is `completeness.py`'s.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

MADE_GOOD: Final = "made_good/"  # the door of numbers that a log has shown to be counted
BLOCK: Final = 65_536  # numbers that are counted together; only blocks with a hole are looked into
CLOCKS: Final = timedelta(hours=1)  # by how much `ingested_at` may be ahead of `stored_at`

SINCE: Final = (
    "ingested_at >= fromUnixTimestamp64Milli({since:Int64}) "
    "AND stored_at >= fromUnixTimestamp64Milli({since_stored:Int64})"
)

NODES: Final = ("nodeid", "toUInt64OrZero(sequence)", "nodeid != '' AND sequence != ''")
DOORS: Final = ("door", "place", f"door != '' AND NOT startsWith(door, '{MADE_GOOD}')")
Lanes = tuple[str, str, str]


@dataclass(frozen=True)
class Lane:
    """The numbers of a lane that came in since a moment."""

    name: str
    first: int
    last: int
    first_at: datetime
    last_at: datetime


def render_numbers(lanes: Lanes, where: str) -> str:
    """Every number of these lanes, stored or dropped."""
    lane, number, present = lanes
    return " UNION ALL ".join(
        f"SELECT toString({lane}) AS lane, {number} AS number, intDiv(number, {BLOCK}) AS block, "  # noqa: S608 – ours
        f"ingested_at FROM {table} WHERE {where} AND {present}"
        for table in ("events", "dropped")
    )


def since_parameters(since: datetime) -> dict[str, Any]:
    """The parameters of `SINCE`."""
    return {
        "since": int(since.timestamp() * 1000),
        "since_stored": int((since - CLOCKS).timestamp() * 1000),
    }
