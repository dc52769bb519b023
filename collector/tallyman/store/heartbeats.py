"""What nodes have said of themselves: their heartbeats, as they are stored.

What follows from them is `domain/completeness.py`'s. Whoever has a key can send one, so that one that
cannot be read is passed over: it must not stop the reconciliation of others.
"""

import json
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, Final

from tallyman.domain.completeness import HEARTBEAT, LARGEST_NUMBER, Heartbeat, Whose
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.json_sql import quote
from tallyman.store.lane_sql import SINCE, since_parameters

MOST_SET_ASIDE: Final = 100_000  # that are read of what a node says; its spool sets aside 10,000
_FIELDS: Final = ("first", "newest", "oldest", "waiting", "set_aside", "refused", "bad", "sinks")
# Before there were ranges, a node named the lowest 200.
_RANGES, _NUMBERS = "set_aside_ranges", "set_aside_numbers"
_DIGITS: Final = len(str(LARGEST_NUMBER))
_NUMBER: Final = "[0-9]{1,19}"
_RANGE: Final = rf"\[{_NUMBER},{_NUMBER}\]"


def _list_of(item: str) -> str:
    """A regular expression of a JSON list of this, or of nothing at all."""
    return rf"^(\[({item}(,{item})*)?\])?$"


_SAID: Final = (
    "JSONExtract(data, 'Tuple("
    + ", ".join(f"{field} String" for field in (*_FIELDS, _RANGES, _NUMBERS))
    + ")')"
)
_IS_READABLE: Final = " AND ".join(
    [
        *(f"match(said.{field}, '^[0-9]{{0,{_DIGITS}}}$')" for field in _FIELDS),
        "said.newest != ''",
        f"match(said.{_RANGES}, {quote(_list_of(_RANGE))})",
        f"match(said.{_NUMBERS}, {quote(_list_of(_NUMBER))})",
    ]
)


class Heartbeats:
    """The heartbeats of the nodes of every namespace."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def since(self, since: datetime) -> dict[Whose, tuple[Heartbeat, Heartbeat]]:
        """Each node's first and last heartbeat that came in since then, of those that can be read."""
        rows = await self._clickhouse.rows(
            "SELECT namespace, subject, min(time), argMin(said, time), max(time), argMax(said, time) "  # noqa: S608 – ours
            f"FROM (SELECT namespace, subject, time, {_SAID} AS said FROM events "
            f"WHERE type = {quote(HEARTBEAT)} AND {SINCE}) WHERE {_IS_READABLE} "
            "GROUP BY namespace, subject",
            since_parameters(since),
        )
        return {
            (namespace, node): (
                _heartbeat(namespace, node, first_at, first),
                _heartbeat(namespace, node, last_at, last),
            )
            for namespace, node, first_at, first, last_at, last in rows
        }


def _heartbeat(namespace: str, node: str, at: datetime, said: Any) -> Heartbeat:
    """What a node said; what it did not is as if it had nothing to say."""
    return Heartbeat(
        node,
        at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC),
        first=int(said["first"] or 1),
        newest=int(said["newest"]),
        oldest=int(said["oldest"]) if said["oldest"] else None,
        waiting=int(said["waiting"] or 0),
        set_aside=int(said["set_aside"] or 0),
        set_aside_numbers=_set_aside(said[_RANGES], said[_NUMBERS]),
        refused=int(said["refused"] or 0),
        bad=int(said["bad"] or 0),
        sinks=int(said["sinks"] or 1),
        namespace=namespace,
    )


def _set_aside(ranges: str, numbers: str) -> tuple[int, ...]:
    """The numbers that are set aside, in order."""
    of_each = json.loads(ranges) if ranges else [(one, one) for one in json.loads(numbers or "[]")]
    named = chain.from_iterable(range(first, last + 1) for first, last in of_each)
    return tuple(sorted(islice(named, MOST_SET_ASIDE)))
