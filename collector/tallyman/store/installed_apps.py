"""The apps of a namespace as they are kept: what they are called, and where invoices wait for them.

Whether Stripe can be had is a setting, and not kept.
"""

from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from msgspec import to_builtins
from sqlalchemy import Row, and_, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.access import LOCAL
from tallyman.domain.billing_profile import App, BillingProfile
from tallyman.domain.installed_app import InstalledApp
from tallyman.errors import Conflict
from tallyman.store.audit import AuditEntry, record_document
from tallyman.store.database import Database, upsert
from tallyman.store.tables import billing_profiles, external_customers, installed_apps


class InstalledAppStore:
    """The apps of every namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def every(self, namespace: str) -> dict[App, InstalledApp]:
        """What was said of each app."""
        async with self._database.reading() as connection:
            return await apps_of(connection, namespace)

    async def install(self, installed: InstalledApp, *, by: str = LOCAL) -> None:
        """Keep a new one.

        Raises:
            Conflict: it is there already.
        """
        async with self._database.writing() as connection:
            insert = upsert(connection, installed_apps).values(_values(installed))
            done = await connection.execute(insert.on_conflict_do_nothing())
            if not done.rowcount:
                raise Conflict(f"the app {installed.app} is installed already")
            await _record(connection, by, "created", None, installed, installed.updated_at)

    async def put(self, installed: InstalledApp, *, by: str = LOCAL) -> InstalledApp:
        """Say anew what it is; invoices that are made already keep where they wait."""
        async with self._database.writing() as connection:
            before = (await apps_of(connection, installed.namespace)).get(installed.app)
            if before is not None:
                installed = replace(installed, created_at=before.created_at)
            values = _values(installed)
            insert = upsert(connection, installed_apps).values(values)
            keys = ["namespace", "app"]
            changed = {name: values[name] for name in values if name not in keys}
            await connection.execute(
                insert.on_conflict_do_update(index_elements=keys, set_=changed)
            )
            action = "created" if before is None else "changed"
            await _record(connection, by, action, before, installed, installed.updated_at)
        return installed

    async def uninstall(self, installed: InstalledApp, now: datetime, *, by: str = LOCAL) -> None:
        """Have it no more.

        Raises:
            Conflict: a billing profile has it.
        """
        async with self._database.writing() as connection:
            used = select(billing_profiles.c.id).where(
                billing_profiles.c.namespace == installed.namespace,
                billing_profiles.c.app == str(installed.app),
                billing_profiles.c.deleted_at.is_(None),
            )
            profile_id = (await connection.execute(used.limit(1))).scalar_one_or_none()
            if profile_id is not None:
                raise Conflict(f"the billing profile {profile_id} has the app {installed.app}")
            await connection.execute(
                delete(installed_apps).where(
                    and_(
                        installed_apps.c.namespace == installed.namespace,
                        installed_apps.c.app == str(installed.app),
                    )
                )
            )
            await _record(connection, by, "deleted", installed, None, now)

    async def external_labels(self, namespace: str, customer_id: str) -> dict[str, str]:
        """What a customer is to external invoicing."""
        statement = select(external_customers.c.labels).where(
            external_customers.c.namespace == namespace,
            external_customers.c.customer_id == customer_id,
        )
        async with self._database.reading() as connection:
            return dict((await connection.execute(statement)).scalar_one_or_none() or {})

    async def put_external_labels(
        self,
        namespace: str,
        customer_id: str,
        labels: dict[str, str],
        now: datetime,
        *,
        by: str = LOCAL,
    ) -> None:
        """Say what a customer is to external invoicing."""
        async with self._database.together():
            before = await self.external_labels(namespace, customer_id)
            if before == labels:
                return
            values = {"labels": labels, "updated_at": now}
            async with self._database.writing() as connection:
                insert = upsert(connection, external_customers).values(
                    customer_id=customer_id, namespace=namespace, **values
                )
                await connection.execute(
                    insert.on_conflict_do_update(index_elements=["customer_id"], set_=values)
                )
                entry = AuditEntry(
                    namespace=namespace,
                    at=now,
                    actor=by,
                    action="linked",
                    entity="customer",
                    entity_id=customer_id,
                    before={"external_invoicing": {"labels": before}},
                    after={"external_invoicing": {"labels": labels}},
                )
                await record_document(connection, entry)


async def apps_of(connection: AsyncConnection, namespace: str) -> dict[App, InstalledApp]:
    """What was said of each app of a namespace, in the connection's transaction."""
    statement = select(installed_apps).where(installed_apps.c.namespace == namespace)
    return {App(row.app): _installed(row) for row in await connection.execute(statement)}


def waiting_for(profile: BillingProfile, apps: dict[App, InstalledApp]) -> BillingProfile:
    """The profile with where its invoices wait for their app."""
    installed = apps.get(profile.app)
    if installed is None or profile.app is not App.EXTERNAL_INVOICING:
        return profile
    workflow = replace(
        profile.workflow,
        waits_in_draft=installed.waits_in_draft,
        waits_to_issue=installed.waits_to_issue,
    )
    return replace(profile, workflow=workflow)


async def _record(
    connection: AsyncConnection,
    by: str,
    action: str,
    before: InstalledApp | None,
    after: InstalledApp | None,
    now: datetime,
) -> None:
    one = after or before
    if one is None:
        raise ValueError("a change has an app before or after it")
    await record_document(
        connection,
        AuditEntry(
            namespace=one.namespace,
            at=now,
            actor=by,
            action=action,
            entity="app",
            entity_id=str(one.app),
            before=None if before is None else to_builtins(before),
            after=None if after is None else to_builtins(after),
        ),
    )


def _values(installed: InstalledApp) -> dict[str, Any]:
    return asdict(installed) | {"app": str(installed.app)}


def _installed(row: Row[Any]) -> InstalledApp:
    values = dict(row._mapping)
    return InstalledApp(**values | {"app": App(row.app)})
