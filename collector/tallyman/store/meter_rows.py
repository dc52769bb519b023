"""Meters as rows: found, read and written in the transaction of whoever asks.

What may be done with one is `meters.py`'s.
"""

from typing import Any

from sqlalchemy import Row, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.builtin_meters import DIMENSIONS, EVENT_TYPE, BuiltinMeter
from tallyman.domain.meter import Aggregation, Meter
from tallyman.errors import Gone, NotFound
from tallyman.store.tables import meters


async def find_row(connection: AsyncConnection, namespace: str, id_or_key: str) -> Row[Any]:
    result = await connection.execute(
        select(meters)
        .where(
            meters.c.namespace == namespace,
            or_(meters.c.id == id_or_key, meters.c.key == id_or_key),
        )
        .order_by(meters.c.deleted_at.is_not(None), meters.c.deleted_at.desc())
        .limit(1)
    )
    row = result.one_or_none()
    if row is None:
        raise NotFound(f"no meter has the id or key {id_or_key}")
    if row.deleted_at is not None:
        raise Gone(f"the meter {id_or_key} was deleted")
    return row


async def find_meter(connection: AsyncConnection, namespace: str, meter_id: str) -> Meter | None:
    """The meter with this id, in the connection's transaction; None if there is none, or no more."""
    result = await connection.execute(
        select(meters).where(
            meters.c.namespace == namespace,
            meters.c.id == meter_id,
            meters.c.deleted_at.is_(None),
        )
    )
    row = result.one_or_none()
    return None if row is None else meter_of(row)


def values_of(meter: Meter) -> dict[str, Any]:
    return {
        "namespace": meter.namespace,
        "key": meter.key,
        "name": meter.name,
        "description": meter.description,
        "labels": dict(meter.labels),
        "aggregation": str(meter.aggregation),
        "event_type": meter.event_type,
        "value_property": meter.value_property,
        "dimensions": dict(meter.dimensions),
        "events_from": meter.events_from,
        "created_at": meter.created_at,
        "updated_at": meter.updated_at,
    }


def built_in_values(meter: BuiltinMeter) -> dict[str, Any]:
    dimension, value = meter.only or (None, None)
    return {
        "key": meter.key,
        "name": meter.name,
        "description": meter.description,
        "labels": {},
        "aggregation": str(meter.aggregation),
        "event_type": EVENT_TYPE,
        "value_property": meter.value_property,
        "dimensions": dict(DIMENSIONS),
        "only_dimension": dimension,
        "only_value": value,
        "built_in": True,
    }


def meter_of(row: Row[Any]) -> Meter:
    only = None if row.only_dimension is None else (row.only_dimension, row.only_value)
    return Meter(
        id=row.id,
        namespace=row.namespace,
        key=row.key,
        name=row.name,
        aggregation=Aggregation(row.aggregation),
        event_type=row.event_type,
        value_property=row.value_property,
        dimensions=dict(row.dimensions),
        created_at=row.created_at,
        updated_at=row.updated_at,
        description=row.description,
        labels=dict(row.labels),
        events_from=row.events_from,
        deleted_at=row.deleted_at,
        only=only,
    )
