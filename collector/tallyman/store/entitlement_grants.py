"""Grants and overrides of entitlements, as they are made, voided and read.

What they come to is `domain/entitlement_grant.py`'s.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from tallyman.domain.access import LOCAL
from tallyman.domain.duration import Cadence, parse_duration
from tallyman.domain.entitlement_grant import EntitlementGrant
from tallyman.domain.entitlement_period import EntitlementOverride
from tallyman.errors import Conflict, NotFound
from tallyman.store.audit import record
from tallyman.store.customer_subjects import portions
from tallyman.store.database import Database
from tallyman.store.tables import entitlement_grants, entitlement_overrides

_SAME = (
    "id", "namespace", "subscription_id", "feature_key", "priority", "effective_at", "expires_at",
    "voided_at", "metadata", "expiration", "created_at", "updated_at",
)  # fmt: skip
_G = entitlement_grants.c


class EntitlementGrantStore:
    """The grants and overrides of every namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, grant: EntitlementGrant, *, by: str = LOCAL) -> EntitlementGrant:
        """Keep a new grant."""
        values = {name: getattr(grant, name) for name in _SAME} | {
            name: format(getattr(grant, name), "f")
            for name in ("amount", "min_rollover", "max_rollover")
        }
        if grant.recurrence is not None:
            values["recurrence"] = {
                "interval": str(grant.recurrence.step),
                "anchor": grant.recurrence.anchor.isoformat(),
            }
        async with self._database.writing() as connection:
            await connection.execute(entitlement_grants.insert().values(values))
            await record(
                connection, by, "granted", "entitlement", None, await _row(connection, grant.id)
            )
            return grant

    async def of(
        self, subscription_ids: Collection[str], feature_key: str
    ) -> list[EntitlementGrant]:
        """The grants of an entitlement, voided ones too, the eldest first."""
        statement = (
            select(entitlement_grants)
            .where(_G.subscription_id.in_(subscription_ids), _G.feature_key == feature_key)
            .order_by(_G.created_at, _G.id)
        )
        async with self._database.reading() as connection:
            return [grant_of(row) for row in await connection.execute(statement)]

    async def void(
        self, namespace: str, grant_id: str, now: datetime, *, by: str = LOCAL
    ) -> EntitlementGrant:
        """Take what is left of a grant out of use.

        Raises:
            NotFound: there is none.
            Conflict: it is voided already, or has expired.
        """
        async with self._database.writing() as connection:
            before = await _row(connection, grant_id)
            if before is None or before.namespace != namespace:
                raise NotFound(f"no grant has the id {grant_id}")
            if before.voided_at is not None:
                raise Conflict("the grant is voided already")
            if before.expires_at is not None and before.expires_at <= now:
                raise Conflict("the grant has expired")
            await connection.execute(
                update(entitlement_grants)
                .where(_G.id == grant_id)
                .values(voided_at=now, updated_at=now)
            )
            after = await _row(connection, grant_id)
            await record(connection, by, "voided", "entitlement", before, after)
            return grant_of(after)

    async def override(
        self, namespace: str, override: EntitlementOverride, *, by: str = LOCAL
    ) -> None:
        """Keep that a customer has a limit of its own."""
        made = str(ULID())
        async with self._database.writing() as connection:
            await connection.execute(
                entitlement_overrides.insert().values(
                    id=made,
                    namespace=namespace,
                    subscription_id=override.subscription_id,
                    feature_key=override.feature_key,
                    effective_at=override.effective_at,
                    limit=None if override.limit is None else format(override.limit, "f"),
                    is_soft_limit=override.is_soft_limit,
                    created_at=override.effective_at,
                )
            )
            found = select(entitlement_overrides).where(entitlement_overrides.c.id == made)
            row = (await connection.execute(found)).one()
            await record(connection, by, "overridden", "entitlement", None, row)


async def grants_by_subscription(
    connection: AsyncConnection, ids: Collection[str]
) -> dict[str, list[EntitlementGrant]]:
    """Those of each subscription."""
    found: dict[str, list[EntitlementGrant]] = {}
    for some in portions(ids):
        rows = await connection.execute(
            select(entitlement_grants).where(_G.subscription_id.in_(some)).order_by(_G.id)
        )
        for row in rows:
            found.setdefault(row.subscription_id, []).append(grant_of(row))
    return found


async def overrides_by_subscription(
    connection: AsyncConnection, ids: Collection[str]
) -> dict[str, list[EntitlementOverride]]:
    """Those of each subscription."""
    found: dict[str, list[EntitlementOverride]] = {}
    table = entitlement_overrides
    for some in portions(ids):
        rows = await connection.execute(
            select(table)
            .where(table.c.subscription_id.in_(some))
            .order_by(table.c.effective_at, table.c.id)
        )
        for row in rows:
            found.setdefault(row.subscription_id, []).append(
                EntitlementOverride(
                    row.subscription_id,
                    row.feature_key,
                    row.effective_at,
                    None if row.limit is None else Decimal(row.limit),
                    row.is_soft_limit,
                )
            )
    return found


async def _row(connection: AsyncConnection, grant_id: str) -> Any:
    found = select(entitlement_grants).where(_G.id == grant_id)
    return (await connection.execute(found)).one_or_none()


def grant_of(row: Row[Any]) -> EntitlementGrant:
    """The grant of a row."""
    return EntitlementGrant(
        **{name: getattr(row, name) for name in _SAME},
        amount=Decimal(row.amount),
        min_rollover=Decimal(row.min_rollover),
        max_rollover=Decimal(row.max_rollover),
        recurrence=_recurrence(row.recurrence),
    )


def _recurrence(kept: Mapping[str, str] | None) -> Cadence | None:
    if kept is None:
        return None
    return Cadence(datetime.fromisoformat(kept["anchor"]), parse_duration(kept["interval"]))
