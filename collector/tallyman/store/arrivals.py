"""The number that each event gets at the door it comes in by, and what was dropped behind the door.

So what was accepted can be counted apart from what is stored: a number that is neither stored nor
dropped is missing. Kafka's messages bring partition and offset; what is stored without Kafka is
numbered here. What is missing is found by `completeness.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec
from tallyman_kong.durable_step import durable
from ulid import ULID

from tallyman.domain.event import as_utc
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.lane_sql import owned
from tallyman.store.received import Received

KNOWN: Final = "known"
CONFLICT: Final = "conflict"
OWN_DOOR: Final = "store/"
_SETTINGS: Final = {"date_time_input_format": "best_effort", "distributed_foreground_insert": 1}


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """The `place`-th event that came in by a door, from 0."""

    door: str
    place: int


ArrivalAt = Callable[[int], Arrival]


class Arrivals:
    """The numbers that one process gives, under a door's name that no other process has."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse
        self._door = _new_door()
        self._next = 0

    @contextmanager
    def numbered(self, batch: Sequence[Received]) -> Iterator[ArrivalAt]:
        """Numbers the batch's events, by their position, valid if the block ends without an error.

        Own numbers are given when they are asked for, those that are stored before those that are
        dropped: a kill between the two leaves no hole. After an error nobody knows which numbers are
        in use, so the next batch begins at a new door.
        """
        given: dict[int, Arrival] = {}

        def arrival_at(position: int) -> Arrival:
            one = batch[position]
            if one.door:
                return Arrival(one.door, one.place)
            if position not in given:
                given[position] = self._give_next()
            return given[position]

        try:
            yield arrival_at
        except BaseException:
            self._door, self._next = _new_door(), 0
            raise

    @durable("store.drop")
    async def drop(
        self,
        batch: Sequence[Received],
        arrival_at: ArrivalAt,
        known_at: Sequence[int],
        conflicts_at: Sequence[int],
    ) -> None:
        """Note which events of a batch are not stored, and why."""
        lines = [
            _line(batch[position], arrival_at(position), reason)
            for reason, positions in ((KNOWN, known_at), (CONFLICT, conflicts_at))
            for position in positions
        ]
        if lines:
            await self._clickhouse.insert("dropped", b"\n".join(lines), "JSONEachRow", _SETTINGS)

    def _give_next(self) -> Arrival:
        self._next += 1
        return Arrival(self._door, self._next - 1)


def _new_door() -> str:
    return f"{OWN_DOOR}{ULID()}"


def _line(received: Received, arrival: Arrival, reason: str) -> bytes:
    return msgspec.json.encode(
        {
            "door": arrival.door,
            "place": arrival.place,
            "reason": reason,
            "nodeid": owned(received.namespace, received.event.nodeid)
            if received.event.nodeid
            else "",
            "sequence": received.event.sequence or "",
            "ingested_at": as_utc(received.ingested_at),
        }
    )
