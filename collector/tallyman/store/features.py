"""Features as they are kept: made, read, listed, changed and deleted.

What a feature's usage is, is `meter_sql.py`'s; what it costs its customer is the plan's.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Row, and_, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from tallyman.domain.access import LOCAL
from tallyman.domain.feature import Feature, FeatureMeter, check_feature
from tallyman.domain.feature_document import (
    read_filters,
    read_unit_cost,
    write_filters,
    write_unit_cost,
)
from tallyman.errors import Conflict, Gone, NotFound
from tallyman.store.audit import record
from tallyman.store.comparison import Comparison, condition_of
from tallyman.store.database import Database
from tallyman.store.meter_rows import find_meter
from tallyman.store.numbered_page import in_order, rows_of_page
from tallyman.store.tables import features, plans

SORTABLE: Final = ("created_at", "updated_at", "key", "name")
FILTERED: Final = ("meter_id", "key", "name")


class FeatureStore:
    """The features of every namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, feature: Feature, *, by: str = LOCAL) -> Feature:
        """Keep a new feature, under a new id.

        Raises:
            Conflict: another feature of the namespace has the key.
            InvalidInput: its meter is not there, or cannot be filtered so.
        """
        feature_id = str(ULID())
        try:
            async with self._database.writing() as connection:
                await _check(connection, feature)
                await connection.execute(
                    features.insert().values(_values(feature) | {"id": feature_id})
                )
                row = await _find(connection, feature.namespace, feature_id)
                await record(connection, by, "created", "feature", None, row)
        except IntegrityError as err:
            raise Conflict(f"another feature has the key {feature.key}") from err
        return _feature(row)

    async def get(self, namespace: str, id_or_key: str) -> Feature:
        """The feature with this id, or with this key.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
        """
        async with self._database.reading() as connection:
            return _feature(await _find(connection, namespace, id_or_key))

    async def by_ids(self, namespace: str, ids: Collection[str]) -> dict[str, Feature]:
        """Those of the features that are there, by id; deleted ones too, which invoices may need."""
        if not ids:
            return {}
        statement = select(features).where(
            features.c.namespace == namespace, features.c.id.in_(sorted(ids))
        )
        async with self._database.reading() as connection:
            return {row.id: _feature(row) for row in await connection.execute(statement)}

    async def list(
        self,
        namespace: str,
        where: Sequence[Comparison] = (),
        *,
        order_by: str = "created_at",
        descending: bool = False,
        offset: int = 0,
        limit: int | None = 20,
    ) -> tuple[list[Feature], int]:
        """One page, and how many there are on all pages; deleted ones are left out."""
        condition = and_(
            features.c.namespace == namespace,
            features.c.deleted_at.is_(None),
            *(condition_of(features.c[one.column], one) for one in where),
        )
        order = in_order(features.c[order_by], features.c.key, descending=descending)
        async with self._database.reading() as connection:
            rows, total = await rows_of_page(connection, features, condition, order, offset, limit)
            return [_feature(row) for row in rows], total

    async def replace(self, feature: Feature, *, by: str = LOCAL) -> Feature:
        """Change everything but the key and the id.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
            Conflict: what it counts would change under a published plan.
            InvalidInput: its meter is not there, or cannot be filtered so.
        """
        values = _values(feature)
        for name in ("namespace", "key", "created_at"):
            del values[name]
        async with self._database.writing() as connection:
            before = await _find(connection, feature.namespace, feature.id)
            await _check(connection, feature)
            await _refuse_other_usage(connection, before, values)
            await connection.execute(
                update(features).where(features.c.id == before.id).values(values)
            )
            after = await _find(connection, feature.namespace, before.id)
            await record(connection, by, "changed", "feature", before, after)
            return _feature(after)

    async def delete(self, namespace: str, id_or_key: str, *, by: str = LOCAL) -> None:
        """Delete a feature; its key is free.

        Raises:
            NotFound: there is none.
            Gone: it was deleted before.
            Conflict: a plan that is in force has it.
        """
        async with self._database.writing() as connection:
            row = await _find(connection, namespace, id_or_key)
            now = datetime.now(UTC)
            in_force = or_(plans.c.effective_to.is_(None), plans.c.effective_to > now)
            if plan := await _published_plan(connection, row, in_force):
                raise Conflict(f"the feature {row.key} is in {plan}, which is in force")
            await connection.execute(
                update(features)
                .where(features.c.id == row.id)
                .values(deleted_at=now, updated_at=now)
            )
            await record(connection, by, "deleted", "feature", row, None)


async def _check(connection: AsyncConnection, feature: Feature) -> None:
    meter = None
    if feature.meter is not None:
        meter = await find_meter(connection, feature.namespace, feature.meter.id)
    check_feature(feature, meter)


async def _find(connection: AsyncConnection, namespace: str, id_or_key: str) -> Row[Any]:
    result = await connection.execute(
        select(features)
        .where(
            features.c.namespace == namespace,
            or_(features.c.id == id_or_key, features.c.key == id_or_key),
        )
        .order_by(features.c.deleted_at.is_not(None), features.c.deleted_at.desc())
        .limit(1)
    )
    row = result.one_or_none()
    if row is None:
        raise NotFound(f"no feature has the id or key {id_or_key}")
    if row.deleted_at is not None:
        raise Gone(f"the feature {id_or_key} was deleted")
    return row


async def _refuse_other_usage(
    connection: AsyncConnection, feature: Row[Any], values: Mapping[str, Any]
) -> None:
    """A published version would bill something else than it was published for."""
    counted = {name: values[name] for name in ("meter_id", "filters") if name in values}
    if all(feature._mapping[name] == value for name, value in counted.items()):
        return
    if plan := await _published_plan(connection, feature):
        raise Conflict(
            f"what the feature {feature.key} counts cannot change, since it is in {plan}, "
            "which was published: make a feature with another key"
        )


async def _published_plan(
    connection: AsyncConnection, feature: Row[Any], *where: Any
) -> str | None:
    """A published version that has the feature, for people to read."""
    rows = await connection.execute(
        select(plans.c.key, plans.c.version, plans.c.phases).where(
            plans.c.namespace == feature.namespace,
            plans.c.deleted_at.is_(None),
            plans.c.effective_from.is_not(None),
            *where,
        )
    )
    for row in rows:
        for phase in row.phases:
            for card in phase["rate_cards"]:
                if card.get("feature", {}).get("id") == feature.id:
                    return f"{row.key} version {row.version}"
    return None


def _values(feature: Feature) -> dict[str, Any]:
    return {
        "namespace": feature.namespace,
        "key": feature.key,
        "name": feature.name,
        "description": feature.description,
        "labels": dict(feature.labels),
        "meter_id": feature.meter and feature.meter.id,
        "filters": write_filters(feature.meter.filters) if feature.meter else None,
        "unit_cost": feature.unit_cost and write_unit_cost(feature.unit_cost),
        "created_at": feature.created_at,
        "updated_at": feature.updated_at,
    }


def _feature(row: Row[Any]) -> Feature:
    meter = row.meter_id and FeatureMeter(row.meter_id, read_filters(row.filters or {}))
    return Feature(
        id=row.id,
        namespace=row.namespace,
        key=row.key,
        name=row.name,
        created_at=row.created_at,
        updated_at=row.updated_at,
        meter=meter,
        unit_cost=None if row.unit_cost is None else read_unit_cost(row.unit_cost),
        description=row.description,
        labels=dict(row.labels),
        deleted_at=row.deleted_at,
    )
