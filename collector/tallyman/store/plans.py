"""Plans as they are kept: drafts made and changed, published in versions, archived, deleted.

What a plan must keep to is `domain/plan_rules.py`'s; who subscribes to it `subscriptions.py`'s.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, and_, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from tallyman.domain.access import LOCAL
from tallyman.domain.plan import Plan, PlanStatus, archive, check_draft, publish, refuse_status
from tallyman.errors import Conflict, Gone, InvalidParameter, InvalidPlan, NotFound
from tallyman.store.audit import record
from tallyman.store.comparison import Comparison
from tallyman.store.database import Database
from tallyman.store.plan_rows import (
    condition,
    plans_of,
    values_of,
    version_in_force,
    with_known_features,
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
                version = await _next_version(connection, plan)
                made = replace(plan, id=str(ULID()), version=version, effective_from=None)
                made = await _checked(connection, made)
                await connection.execute(plans.insert().values(values_of(made)))
                row = await _find(connection, made.namespace, made.id)
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
            return await _get(connection, namespace, plan_id)

    async def active(self, namespace: str, key: str, now: datetime) -> Plan:
        """The version of this key that is in force.

        Raises:
            NotFound: there is none.
        """
        async with self._database.reading() as connection:
            row = await version_in_force(connection, namespace, key, now)
            if row is None:
                others = await _to_come(connection, namespace, key, now)
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
        column = plans.c[order_by]
        order = (column.desc(), plans.c.id.desc()) if descending else (column, plans.c.id)
        page = select(plans).where(wanted).order_by(*order).offset(offset).limit(limit)
        async with self._database.reading() as connection:
            count = select(func.count()).select_from(plans).where(wanted)
            total = (await connection.execute(count)).scalar_one()
            rows = (await connection.execute(page)).all()
            return await plans_of(connection, rows), total

    async def replace(self, plan: Plan, *, now: datetime, by: str = LOCAL) -> Plan:
        """Change everything of a draft but its key, version and id.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
            InvalidPlan: it is no draft, or breaks a rule that drafts keep too.
        """
        async with self._database.writing() as connection:
            before = await _locked(connection, plan.namespace, plan.id)
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
            changed = await _checked(connection, changed)
            await _write(connection, changed, "changed", by)
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
            draft = await _locked(connection, namespace, plan_id)
            published = publish(draft, now, effective_from)
            await _refuse_scheduled(connection, published, now)
            beginning = published.effective_from or now
            in_force = await version_in_force(connection, namespace, draft.key, now)
            if in_force is not None:
                [old] = await plans_of(connection, [in_force])
                await _write(connection, archive(old, now, beginning), "archived", by)
            await _write(connection, published, "published", by)
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
            plan = await _locked(connection, namespace, plan_id)
            archived = archive(plan, now)
            await _write(connection, archived, "archived", by)
            await _keep_the_one_before(connection, plan, now, by)
            return archived

    async def delete(self, namespace: str, plan_id: str, now: datetime, *, by: str = LOCAL) -> None:
        """Delete a version; subscriptions to it go on.

        Raises:
            NotFound: there is none.
            Gone: it was deleted before.
            InvalidPlan: it is in force.
        """
        async with self._database.writing() as connection:
            plan = await _locked(connection, namespace, plan_id)
            allowed = (PlanStatus.DRAFT, PlanStatus.SCHEDULED, PlanStatus.ARCHIVED)
            refuse_status(plan, now, allowed, "deleted: archive it first")
            row = await _find(connection, namespace, plan_id)
            await connection.execute(
                update(plans).where(plans.c.id == plan_id).values(deleted_at=now, updated_at=now)
            )
            await record(connection, by, "deleted", "plan", row, None)
            await _keep_the_one_before(connection, plan, now, by)


async def _find(connection: AsyncConnection, namespace: str, plan_id: str) -> Row[Any]:
    result = await connection.execute(
        select(plans).where(plans.c.namespace == namespace, plans.c.id == plan_id)
    )
    row = result.one_or_none()
    if row is None:
        raise NotFound(f"no plan has the id {plan_id}")
    if row.deleted_at is not None:
        raise Gone(f"version {row.version} of the plan {row.key} was deleted")
    return row


async def _to_come(connection: AsyncConnection, namespace: str, key: str, now: datetime) -> str:
    """What could be, for whoever finds that no version is in force."""
    result = await connection.execute(
        select(plans.c.version, plans.c.effective_from)
        .where(
            plans.c.namespace == namespace,
            plans.c.key == key,
            plans.c.deleted_at.is_(None),
            or_(plans.c.effective_from.is_(None), plans.c.effective_from > now),
        )
        .order_by(plans.c.version.desc())
        .limit(1)
    )
    row = result.one_or_none()
    if row is None:
        return ""
    if row.effective_from is None:
        return f": version {row.version} is a draft: publish it"
    return f": version {row.version} will be from {row.effective_from:%Y-%m-%d %H:%M:%S} UTC on"


async def _get(connection: AsyncConnection, namespace: str, plan_id: str) -> Plan:
    return (await plans_of(connection, [await _find(connection, namespace, plan_id)]))[0]


async def _locked(connection: AsyncConnection, namespace: str, plan_id: str) -> Plan:
    """The version, while nobody else changes one of its key; SQLite has one writer anyhow."""
    key = (await _find(connection, namespace, plan_id)).key
    await connection.execute(
        select(plans.c.id)
        .where(plans.c.namespace == namespace, plans.c.key == key)
        .order_by(plans.c.id)
        .with_for_update()
    )
    return await _get(connection, namespace, plan_id)


async def _checked(connection: AsyncConnection, plan: Plan) -> Plan:
    """The draft with the keys of its features, as it may be kept."""
    checked = await with_known_features(connection, plan)
    check_draft(checked)
    return checked


async def _next_version(connection: AsyncConnection, plan: Plan) -> int:
    rows = await connection.execute(
        select(plans.c.version, plans.c.effective_from, plans.c.deleted_at).where(
            plans.c.namespace == plan.namespace, plans.c.key == plan.key
        )
    )
    newest = 0
    for row in rows:
        newest = max(newest, row.version)
        if row.effective_from is None and row.deleted_at is None:
            reason = (
                f"version {row.version} of {plan.key} is a draft: change, publish or delete it, "
                "since only a single draft version is allowed"
            )
            raise InvalidPlan(reason, [InvalidParameter("key", "plan_draft_exists", reason)])
    return newest + 1


async def _refuse_scheduled(connection: AsyncConnection, plan: Plan, now: datetime) -> None:
    """Of two that are to come, which one is in force when would be hard to say."""
    result = await connection.execute(
        select(plans.c.version).where(
            plans.c.namespace == plan.namespace,
            plans.c.key == plan.key,
            plans.c.deleted_at.is_(None),
            plans.c.effective_from > now,
            plans.c.effective_to.is_(None),
        )
    )
    scheduled = result.scalars().first()
    if scheduled is not None:
        reason = f"version {scheduled} of {plan.key} is scheduled: archive or delete it first"
        raise InvalidPlan(reason, [InvalidParameter("status", "plan_invalid_status", reason)])


async def _keep_the_one_before(
    connection: AsyncConnection, plan: Plan, now: datetime, by: str
) -> None:
    """A version that would have ended for one that will never begin goes on."""
    if plan.status_at(now) is not PlanStatus.SCHEDULED:
        return
    in_force = await version_in_force(connection, plan.namespace, plan.key, now)
    if in_force is not None and in_force.effective_to == plan.effective_from:
        [old] = await plans_of(connection, [in_force])
        goes_on = replace(old, effective_to=None, updated_at=now)
        await _write(connection, goes_on, "changed", by)


async def _write(connection: AsyncConnection, plan: Plan, action: str, by: str) -> None:
    before = await _find(connection, plan.namespace, plan.id)
    await connection.execute(update(plans).where(plans.c.id == plan.id).values(values_of(plan)))
    after = await _find(connection, plan.namespace, plan.id)
    await record(connection, by, action, "plan", before, after)
