"""The versions of a plan within a transaction: found, locked, numbered and written.

What may become of one is `plans.py`'s.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.plan import Plan, PlanStatus, check_draft
from tallyman.errors import Gone, InvalidParameter, InvalidPlan, NotFound
from tallyman.store.audit import record
from tallyman.store.plan_rows import plans_of, values_of, version_in_force, with_known_features
from tallyman.store.tables import plans


async def find_version(connection: AsyncConnection, namespace: str, plan_id: str) -> Row[Any]:
    result = await connection.execute(
        select(plans).where(plans.c.namespace == namespace, plans.c.id == plan_id)
    )
    row = result.one_or_none()
    if row is None:
        raise NotFound(f"no plan has the id {plan_id}")
    if row.deleted_at is not None:
        raise Gone(f"version {row.version} of the plan {row.key} was deleted")
    return row


async def to_come(connection: AsyncConnection, namespace: str, key: str, now: datetime) -> str:
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


async def get_version(connection: AsyncConnection, namespace: str, plan_id: str) -> Plan:
    return (await plans_of(connection, [await find_version(connection, namespace, plan_id)]))[0]


async def locked(connection: AsyncConnection, namespace: str, plan_id: str) -> Plan:
    """The version, while nobody else changes one of its key; SQLite has one writer anyhow."""
    key = (await find_version(connection, namespace, plan_id)).key
    await connection.execute(
        select(plans.c.id)
        .where(plans.c.namespace == namespace, plans.c.key == key)
        .order_by(plans.c.id)
        .with_for_update()
    )
    return await get_version(connection, namespace, plan_id)


async def checked(connection: AsyncConnection, plan: Plan) -> Plan:
    """The draft with the keys of its features, as it may be kept."""
    known = await with_known_features(connection, plan)
    check_draft(known)
    return known


async def next_version(connection: AsyncConnection, plan: Plan) -> int:
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


async def refuse_scheduled(connection: AsyncConnection, plan: Plan, now: datetime) -> None:
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


async def keep_the_one_before(
    connection: AsyncConnection, plan: Plan, now: datetime, by: str
) -> None:
    """A version that would have ended for one that will never begin goes on."""
    if plan.status_at(now) is not PlanStatus.SCHEDULED:
        return
    in_force = await version_in_force(connection, plan.namespace, plan.key, now)
    if in_force is not None and in_force.effective_to == plan.effective_from:
        [old] = await plans_of(connection, [in_force])
        goes_on = replace(old, effective_to=None, updated_at=now)
        await write_version(connection, goes_on, "changed", by)


async def write_version(connection: AsyncConnection, plan: Plan, action: str, by: str) -> None:
    before = await find_version(connection, plan.namespace, plan.id)
    await connection.execute(update(plans).where(plans.c.id == plan.id).values(values_of(plan)))
    after = await find_version(connection, plan.namespace, plan.id)
    await record(connection, by, action, "plan", before, after)
