"""Rows of plans as values and back, and the conditions of their lists.

What happens to a plan is `plans.py`'s.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, case, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.duration import parse_duration
from tallyman.domain.plan import Plan, PlanStatus
from tallyman.domain.plan_document import features_of, known_features, read_phases, write_phases
from tallyman.store.comparison import Comparison, condition_of
from tallyman.store.tables import features, plans

FILTERED: Final = ("key", "name", "currency", "status")


def condition(one: Comparison, now: datetime) -> ColumnElement[bool]:
    """The condition of a list; the status is that of the moment."""
    if one.column == "status":
        return condition_of(_status(now), one)
    return condition_of(plans.c[one.column], one)


def _status(now: datetime) -> ColumnElement[str]:
    """`Plan.status_at` as SQL."""
    return case(
        (plans.c.effective_from.is_(None), PlanStatus.DRAFT.value),
        (plans.c.effective_to <= now, PlanStatus.ARCHIVED.value),
        (plans.c.effective_from > now, PlanStatus.SCHEDULED.value),
        else_=PlanStatus.ACTIVE.value,
    )


async def version_in_force(
    connection: AsyncConnection, namespace: str, key: str, now: datetime
) -> Row[Any] | None:
    """The row of the version of this key that is in force."""
    result = await connection.execute(
        select(plans)
        .where(
            plans.c.namespace == namespace,
            plans.c.key == key,
            plans.c.deleted_at.is_(None),
            plans.c.effective_from <= now,
            or_(plans.c.effective_to.is_(None), plans.c.effective_to > now),
        )
        .order_by(plans.c.version.desc())
        .limit(1)
    )
    return result.one_or_none()


async def plans_of(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[Plan]:
    """The plans of these rows; those of drafts know which of their features are still there."""
    found = [_plan(row) for row in rows]
    keys: dict[str, dict[str, str]] = {}
    for plan in found:
        if plan.effective_from is None and plan.namespace not in keys:
            ids = {
                feature_id
                for draft in found
                if draft.effective_from is None and draft.namespace == plan.namespace
                for feature_id in features_of(draft.phases)
            }
            keys[plan.namespace] = await _keys(connection, plan.namespace, ids)
    return [
        plan
        if plan.effective_from is not None
        else replace(plan, phases=known_features(plan.phases, keys[plan.namespace]))
        for plan in found
    ]


async def with_known_features(connection: AsyncConnection, plan: Plan) -> Plan:
    """The plan with the keys of its features, None where there is no such feature."""
    keys = await _keys(connection, plan.namespace, features_of(plan.phases))
    return replace(plan, phases=known_features(plan.phases, keys))


def values_of(plan: Plan) -> dict[str, Any]:
    """The plan as a row."""
    values = dict(vars(plan))
    return values | {
        "billing_cadence": str(plan.billing_cadence),
        "labels": dict(plan.labels),
        "phases": write_phases(plan.phases),
    }


async def _keys(connection: AsyncConnection, namespace: str, ids: set[str]) -> dict[str, str]:
    if not ids:
        return {}
    rows = await connection.execute(
        select(features.c.id, features.c.key).where(
            features.c.namespace == namespace,
            features.c.deleted_at.is_(None),
            features.c.id.in_(sorted(ids)),
        )
    )
    return {row.id: row.key for row in rows}


def _plan(row: Row[Any]) -> Plan:
    values = dict(row._mapping)
    return Plan(
        **values
        | {
            "billing_cadence": parse_duration(row.billing_cadence),
            "phases": read_phases(row.phases),
        }
    )
