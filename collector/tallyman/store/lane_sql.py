"""The lanes of numbers that must have no holes: the nodes' and the doors', and the SQL that reads them.

Which holes there are is `completeness.py`'s.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tallyman.domain.completeness import LARGEST_NUMBER

MADE_GOOD: Final = "made_good/"  # the door of numbers that a log has shown to be counted
BLOCK: Final = 65_536  # numbers that are counted together; only blocks with a hole are looked into
CLOCKS: Final = timedelta(hours=1)  # by how much `ingested_at` may be ahead of `stored_at`

SINCE: Final = (
    "ingested_at >= fromUnixTimestamp64Milli({since:Int64}) "
    "AND stored_at >= fromUnixTimestamp64Milli({since_stored:Int64})"
)
NOT_MADE_GOOD: Final = f"door != '' AND NOT startsWith(door, '{MADE_GOOD}')"

_OWNED_BY: Final = "\x1f"  # in `dropped`, between whose a node is and its name


@dataclass(frozen=True)
class Source:
    """The columns of a table that have a lane's numbers, and the rows that have one."""

    table: str
    namespace: str
    lane: str
    number: str
    has_number: str


@dataclass(frozen=True)
class Lanes:
    """Lanes of one kind. A node is its namespace's; a door is nobody's, its namespace is nothing."""

    sources: tuple[Source, ...]
    has_owner: bool


@dataclass(frozen=True)
class Lane:
    """The numbers of a lane that came in since a moment."""

    namespace: str
    name: str
    first: int
    last: int
    first_at: datetime
    last_at: datetime


_OF_A_NODE: Final = f"nodeid != '' AND toUInt64OrZero(sequence) BETWEEN 1 AND {LARGEST_NUMBER}"
_OWNER_ENDS: Final = "position(nodeid, '\\x1f')"

NODES: Final = Lanes(
    (
        Source("events", "namespace", "nodeid", "toUInt64OrZero(sequence)", _OF_A_NODE),
        # An older version did not write down whose the node is: such a row may be anybody's.
        Source(
            "dropped",
            f"substring(nodeid, 1, greatest({_OWNER_ENDS}, 1) - 1)",
            f"substring(nodeid, {_OWNER_ENDS} + 1)",
            "toUInt64OrZero(sequence)",
            _OF_A_NODE,
        ),
    ),
    has_owner=True,
)
DOORS: Final = Lanes(
    tuple(Source(table, "''", "door", "place", NOT_MADE_GOOD) for table in ("events", "dropped")),
    has_owner=False,
)


def owned(namespace: str, node: str) -> str:
    """A node as it is written into `dropped`: with whose it is."""
    return f"{namespace}{_OWNED_BY}{node}"


def render_numbers(lanes: Lanes, where: str) -> str:
    """Every number of these lanes, stored or dropped."""
    return " UNION ALL ".join(
        f"SELECT toString({one.namespace}) AS namespace, toString({one.lane}) AS lane, "  # noqa: S608 – ours
        f"{one.number} AS number, intDiv(number, {BLOCK}) AS block, ingested_at "
        f"FROM {one.table} WHERE {where} AND {one.has_number}"
        for one in lanes.sources
    )


def render_lane(lanes: Lanes, where: str) -> str:
    """The numbers of one lane that meet `where`; its parameters are `lane_parameters`."""
    return (
        f"({render_numbers(lanes, '1')}) WHERE namespace IN ({{namespace:String}}, '') "
        f"AND lane = {{lane:String}} AND {where}"
    )


def lane_parameters(namespace: str, lane: str) -> dict[str, Any]:
    """The parameters of `render_lane`."""
    return {"namespace": namespace, "lane": lane}


def since_parameters(since: datetime) -> dict[str, Any]:
    """The parameters of `SINCE`."""
    return {
        "since": int(since.timestamp() * 1000),
        "since_stored": int((since - CLOCKS).timestamp() * 1000),
    }
