"""Reads what entitlements are made of: customers with subjects, subscriptions and resets, meters.

It does not count usage: see `entitlement_usage.py`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeVar

from sqlalchemy import Row, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from tallyman.domain.access import LOCAL
from tallyman.domain.counting import Metered
from tallyman.domain.customer import Customer, SubjectSpan
from tallyman.domain.entitlement_grant import EntitlementGrant
from tallyman.domain.entitlement_period import EntitlementOverride, EntitlementReset
from tallyman.domain.subscription import Subscription
from tallyman.errors import Gone, NotFound
from tallyman.store.audit import record
from tallyman.store.customer_rows import customers_of, unended
from tallyman.store.customer_subjects import portions, spans_of
from tallyman.store.database import Database
from tallyman.store.entitlement_grants import grants_by_subscription, overrides_by_subscription
from tallyman.store.features import FeatureStore
from tallyman.store.meters import MeterStore
from tallyman.store.sandboxes import Sandboxes
from tallyman.store.subscription_rows import select_subscriptions
from tallyman.store.tables import (
    audit_log,
    customers,
    entitlement_grants,
    entitlement_overrides,
    entitlement_resets,
    features,
    subscriptions,
)

_LOWEST: Final = "0" * 16
T = TypeVar("T")


@dataclass(frozen=True)
class Definition:
    """A customer with all that its entitlements follow from.

    `earlier` are subscriptions that have ended, where something that was granted is still in effect.
    """

    customer: Customer
    spans: tuple[SubjectSpan, ...]
    subscriptions: tuple[Subscription, ...]
    resets: tuple[EntitlementReset, ...]
    grants: tuple[EntitlementGrant, ...] = ()
    overrides: tuple[EntitlementOverride, ...] = ()
    earlier: tuple[Subscription, ...] = ()


@dataclass(frozen=True)
class Change:
    """A line of the audit log: something was changed."""

    id: str
    namespace: str
    entity: str
    entity_id: str


class EntitlementDefinitions:
    """What the entitlements of every namespace follow from."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._features = FeatureStore(database)
        self._meters = MeterStore(database)

    async def frozen_times(self) -> dict[str, datetime]:
        """What time it is in each sandbox that has a clock."""
        return await Sandboxes(self._database).frozen()

    async def customer_ids(self) -> dict[str, list[str]]:
        """Those of each namespace that are not deleted."""
        statement = (
            select(customers.c.namespace, customers.c.id)
            .where(customers.c.deleted_at.is_(None))
            .order_by(customers.c.namespace, customers.c.id)
        )
        found: dict[str, list[str]] = {}
        async with self._database.reading() as connection:
            for namespace, customer_id in await connection.execute(statement):
                found.setdefault(namespace, []).append(customer_id)
        return found

    async def of_customers(
        self, namespace: str, ids: Collection[str], now: datetime
    ) -> list[Definition]:
        """The customers of these ids that are not deleted; subscriptions that ended are left out."""
        found: list[Definition] = []
        async with self._database.reading() as connection:
            for some in portions(ids):
                found += await _definitions(connection, namespace, some, now)
        return found

    async def counted(self, namespace: str) -> dict[str, Metered]:
        """What each feature of the namespace counts, by its id; those without a meter are absent."""
        statement = select(features.c.id).where(
            features.c.namespace == namespace, features.c.meter_id.is_not(None)
        )
        async with self._database.reading() as connection:
            ids = (await connection.execute(statement)).scalars().all()
        found: dict[str, Metered] = {}
        meters = {}
        for some in portions(ids):
            for feature in (await self._features.by_ids(namespace, some)).values():
                assert feature.meter is not None  # noqa: S101 - selected above
                meter_id = feature.meter.id
                if meter_id not in meters:
                    try:
                        meters[meter_id] = await self._meters.get(namespace, meter_id)
                    except (NotFound, Gone):
                        continue
                found[feature.id] = Metered(meters[meter_id], feature.meter.filters)
        return found

    async def feature_keys(self, namespace: str) -> frozenset[str]:
        """Those of all features of the namespace."""
        statement = select(features.c.key).where(
            features.c.namespace == namespace, features.c.deleted_at.is_(None)
        )
        async with self._database.reading() as connection:
            return frozenset((await connection.execute(statement)).scalars())

    async def recent_changes(self, within: timedelta) -> list[Change]:
        """What was changed so lately, by the clocks of those who did; in any order."""
        floor = str(ULID.from_datetime(datetime.now(UTC) - within))[:10] + _LOWEST
        statement = select(
            audit_log.c.id, audit_log.c.namespace, audit_log.c.entity, audit_log.c.entity_id
        ).where(audit_log.c.id >= floor)
        async with self._database.reading() as connection:
            return [Change(*row) for row in await connection.execute(statement)]

    async def customers_of_subscriptions(self, ids: Collection[str]) -> dict[str, set[str]]:
        """Whose these subscriptions are: customer ids by namespace."""
        found: dict[str, set[str]] = {}
        async with self._database.reading() as connection:
            for some in portions(ids):
                rows = await connection.execute(
                    select(subscriptions.c.namespace, subscriptions.c.customer_id).where(
                        subscriptions.c.id.in_(some)
                    )
                )
                for namespace, customer_id in rows:
                    found.setdefault(namespace, set()).add(customer_id)
        return found

    async def reset(
        self, namespace: str, reset: EntitlementReset, now: datetime, *, by: str = LOCAL
    ) -> None:
        """Keep that usage is counted anew."""
        reset_id = str(ULID())
        async with self._database.writing() as connection:
            await connection.execute(
                entitlement_resets.insert().values(
                    id=reset_id,
                    namespace=namespace,
                    subscription_id=reset.subscription_id,
                    feature_key=reset.feature_key,
                    effective_at=reset.effective_at,
                    retain_anchor=reset.retain_anchor,
                    carried_overage=format(reset.carried_overage, "f"),
                    created_at=now,
                )
            )
            row = (
                await connection.execute(
                    select(entitlement_resets).where(entitlement_resets.c.id == reset_id)
                )
            ).one()
            await record(connection, by, "reset", "entitlement", None, row)

    async def customers_of_resets(self, ids: Collection[str]) -> dict[str, set[str]]:
        """Whose entitlements these resets, grants or overrides are of: customer ids by namespace."""
        subscription_ids: list[str] = []
        async with self._database.reading() as connection:
            for some in portions(ids):
                for table in (entitlement_resets, entitlement_grants, entitlement_overrides):
                    rows = await connection.execute(
                        select(table.c.subscription_id).where(table.c.id.in_(some))
                    )
                    subscription_ids += rows.scalars()
        return await self.customers_of_subscriptions(subscription_ids)


async def _definitions(
    connection: AsyncConnection, namespace: str, ids: list[str], now: datetime
) -> list[Definition]:
    rows = await connection.execute(
        select(customers).where(
            customers.c.namespace == namespace,
            customers.c.id.in_(ids),
            customers.c.deleted_at.is_(None),
        )
    )
    found = await customers_of(connection, rows.all())
    spans = await spans_of(connection, ids, None)
    theirs: dict[str, list[Subscription]] = {}
    for one in await select_subscriptions(
        connection, namespace, subscriptions.c.customer_id.in_(ids), unended(now)
    ):
        theirs.setdefault(one.customer_id, []).append(one)
    earlier = await _earlier(connection, namespace, ids, now)
    every = {id_: [*earlier.get(id_, ()), *theirs.get(id_, ())] for id_ in ids}
    subscription_ids = [one.id for mine in every.values() for one in mine]
    resets = await _resets(connection, subscription_ids)
    grants = await grants_by_subscription(connection, subscription_ids)
    overrides = await overrides_by_subscription(connection, subscription_ids)
    return [
        Definition(
            customer,
            spans.get(customer.id, ()),
            tuple(theirs.get(customer.id, ())),
            _of(every[customer.id], resets),
            _of(every[customer.id], grants),
            _of(every[customer.id], overrides),
            tuple(earlier.get(customer.id, ())),
        )
        for customer in found
    ]


async def _earlier(
    connection: AsyncConnection, namespace: str, ids: Collection[str], now: datetime
) -> dict[str, list[Subscription]]:
    """Those that have ended, of customers to whom one of them granted what is still in effect."""
    over = subscriptions.c.active_to <= now
    granted = (
        select(subscriptions.c.customer_id)
        .join(entitlement_grants, entitlement_grants.c.subscription_id == subscriptions.c.id)
        .where(
            subscriptions.c.customer_id.in_(ids),
            over,
            entitlement_grants.c.voided_at.is_(None),
            or_(entitlement_grants.c.expires_at.is_(None), entitlement_grants.c.expires_at > now),
        )
        .distinct()
    )
    whose = list((await connection.execute(granted)).scalars())
    found: dict[str, list[Subscription]] = {}
    if whose:
        mine = subscriptions.c.customer_id.in_(whose)
        for one in await select_subscriptions(connection, namespace, mine, over):
            found.setdefault(one.customer_id, []).append(one)
    return found


def _of(theirs: Iterable[Subscription], found: Mapping[str, Sequence[T]]) -> tuple[T, ...]:
    return tuple(one for subscription in theirs for one in found.get(subscription.id, ()))


async def _resets(
    connection: AsyncConnection, ids: Collection[str]
) -> dict[str, list[EntitlementReset]]:
    found: dict[str, list[EntitlementReset]] = {}
    for some in portions(ids):
        rows = await connection.execute(
            select(entitlement_resets)
            .where(entitlement_resets.c.subscription_id.in_(some))
            .order_by(entitlement_resets.c.effective_at, entitlement_resets.c.id)
        )
        for row in rows:
            found.setdefault(row.subscription_id, []).append(_reset(row))
    return found


def _reset(row: Row[Any]) -> EntitlementReset:
    return EntitlementReset(
        row.subscription_id,
        row.feature_key,
        row.effective_at,
        row.retain_anchor,
        Decimal(row.carried_overage),
    )
