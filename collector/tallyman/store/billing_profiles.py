"""Billing profiles as they are kept: made, read, listed, changed and deleted.

Which customer has which is the customer's; one without has the namespace's default.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import convert, to_builtins
from sqlalchemy import Row, and_, case, false, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from tallyman.domain.access import LOCAL
from tallyman.domain.billing_profile import App, BillingProfile, Supplier, Workflow
from tallyman.domain.content_id import content_id
from tallyman.domain.period import EPOCH
from tallyman.domain.service_period import EndProration
from tallyman.errors import Conflict, Gone, InvalidParameter, NotFound
from tallyman.store.audit import record
from tallyman.store.database import Database, upsert
from tallyman.store.installed_apps import apps_of, waiting_for
from tallyman.store.numbered_page import in_order, rows_of_page
from tallyman.store.tables import billing_profiles, customers

SORTABLE: Final = ("created_at", "updated_at", "name")
DEFAULT_NAME: Final = "Default"


@dataclass(frozen=True)
class BillingProfileChange:
    """What a profile is from now on. `is_default` True takes it from the one that was."""

    name: str
    supplier: Supplier
    workflow: Workflow
    is_default: bool
    description: str | None = None
    labels: Mapping[str, str] | None = None


class BillingProfileStore:
    """The billing profiles of every namespace; each has a default one from its first use on."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._with_default: set[str] = set()

    async def create(self, profile: BillingProfile, *, by: str = LOCAL) -> BillingProfile:
        """Keep a new profile, under a new id."""
        await self.default(profile.namespace)
        values = _values(profile) | {"id": str(ULID()), "created_at": profile.created_at}
        async with self._database.writing() as connection:
            if profile.is_default:
                await _take_default(connection, profile.namespace, by, profile.created_at)
            await connection.execute(billing_profiles.insert().values(values))
            row = await _find(connection, profile.namespace, values["id"])
            await record(connection, by, "created", "profile", None, row)
            return _profile(row)

    async def get(self, namespace: str, profile_id: str) -> BillingProfile:
        """The profile with this id.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
        """
        async with self._database.reading() as connection:
            return _profile(await _find(connection, namespace, profile_id))

    async def default(self, namespace: str) -> BillingProfile:
        """The namespace's default: the sandbox, which charges nobody, until another is made it."""
        if namespace not in self._with_default:
            await self._add_default(namespace)
        async with self._database.reading() as connection:
            rows = await connection.execute(
                select(billing_profiles).where(_kept(namespace), billing_profiles.c.is_default)
            )
            return _profile(rows.one())

    async def every(self, namespace: str) -> dict[str, BillingProfile]:
        """All that are not deleted, by id, with where their invoices wait for their app."""
        await self.default(namespace)
        async with self._database.reading() as connection:
            apps = await apps_of(connection, namespace)
            rows = await connection.execute(select(billing_profiles).where(_kept(namespace)))
            return {row.id: waiting_for(_profile(row), apps) for row in rows}

    async def page(
        self,
        namespace: str,
        *,
        order_by: str = "created_at",
        descending: bool = False,
        offset: int = 0,
        limit: int = 20,
    ) -> tuple[list[BillingProfile], int]:
        """One page, and how many there are on all pages; deleted ones are left out."""
        await self.default(namespace)
        order = in_order(billing_profiles.c[order_by], billing_profiles.c.id, descending=descending)
        async with self._database.reading() as connection:
            rows, total = await rows_of_page(
                connection, billing_profiles, _kept(namespace), order, offset, limit
            )
            return [_profile(row) for row in rows], total

    async def replace(
        self,
        namespace: str,
        profile_id: str,
        change: BillingProfileChange,
        now: datetime,
        *,
        by: str = LOCAL,
    ) -> BillingProfile:
        """Put the profile anew; invoices that are made already keep what it was.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
            Conflict: it is the default, and would not be: another must be made it.
        """
        async with self._database.writing() as connection:
            row = await _find(connection, namespace, profile_id)
            if row.is_default and not change.is_default:
                raise _must_have_default()
            if change.is_default and not row.is_default:
                await _take_default(connection, namespace, by, now)
            await connection.execute(
                update(billing_profiles)
                .where(billing_profiles.c.id == row.id)
                .values(**_documents(change), updated_at=now)
            )
            changed = await _find(connection, namespace, row.id)
            await record(connection, by, "changed", "profile", row, changed)
            return _profile(changed)

    async def delete(
        self, namespace: str, profile_id: str, now: datetime, *, by: str = LOCAL
    ) -> None:
        """Delete a profile; its customers have the default one from then on.

        Raises:
            NotFound: there is none.
            Gone: it was deleted before.
            Conflict: it is the default.
        """
        async with self._database.writing() as connection:
            row = await _find(connection, namespace, profile_id)
            if row.is_default:
                raise _must_have_default()
            await connection.execute(
                update(billing_profiles)
                .where(billing_profiles.c.id == row.id)
                .values(deleted_at=now, updated_at=now)
            )
            await record(connection, by, "deleted", "profile", row, None)

    async def _add_default(self, namespace: str) -> None:
        now = datetime.now(UTC)
        made = BillingProfile(
            id=content_id(EPOCH, "billing-profile", namespace),
            namespace=namespace,
            name=DEFAULT_NAME,
            supplier=Supplier(),
            workflow=Workflow(),
            is_default=True,
            created_at=now,
            updated_at=now,
        )
        values = _values(made) | {"id": made.id, "created_at": now}
        async with self._database.writing() as connection:
            # One that is there may have this id (deleted since) or be another that is the default.
            await connection.execute(
                upsert(connection, billing_profiles).values(values).on_conflict_do_nothing()
            )
        self._with_default.add(namespace)


def profile_of(
    profiles: Mapping[str, BillingProfile], billing_profile_id: str | None
) -> BillingProfile:
    """The customer's profile, or the default one where it has none or a deleted one."""
    given = None if billing_profile_id is None else profiles.get(billing_profile_id)
    return given or _default_of(profiles.values())


async def end_proration_of(
    connection: AsyncConnection, namespace: str, customer_id: str
) -> EndProration:
    """What the customer's profile says of a subscription's last period, in the transaction."""
    whose = select(customers.c.billing_profile_id).where(customers.c.id == customer_id)
    mine = billing_profiles.c.id == whose.scalar_subquery()
    rows = await connection.execute(
        select(billing_profiles.c.workflow)
        .where(_kept(namespace), or_(mine, billing_profiles.c.is_default))
        .order_by(case((mine, 0), else_=1))
        .limit(1)
    )
    workflow = rows.scalars().one_or_none()
    return (Workflow() if workflow is None else convert(workflow, Workflow)).end_proration


def _default_of(profiles: Iterable[BillingProfile]) -> BillingProfile:
    return next(profile for profile in profiles if profile.is_default)


async def _take_default(
    connection: AsyncConnection, namespace: str, by: str, now: datetime
) -> None:
    """Leave the namespace without a default, for the one that follows in this transaction."""
    found = select(billing_profiles).where(_kept(namespace), billing_profiles.c.is_default)
    row = (await connection.execute(found.with_for_update())).one()
    await connection.execute(
        update(billing_profiles)
        .where(billing_profiles.c.id == row.id)
        .values(is_default=false(), updated_at=now)
    )
    after = await _find(connection, namespace, row.id)
    await record(connection, by, "changed", "profile", row, after)


async def _find(connection: AsyncConnection, namespace: str, profile_id: str) -> Row[Any]:
    rows = await connection.execute(
        select(billing_profiles).where(
            billing_profiles.c.namespace == namespace, billing_profiles.c.id == profile_id
        )
    )
    row = rows.one_or_none()
    if row is None:
        raise NotFound(f"no billing profile has the id {profile_id}")
    if row.deleted_at is not None:
        raise Gone(f"the billing profile {profile_id} was deleted")
    return row


def _kept(namespace: str) -> Any:
    return and_(billing_profiles.c.namespace == namespace, billing_profiles.c.deleted_at.is_(None))


def _must_have_default() -> Conflict:
    reason = "one profile must be the default: make another one it first"
    return Conflict(reason, [InvalidParameter("default", "invalid", reason)])


def _documents(profile: BillingProfile | BillingProfileChange) -> dict[str, Any]:
    return {
        "name": profile.name,
        "description": profile.description,
        "labels": dict(profile.labels or {}),
        "supplier": to_builtins(profile.supplier),
        "workflow": to_builtins(profile.workflow),
        "is_default": profile.is_default,
    }


def _values(profile: BillingProfile) -> dict[str, Any]:
    return _documents(profile) | {
        "namespace": profile.namespace,
        "app": str(profile.app),
        "updated_at": profile.updated_at,
    }


def _profile(row: Row[Any]) -> BillingProfile:
    return BillingProfile(
        id=row.id,
        namespace=row.namespace,
        name=row.name,
        supplier=convert(row.supplier, Supplier),
        workflow=convert(row.workflow, Workflow),
        is_default=row.is_default,
        created_at=row.created_at,
        updated_at=row.updated_at,
        description=row.description,
        labels=dict(row.labels),
        deleted_at=row.deleted_at,
        app=App(row.app),
    )
