"""Events in ClickHouse or chDB: the one door to them.

How a batch is stored is `intake.py`'s, how a meter is asked `meter_sql.py`'s and `rollup.py`'s, how
events are listed `event_sql.py`'s.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tallyman.domain.attribution import Owner
from tallyman.domain.event_change import EventChange
from tallyman.domain.event_query import EventFilter, EventPage, EventSort, SpanFilter
from tallyman.domain.meter import Meter, MeterQuery, MeterRow
from tallyman.domain.meter_query import check_query, too_many_rows
from tallyman.domain.period import microseconds
from tallyman.store import event_schema, event_sql, meter_sql, rollup_sql
from tallyman.store.clickhouse import ClickHouse
from tallyman.store.event_block import EventBlock
from tallyman.store.event_row import row_of_change
from tallyman.store.incoming import INSERT_SETTINGS, Incoming
from tallyman.store.intake import FINAL_SETTINGS, Intake
from tallyman.store.received import Accepted, EventConflict, Received
from tallyman.store.recent import Recent
from tallyman.store.revision_sql import AS_IT_CAME, IS_CHANGED, REMEMBER_CHANGED
from tallyman.store.rollup import Rollup
from tallyman.store.seen import Seen, id_hash
from tallyman.store.write_ahead import WriteAhead

__all__ = ["Accepted", "EventConflict", "EventStore", "Received"]


class EventStore:
    """The events of every namespace; every call raises Unavailable where trying again may help.

    A process that is `alone` with its store, and closes it, moves what it accepts into ClickHouse a moment
    later, or when ClickHouse is asked for something.
    """

    def __init__(self, clickhouse: ClickHouse, *, alone: bool = False) -> None:
        self._clickhouse = clickhouse
        path = clickhouse.write_ahead_path
        self._ahead = WriteAhead(path, Incoming(clickhouse)) if path else None
        self._seen = Recent(Seen(clickhouse), self._ahead) if alone else Seen(clickhouse)
        self._intake = Intake(clickhouse, self._seen, self._ahead if alone else None)
        if self._ahead is not None and alone:
            clickhouse.settle_first(self._ahead.settle)
        self._rollup = Rollup(clickhouse)

    async def migrate(self) -> None:
        """Bring the tables to the newest version; processes that start together may all."""
        layout = event_schema.Layout(self._clickhouse.cluster, self._clickhouse.fsync)
        await event_schema.migrate(self._clickhouse, layout)
        await self._clickhouse.command(REMEMBER_CHANGED, settings=INSERT_SETTINGS)
        if self._ahead is not None:
            await self._ahead.recover()
            await self._ahead.close()

    async def accept(self, batch: Sequence[Received]) -> Accepted:
        """Drop what is known, store the rest, then remember it; on return it survives kill -9."""
        return await self._intake.accept(batch)

    async def accept_block(self, block: EventBlock) -> Sequence[int]:
        """Store what is new in a block; returns where the others stand in it, to be accepted one by one."""
        return await self._intake.accept_block(block)

    async def close(self) -> None:
        """End what goes on in the background; ClickHouse stays open."""
        if isinstance(self._seen, Recent):
            await self._seen.close()
        if self._ahead is not None:
            await self._ahead.close()

    async def store_change(self, made: EventChange) -> None:
        """Store what a change makes of an event; on return it survives kill -9, and twice is once."""
        lines = b"\n".join(
            row_of_change(Received(made.namespace, event, made.ingested_at), made.revision, change)
            for event, change in made.rows()
        )
        await self._clickhouse.insert("incoming_changes", lines, "JSONEachRow", INSERT_SETTINGS)

    async def query(
        self,
        meter: Meter,
        query: MeterQuery,
        owners: Sequence[Owner] = (),
        most_rows: int | None = None,
    ) -> list[MeterRow]:
        """What the meter says, exact: duplicates never count.

        `owners` say whose usage it is, where the query splits by customer.

        Raises:
            InvalidQuery: the meter cannot be asked so, or there are more rows; names the field.
        """
        query = check_query(meter, query)
        sql, parameters = await self._rendered(meter, query, owners)
        if most_rows is not None:
            sql += f" LIMIT {most_rows + 1}"
        rows = await self._clickhouse.rows(sql, parameters, FINAL_SETTINGS)
        if most_rows is not None and len(rows) > most_rows:
            raise too_many_rows(query, most_rows)
        return meter_sql.read_rows(meter, query, rows)

    async def _rendered(
        self, meter: Meter, query: MeterQuery, owners: Sequence[Owner]
    ) -> tuple[str, dict[str, Any]]:
        if rollup_sql.can_answer(meter, query):
            changed = await self._rollup.changed(meter.namespace, meter.event_type)
            if changed is not None:
                return rollup_sql.render(meter, query, changed)
        may_be_changed = bool(
            await self._clickhouse.rows(IS_CHANGED, {"namespace": meter.namespace})
        )
        return meter_sql.render(meter, query, owners, may_be_changed=may_be_changed)

    async def list_events(
        self,
        namespace: str,
        filters: Sequence[EventFilter | SpanFilter] = (),
        sort: EventSort = EventSort(),  # noqa: B008 – frozen
        size: int = 20,
        after: str | None = None,
    ) -> EventPage:
        """One page of the stored events, each once; stable while others are stored.

        Raises:
            InvalidInput: `after` is no cursor of this order, or a filter is not supported.
        """
        rows: list[Any] = []
        for near in (True, False):
            if near and not event_sql.may_be_near(filters, sort):
                continue
            sql, parameters = event_sql.render(namespace, filters, sort, size, after, near=near)
            rows = await self._clickhouse.rows(sql, parameters, FINAL_SETTINGS)
            if len(rows) == size:
                break
        return event_sql.read_page(rows, sort, size)

    async def known(
        self, namespace: str, identities: Sequence[tuple[str, str, datetime]]
    ) -> list[bool]:
        """Whether each (source, id, time) is stored already, in the order asked."""
        hashes = [id_hash(namespace, source, id_) for source, id_, _ in identities]
        times = [microseconds(time) for _, _, time in identities]
        known = await self._seen.by_minute(hashes, times)
        return [hash_ in known for hash_ in hashes]

    async def stored_subjects(self, namespace: str, subjects: Sequence[str]) -> set[str]:
        """Those of some subjects that have an event."""
        rows = await self._clickhouse.rows(
            "SELECT DISTINCT subject FROM events "
            "WHERE namespace = {namespace:String} AND subject IN {subjects:Array(String)}",
            {"namespace": namespace, "subjects": list(subjects)},
        )
        return {str(subject) for (subject,) in rows}

    async def ping(self) -> None:
        """Raises Unavailable when the store does not answer."""
        await self._clickhouse.command("SELECT 1")

    async def count(self, namespace: str) -> int:
        """How many events of a namespace are stored, each once."""
        sql = (
            "SELECT count() FROM events FINAL WHERE namespace = {namespace:String} "  # noqa: S608 – the condition is ours
            f"AND {AS_IT_CAME}"
        )
        rows = await self._clickhouse.rows(sql, {"namespace": namespace}, FINAL_SETTINGS)
        return int(rows[0][0])
