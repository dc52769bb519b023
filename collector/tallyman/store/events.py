"""Events in ClickHouse or chDB: stored once, then remembered as known.

What a meter makes of them is `meter_sql.py`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from tallyman.domain.event import CloudEvent, as_utc
from tallyman.domain.event_query import EventFilter, EventPage, EventSort
from tallyman.domain.meter import Meter, MeterQuery, MeterRow
from tallyman.store import event_schema, meter_sql
from tallyman.store.clickhouse import ClickHouse

INSERT_SETTINGS: Final = {
    "input_format_json_read_objects_as_strings": 1,
    "date_time_input_format": "best_effort",
}


@dataclass(frozen=True)
class Received:
    """A checked event with whose it is and when it came; `event.time` is set."""

    namespace: str
    event: CloudEvent
    ingested_at: datetime


@dataclass(frozen=True)
class EventConflict:
    """An event whose (source, id) is known with another content: the first stays, this one is not kept.

    `differs` names what is not equal, of time, subject, type, dataschema and data; `position` is
    where it stood in the batch.
    """

    namespace: str
    source: str
    id: str
    differs: tuple[str, ...]
    position: int = 0


@dataclass(frozen=True)
class Accepted:
    """What became of a batch: new + known + len(conflicts) is its length.

    `known_at` is where the known ones stood in it: several callers' batches are stored as one.
    """

    new: int
    known: int
    conflicts: tuple[EventConflict, ...] = ()
    known_at: tuple[int, ...] = ()


class _Row(msgspec.Struct):
    namespace: str
    type: str
    subject: str
    time: datetime
    source: str
    id: str
    dataschema: str
    data: msgspec.Raw
    nodeid: str
    sequence: str
    ingested_at: datetime


class EventStore:
    """The events of every namespace."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def migrate(self) -> None:
        """Bring the tables to the newest version."""
        await event_schema.migrate(self._clickhouse)

    async def accept(self, batch: Sequence[Received]) -> Accepted:
        """Drop what is known, store the rest, then remember it; on return it survives kill -9."""
        lines = b"\n".join(_encode(received) for received in batch)
        await self._clickhouse.insert_json("incoming", lines, INSERT_SETTINGS)
        return Accepted(new=len(batch), known=0)

    async def query(self, meter: Meter, query: MeterQuery) -> list[MeterRow]:
        """What the meter says, exact: duplicates never count."""
        sql, parameters = meter_sql.render(meter, query)
        return meter_sql.read_rows(meter, query, await self._clickhouse.rows(sql, parameters))

    async def list_events(
        self,
        namespace: str,
        filters: Sequence[EventFilter] = (),
        sort: EventSort = EventSort(),  # noqa: B008 – frozen
        size: int = 20,
        after: str | None = None,
    ) -> EventPage:
        """One page of the stored events, each once; stable while others are stored.

        Raises:
            InvalidInput: `after` is no cursor of this order, or a filter is not supported.
        """
        raise NotImplementedError

    async def known(
        self, namespace: str, identities: Sequence[tuple[str, str, datetime]]
    ) -> list[bool]:
        """Whether each (source, id, time) is stored already, in the order asked."""
        raise NotImplementedError

    async def ping(self) -> None:
        """Raises Unavailable when the store does not answer."""
        await self._clickhouse.command("SELECT 1")

    async def count(self) -> int:
        """How many events of all namespaces are stored, each once."""
        raise NotImplementedError


def _encode(received: Received) -> bytes:
    event = received.event
    return msgspec.json.encode(
        _Row(
            namespace=received.namespace,
            type=event.type,
            subject=event.subject,
            time=as_utc(event.time or received.ingested_at),
            source=event.source,
            id=event.id,
            dataschema=event.dataschema or "",
            data=event.data if bytes(event.data) else msgspec.Raw(b"{}"),
            nodeid=event.nodeid or "",
            sequence=event.sequence or "",
            ingested_at=as_utc(received.ingested_at),
        )
    )
