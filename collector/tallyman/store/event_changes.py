"""Events voided and amended: a record of each change here, and a row of its own among the events.

The record is kept first, and the row is stored after it: what was not stored because the process died
or the event store was away is stored by the next change of the event, or at the next start. A row
that is stored twice counts once. Which row of an event counts is `revision_sql.py`'s.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Row, and_, or_, select, update
from sqlalchemy.exc import IntegrityError
from ulid import ULID

from tallyman.domain.access import LOCAL
from tallyman.domain.event import CloudEvent
from tallyman.domain.event_change import Amendment, ChangeKind, EventChange, same_content
from tallyman.domain.event_query import EventFilter, StoredEvent
from tallyman.errors import Conflict, InvalidParameter, NotFound
from tallyman.store.audit import AuditEntry, record_document
from tallyman.store.database import Database
from tallyman.store.events import EventStore
from tallyman.store.tables import event_changes

AT_ONCE: Final = 100
_NULL: Final = msgspec.Raw(b"null")


@dataclass(frozen=True)
class Why:
    """Who changes an event, and the reason."""

    reason: str
    by: str = LOCAL


class EventChangeStore:
    """The changes of every namespace; every call raises Unavailable where trying again may help."""

    def __init__(self, database: Database, events: EventStore) -> None:
        self._database = database
        self._events = events

    async def void(self, namespace: str, source: str, id_: str, why: Why) -> EventChange:
        """Let an event count for nothing; of one that is voided, the change that did it.

        Raises:
            NotFound: no such event is stored.
            Conflict: someone else changed it at the same time.
        """
        return await self._change(namespace, source, id_, why, lambda _event: None)

    async def amend(
        self, namespace: str, source: str, id_: str, amendment: Amendment, why: Why
    ) -> EventChange:
        """Let an event say something else; one that is voided counts again.

        Of one that says so already, the change that did it.

        Raises:
            NotFound: no such event is stored.
            Conflict: it was sent like this, or someone else changed it at the same time.
        """
        return await self._change(namespace, source, id_, why, amendment.of)

    async def of(
        self, namespace: str, identities: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], list[EventChange]]:
        """The changes of events, by (source, id), the first one first."""
        table = event_changes
        found: dict[tuple[str, str], list[EventChange]] = {}
        wanted = sorted(identities)
        async with self._database.reading() as connection:
            for at in range(0, len(wanted), AT_ONCE):
                each = [
                    and_(table.c.source == source, table.c.event_id == id_)
                    for source, id_ in wanted[at : at + AT_ONCE]
                ]
                rows = await connection.execute(
                    select(table)
                    .where(table.c.namespace == namespace, or_(*each))
                    .order_by(table.c.revision)
                )
                for row in rows:
                    found.setdefault((row.source, row.event_id), []).append(_change(row))
        return found

    async def store_pending(self) -> int:
        """Store the rows of all changes that have none yet; returns how many there were."""
        return await self._store_pending(event_changes.c.stored_at.is_(None))

    async def _store_pending(self, wanted: Any) -> int:
        pending = select(event_changes).where(event_changes.c.stored_at.is_(None), wanted)
        async with self._database.reading() as connection:
            rows = (await connection.execute(pending.order_by(event_changes.c.id))).all()
        for row in rows:
            await self._store(_change(row))
        return len(rows)

    async def _change(
        self,
        namespace: str,
        source: str,
        id_: str,
        why: Why,
        changed: Callable[[CloudEvent], CloudEvent | None],
    ) -> EventChange:
        table = event_changes
        mine = and_(
            table.c.namespace == namespace, table.c.source == source, table.c.event_id == id_
        )
        await self._store_pending(mine)
        stored = await self._stored(namespace, source, id_)
        after = changed(stored.event)
        if _is_so(stored, after):
            before = (await self.of(namespace, [(source, id_)])).get((source, id_))
            if before:
                return before[-1]
            raise Conflict(f"the event {id_} of {source} was sent like this")
        now = datetime.now(UTC)
        made = EventChange(
            id=str(ULID()),
            namespace=namespace,
            revision=stored.revision + 1,
            kind=ChangeKind.VOIDED if after is None else ChangeKind.AMENDED,
            actor=why.by,
            reason=why.reason,
            created_at=now,
            ingested_at=stored.ingested_at,
            before=stored.event,
            after=after,
        )
        await self._keep(made)
        await self._store(made)
        return made

    async def _stored(self, namespace: str, source: str, id_: str) -> StoredEvent:
        named = [EventFilter("source", "eq", (source,)), EventFilter("id", "eq", (id_,))]
        page = await self._events.list_events(namespace, named, size=1)
        if not page.events:
            reason = f"no event {id_} of {source} is stored"
            raise NotFound(reason, [InvalidParameter("id", "missing_reference", reason)])
        return page.events[0]

    async def _keep(self, made: EventChange) -> None:
        try:
            async with self._database.writing() as connection:
                await connection.execute(event_changes.insert().values(_values(made)))
                await record_document(connection, _audited(made))
        except IntegrityError as err:
            raise Conflict(
                f"the event {made.before.id} of {made.before.source} was changed at the same time"
            ) from err

    async def _store(self, made: EventChange) -> None:
        """Store, and only then remember that it is."""
        await self._events.store_change(made)
        async with self._database.writing() as connection:
            await connection.execute(
                update(event_changes)
                .where(event_changes.c.id == made.id)
                .values(stored_at=datetime.now(UTC))
            )


def _is_so(stored: StoredEvent, after: CloudEvent | None) -> bool:
    if after is None or stored.is_voided:
        return after is None and stored.is_voided
    return same_content(stored.event, after)


def _values(made: EventChange) -> dict[str, Any]:
    return {
        "id": made.id,
        "namespace": made.namespace,
        "source": made.before.source,
        "event_id": made.before.id,
        "revision": made.revision,
        "kind": made.kind.value,
        "actor": made.actor,
        "reason": made.reason,
        "created_at": made.created_at,
        "ingested_at": made.ingested_at,
        "before": _written(made.before),
        "after": None if made.after is None else _written(made.after),
    }


def _change(row: Row[Any]) -> EventChange:
    return EventChange(
        id=row.id,
        namespace=row.namespace,
        revision=row.revision,
        kind=ChangeKind(row.kind),
        actor=row.actor,
        reason=row.reason,
        created_at=row.created_at,
        ingested_at=row.ingested_at,
        before=_read(row.before),
        after=None if row.after is None else _read(row.after),
    )


def _audited(made: EventChange) -> AuditEntry:
    before, after = (
        None if event is None else msgspec.json.decode(_written(event))
        for event in (made.before, made.after)
    )
    return AuditEntry(
        namespace=made.namespace,
        at=made.created_at,
        actor=made.actor,
        action=made.kind.value,
        entity="event",
        entity_id=f"{made.before.source} {made.before.id}",
        before=before,
        after={"reason": made.reason, "event": after},
    )


def _written(event: CloudEvent) -> str:
    """As JSON; an event without data has none of it, not nothing, which is no JSON."""
    if not bytes(event.data):
        event = msgspec.structs.replace(event, data=_NULL)
    return msgspec.json.encode(event).decode()


def _read(text: str) -> CloudEvent:
    event = msgspec.json.decode(text, type=CloudEvent)
    if bytes(event.data) == bytes(_NULL):
        return msgspec.structs.replace(event, data=msgspec.Raw())
    return event
