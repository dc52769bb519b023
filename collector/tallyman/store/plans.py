"""Plans as they are kept: drafts made and changed, published in versions, archived, deleted.

What a plan must keep to is `domain/plan_rules.py`'s; who subscribes to it `subscriptions.py`'s.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import and_, select, update
from sqlalchemy.exc import IntegrityError
from ulid import ULID

from tallyman.domain.access import LOCAL
from tallyman.domain.plan import Plan, PlanStatus, archive, publish, refuse_status
from tallyman.errors import Conflict, Gone, NotFound
from tallyman.store.audit import record
from tallyman.store.comparison import Comparison
from tallyman.store.database import Database
from tallyman.store.numbered_page import in_order, rows_of_page
from tallyman.store.plan_rows import (
    condition,
    plans_of,
    values_of,
    version_in_force,
)
from tallyman.store.plan_versions import (
    checked,
    find_version,
    get_version,
    keep_the_one_before,
    locked,
    next_version,
    refuse_scheduled,
    to_come,
    write_version,
)
from tallyman.store.tables import plans

SORTABLE: Final = ("created_at", "updated_at", "key", "version", "name")


class PlanStore:
    """The versions of the plans of every namespace; a published one never changes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, plan: Plan, *, by: str = LOCAL) -> Plan:
        """Keep a new draft, under a new id, as the next version of its key.

        Raises:
            InvalidPlan: it breaks a rule that drafts keep too, or its key has a draft already.
            Conflict: another draft of the key was made at the same moment.
        """
        try:
            async with self._database.writing() as connection:
                version = await next_version(connection, plan)
                made = replace(plan, id=str(ULID()), version=version, effective_from=None)
                made = await checked(connection, made)
                await connection.execute(plans.insert().values(values_of(made)))
                row = await find_version(connection, made.namespace, made.id)
                await record(connection, by, "created", "plan", None, row)
                return made
        except IntegrityError as err:
            raise Conflict(f"another draft of the plan {plan.key} was just made") from err

    async def get(self, namespace: str, plan_id: str) -> Plan:
        """The version with this id.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
        """
        async with self._database.reading() as connection:
            return await get_version(connection, namespace, plan_id)

    async def active(self, namespace: str, key: str, now: datetime) -> Plan:
        """The version of this key that is in force.

        Raises:
            NotFound: there is none.
        """
        async with self._database.reading() as connection:
            row = await version_in_force(connection, namespace, key, now)
            if row is None:
                others = await to_come(connection, namespace, key, now)
                raise NotFound(f"no version of the plan {key} is in force{others}")
            return (await plans_of(connection, [row]))[0]

    async def version(self, namespace: str, key: str, version: int) -> Plan:
        """The version of this key and number.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
        """
        statement = select(plans).where(
            plans.c.namespace == namespace, plans.c.key == key, plans.c.version == version
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(statement)).one_or_none()
            if row is None:
                raise NotFound(f"the plan {key} has no version {version}")
            if row.deleted_at is not None:
                raise Gone(f"version {version} of the plan {key} was deleted")
            return (await plans_of(connection, [row]))[0]

    async def by_ids(self, namespace: str, ids: Collection[str]) -> dict[str, Plan]:
        """Those of the versions that are there, by id; deleted ones too, which invoices may need."""
        if not ids:
            return {}
        statement = select(plans).where(plans.c.namespace == namespace, plans.c.id.in_(sorted(ids)))
        async with self._database.reading() as connection:
            rows = (await connection.execute(statement)).all()
            return {plan.id: plan for plan in await plans_of(connection, rows)}

    async def list(
        self,
        namespace: str,
        where: Sequence[Comparison] = (),
        *,
        now: datetime,
        order_by: str = "created_at",
        descending: bool = False,
        offset: int = 0,
        limit: int | None = 20,
    ) -> tuple[list[Plan], int]:
        """One page of versions, and how many there are on all pages; deleted ones are left out."""
        wanted = and_(
            plans.c.namespace == namespace,
            plans.c.deleted_at.is_(None),
            *(condition(one, now) for one in where),
        )
        order = in_order(plans.c[order_by], plans.c.id, descending=descending)
        async with self._database.reading() as connection:
            rows, total = await rows_of_page(connection, plans, wanted, order, offset, limit)
            return await plans_of(connection, rows), total

    async def replace(self, plan: Plan, *, now: datetime, by: str = LOCAL) -> Plan:
        """Change everything of a draft but its key, version and id.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
            InvalidPlan: it is no draft, or breaks a rule that drafts keep too.
        """
        async with self._database.writing() as connection:
            before = await locked(connection, plan.namespace, plan.id)
            refuse_status(before, now, (PlanStatus.DRAFT,), "changed: publish a new version")
            changed = replace(
                plan,
                key=before.key,
                version=before.version,
                created_at=before.created_at,
                updated_at=now,
                effective_from=None,
                effective_to=None,
            )
            changed = await checked(connection, changed)
            await write_version(connection, changed, "changed", by)
            return changed

    async def publish(
        self,
        namespace: str,
        plan_id: str,
        now: datetime,
        effective_from: datetime | None = None,
        *,
        by: str = LOCAL,
    ) -> Plan:
        """Put a draft in force, now unless later; the version before it is archived as of then.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
            InvalidPlan: it is no draft, breaks rules, or another version is to come in force.
        """
        async with self._database.writing() as connection:
            draft = await locked(connection, namespace, plan_id)
            published = publish(draft, now, effective_from)
            await refuse_scheduled(connection, published, now)
            beginning = published.effective_from or now
            in_force = await version_in_force(connection, namespace, draft.key, now)
            if in_force is not None:
                [old] = await plans_of(connection, [in_force])
                await write_version(connection, archive(old, now, beginning), "archived", by)
            await write_version(connection, published, "published", by)
            return published

    async def archive(
        self, namespace: str, plan_id: str, now: datetime, *, by: str = LOCAL
    ) -> Plan:
        """End a version now; subscriptions to it go on. One before it that was to end goes on too.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
            InvalidPlan: it is not in force, and not to be.
        """
        async with self._database.writing() as connection:
            plan = await locked(connection, namespace, plan_id)
            archived = archive(plan, now)
            await write_version(connection, archived, "archived", by)
            await keep_the_one_before(connection, plan, now, by)
            return archived

    async def delete(self, namespace: str, plan_id: str, now: datetime, *, by: str = LOCAL) -> None:
        """Delete a version; subscriptions to it go on.

        Raises:
            NotFound: there is none.
            Gone: it was deleted before.
            InvalidPlan: it is in force.
        """
        async with self._database.writing() as connection:
            plan = await locked(connection, namespace, plan_id)
            allowed = (PlanStatus.DRAFT, PlanStatus.SCHEDULED, PlanStatus.ARCHIVED)
            refuse_status(plan, now, allowed, "deleted: archive it first")
            row = await find_version(connection, namespace, plan_id)
            await connection.execute(
                update(plans).where(plans.c.id == plan_id).values(deleted_at=now, updated_at=now)
            )
            await record(connection, by, "deleted", "plan", row, None)
            await keep_the_one_before(connection, plan, now, by)
