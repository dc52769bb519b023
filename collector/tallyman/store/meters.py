"""Meters as they are kept: made, read, listed, changed and deleted.

What a meter says about events is `meter_sql.py`'s.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Row, and_, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from tallyman.domain.access import LOCAL
from tallyman.domain.builtin_meters import BUILTIN_METERS
from tallyman.domain.meter import Meter
from tallyman.errors import Conflict
from tallyman.store.audit import record
from tallyman.store.comparison import Comparison, condition_of
from tallyman.store.database import Database, upsert
from tallyman.store.meter_rows import built_in_values, find_row, meter_of, values_of
from tallyman.store.numbered_page import in_order, rows_of_page
from tallyman.store.tables import features, meters

SORTABLE: Final = ("created_at", "updated_at", "key", "name")


@dataclass(frozen=True)
class MeterChange:
    """What can be changed; None leaves it as it is."""

    name: str | None = None
    description: str | None = None
    labels: Mapping[str, str] | None = None
    dimensions: Mapping[str, str] | None = None


class MeterStore:
    """The meters of every namespace; each has the built-in ones from its first use on."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._complete: set[str] = set()

    async def create(self, meter: Meter, *, by: str = LOCAL) -> Meter:
        """Keep a new meter, under a new id.

        Raises:
            Conflict: another meter of the namespace has the key.
        """
        await self.add_built_in(meter.namespace)
        meter_id = str(ULID())
        values = {**values_of(meter), "id": meter_id, "built_in": False}
        try:
            async with self._database.writing() as connection:
                await connection.execute(meters.insert().values(values))
                row = await find_row(connection, meter.namespace, meter_id)
                await record(connection, by, "created", "meter", None, row)
        except IntegrityError as err:
            raise Conflict(f"another meter has the key {meter.key}") from err
        return meter_of(row)

    async def get(self, namespace: str, id_or_key: str) -> Meter:
        """The meter with this id, or with this key.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
        """
        await self.add_built_in(namespace)
        async with self._database.reading() as connection:
            return meter_of(await find_row(connection, namespace, id_or_key))

    async def page(
        self,
        namespace: str,
        where: Sequence[Comparison] = (),
        *,
        order_by: str = "created_at",
        descending: bool = False,
        offset: int = 0,
        limit: int | None = 20,
    ) -> tuple[list[Meter], int]:
        """One page, and how many there are on all pages; deleted ones are left out."""
        await self.add_built_in(namespace)
        condition = and_(
            meters.c.namespace == namespace,
            meters.c.deleted_at.is_(None),
            *(condition_of(meters.c[one.column], one) for one in where),
        )
        order = in_order(meters.c[order_by], meters.c.key, descending=descending)
        async with self._database.reading() as connection:
            rows, total = await rows_of_page(connection, meters, condition, order, offset, limit)
            return [meter_of(row) for row in rows], total

    async def by_ids(self, namespace: str, ids: Collection[str]) -> dict[str, Meter]:
        """Those of the meters that are there, by id; deleted ones too, which invoices may need."""
        statement = select(meters).where(
            meters.c.namespace == namespace, meters.c.id.in_(sorted(ids))
        )
        async with self._database.reading() as connection:
            return {row.id: meter_of(row) for row in await connection.execute(statement)}

    async def of_event_types(self, namespace: str, event_types: Collection[str]) -> list[Meter]:
        """Every meter of these types of event, in any order."""
        await self.add_built_in(namespace)
        async with self._database.reading() as connection:
            rows = await connection.execute(
                select(meters).where(
                    meters.c.namespace == namespace,
                    meters.c.deleted_at.is_(None),
                    meters.c.event_type.in_(event_types),
                )
            )
            return [meter_of(row) for row in rows]

    async def change(
        self, namespace: str, id_or_key: str, change: MeterChange, *, by: str = LOCAL
    ) -> Meter:
        """Change what is given.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
            Conflict: it is built in, or a feature is filtered by a dimension that would go.
        """
        await self.add_built_in(namespace)
        values: dict[str, Any] = {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in vars(change).items()
            if value is not None
        }
        async with self._database.writing() as connection:
            row = await find_row(connection, namespace, id_or_key)
            _refuse_built_in(row, "changed")
            if change.dimensions is not None:
                await _refuse_used(connection, row, change.dimensions)
            await connection.execute(
                update(meters)
                .where(meters.c.id == row.id)
                .values(**values, updated_at=datetime.now(UTC))
            )
            changed = await find_row(connection, namespace, row.id)
            await record(connection, by, "changed", "meter", row, changed)
            return meter_of(changed)

    async def delete(self, namespace: str, id_or_key: str, *, by: str = LOCAL) -> None:
        """Delete a meter; its events stay, and its key is free.

        Raises:
            NotFound: there is none.
            Gone: it was deleted before.
            Conflict: it is built in, or a feature is counted by it.
        """
        await self.add_built_in(namespace)
        async with self._database.writing() as connection:
            row = await find_row(connection, namespace, id_or_key)
            _refuse_built_in(row, "deleted")
            await _refuse_used(connection, row)
            now = datetime.now(UTC)
            await connection.execute(
                update(meters).where(meters.c.id == row.id).values(deleted_at=now, updated_at=now)
            )
            await record(connection, by, "deleted", "meter", row, None)

    async def add_built_in(self, namespace: str) -> None:
        """Give a namespace the built-in meters as this version knows them; once in a process."""
        if namespace in self._complete:
            return
        now = datetime.now(UTC)
        async with self._database.writing() as connection:
            for built_in in BUILTIN_METERS:
                values = built_in_values(built_in)
                insert = upsert(connection, meters).values(
                    id=str(ULID()), namespace=namespace, created_at=now, updated_at=now, **values
                )
                # An older version may not have had it, and the user made one with its key: kept.
                await connection.execute(
                    insert.on_conflict_do_update(
                        index_elements=["namespace", "key"],
                        index_where=meters.c.deleted_at.is_(None),
                        set_=values,
                        where=meters.c.built_in.is_(true()),
                    )
                )
        self._complete.add(namespace)


async def _refuse_used(
    connection: AsyncConnection, meter: Row[Any], dimensions: Collection[str] | None = None
) -> None:
    """Keep what features need: the meter itself, or the dimensions that it is to have from now on."""
    rows = await connection.execute(
        select(features.c.key, features.c.filters).where(
            features.c.namespace == meter.namespace,
            features.c.meter_id == meter.id,
            features.c.deleted_at.is_(None),
        )
    )
    for row in rows:
        if dimensions is None:
            raise Conflict(f"the meter {meter.key} counts the feature {row.key}: delete that first")
        for name in row.filters or {}:
            if name not in dimensions:
                raise Conflict(f"the feature {row.key} is filtered by {name} of {meter.key}")


def _refuse_built_in(row: Row[Any], done: str) -> None:
    if row.built_in:
        raise Conflict(f"the meter {row.key} is built in and cannot be {done}")
