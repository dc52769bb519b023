"""Rows of subscriptions: found, read as values, written, and the conditions of lists.

What happens to a subscription is `subscriptions.py`'s.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, case, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.invoice_state import InvoiceState
from tallyman.domain.plan import Plan
from tallyman.domain.service_period import EndProration
from tallyman.domain.subscription import Subscription, SubscriptionStatus, start
from tallyman.errors import Conflict, Gone, InvalidParameter, NotFound
from tallyman.store.audit import record
from tallyman.store.billing_progress import look_again_from
from tallyman.store.comparison import Comparison, condition_of
from tallyman.store.customer_rows import get_customer, unended
from tallyman.store.customer_subjects import portions
from tallyman.store.plan_rows import plans_of
from tallyman.store.tables import invoice_lines, invoices, plans, subscriptions

FILTERED: Final = ("id", "customer_id", "status", "plan_id", "plan_key")
ONE_AT_A_TIME: Final = "only_single_subscription_allowed_per_customer_at_a_time"


def condition(one: Comparison, now: datetime) -> ColumnElement[bool]:
    """The condition of a list; the status is that of the moment."""
    if one.column == "status":
        return condition_of(_status(now), one)
    return condition_of(subscriptions.c[one.column], one)


def served_in(begin: datetime, end: datetime | None) -> ColumnElement[bool]:
    """Subscriptions that are served at some moment of [begin, end); `end` None is never."""
    begins_before = [] if end is None else [subscriptions.c.active_from < end]
    is_served = or_(
        subscriptions.c.active_to.is_(None),
        subscriptions.c.active_to > subscriptions.c.active_from,
    )
    return and_(unended(begin), is_served, *begins_before)


async def subscriptions_of(
    connection: AsyncConnection, rows: Sequence[Row[Any]]
) -> list[Subscription]:
    """The subscriptions of these rows, laid out from the plan versions they were made of."""
    found = await _plans(connection, {row.plan_id for row in rows})
    return [_subscription(row, found[row.plan_id]) for row in rows]


async def select_subscriptions(
    connection: AsyncConnection, namespace: str, *where: ColumnElement[bool]
) -> list[Subscription]:
    """Those that are not deleted, by customer and time."""
    statement = (
        select(subscriptions)
        .where(subscriptions.c.namespace == namespace, subscriptions.c.deleted_at.is_(None), *where)
        .order_by(
            subscriptions.c.customer_id, subscriptions.c.active_from, subscriptions.c.created_at
        )
    )
    return await subscriptions_of(connection, (await connection.execute(statement)).all())


async def find_row(connection: AsyncConnection, namespace: str, subscription_id: str) -> Row[Any]:
    """The row with this id.

    Raises:
        NotFound: there is none.
        Gone: it was deleted.
    """
    row = (
        await connection.execute(
            select(subscriptions).where(
                subscriptions.c.namespace == namespace, subscriptions.c.id == subscription_id
            )
        )
    ).one_or_none()
    if row is None:
        raise NotFound(f"no subscription has the id {subscription_id}")
    if row.deleted_at is not None:
        raise Gone(f"the subscription {subscription_id} was deleted")
    return row


async def get_subscription(
    connection: AsyncConnection, namespace: str, subscription_id: str
) -> Subscription:
    """The subscription with this id; raises as `find_row` does."""
    row = await find_row(connection, namespace, subscription_id)
    return (await subscriptions_of(connection, [row]))[0]


async def lock_subscription(
    connection: AsyncConnection, namespace: str, subscription_id: str
) -> Subscription:
    """The subscription, read when no other change of its customer's is under way."""
    row = await find_row(connection, namespace, subscription_id)
    await get_customer(connection, namespace, row.customer_id, lock=True)
    return await get_subscription(connection, namespace, subscription_id)


def values_of(subscription: Subscription) -> dict[str, Any]:
    """The subscription as a row."""
    return {
        "id": subscription.id,
        "namespace": subscription.namespace,
        "customer_id": subscription.customer_id,
        "plan_id": subscription.plan_id,
        "plan_key": subscription.plan_key,
        "billing_anchor": subscription.billing_anchor,
        "active_from": subscription.active_from,
        "active_to": subscription.active_to,
        "settlement_mode": subscription.settlement_mode,
        "labels": dict(subscription.labels),
        "created_at": subscription.created_at,
        "updated_at": subscription.updated_at,
        "deleted_at": subscription.deleted_at,
        "end_proration": subscription.end_proration,
    }


async def add_subscription(connection: AsyncConnection, made: Subscription, by: str) -> None:
    """Keep a new one; raises as `refuse_overlap` does."""
    await refuse_overlap(connection, made)
    await connection.execute(subscriptions.insert().values(values_of(made)))
    row = await find_row(connection, made.namespace, made.id)
    await record(connection, by, "created", "subscription", None, row)


async def write_subscription(
    connection: AsyncConnection, changed: Subscription, action: str, by: str
) -> Subscription:
    """Keep when it ends; what was billed ahead is looked at again, since more or less may be due."""
    before = await find_row(connection, changed.namespace, changed.id)
    await connection.execute(
        update(subscriptions)
        .where(subscriptions.c.id == changed.id)
        .values(
            active_to=changed.active_to,
            end_proration=changed.end_proration,
            updated_at=changed.updated_at,
        )
    )
    await look_again_from(connection, changed.id, changed.updated_at)
    after = await find_row(connection, changed.namespace, changed.id)
    await record(connection, by, action, "subscription", before, after)
    return changed


async def refuse_overlap(connection: AsyncConnection, wanted: Subscription) -> None:
    """Raises Conflict where the customer has another at some of its time."""
    others = await connection.execute(
        select(subscriptions.c.id).where(
            subscriptions.c.customer_id == wanted.customer_id,
            subscriptions.c.id != wanted.id,
            served_in(wanted.active_from, wanted.active_to),
        )
    )
    if (other := others.scalars().first()) is not None:
        raise taken(f"the subscription {other}")


async def refuse_billed(connection: AsyncConnection, subscription_id: str) -> None:
    """Raises Conflict where an invoice has lines of it, other than one that is void or deleted."""
    void = (InvoiceState.VOIDED.value, InvoiceState.DELETED.value)
    numbers = await connection.execute(
        select(invoices.c.number)
        .join(invoice_lines, invoice_lines.c.invoice_id == invoices.c.id)
        .join(subscriptions, subscriptions.c.customer_id == invoice_lines.c.customer_id)
        .where(
            subscriptions.c.id == subscription_id,
            invoice_lines.c.subscription_id == subscription_id,
            not_(invoice_lines.c.freed),
            invoices.c.state.not_in(void),
        )
        .limit(1)
    )
    if (number := numbers.scalars().first()) is not None:
        raise Conflict(
            f"subscription {subscription_id} is on the invoice {number}, ahead of time: void that "
            "first, or delete it if it is a draft"
        )


def taken(other: str) -> Conflict:
    """The refusal of a second subscription at a time."""
    reason = f"has {other} at some of that time: change or cancel that one"
    return Conflict(
        f"the customer {reason}",
        [InvalidParameter("customer", "invalid", reason)],
        code=ONE_AT_A_TIME,
    )


async def _plans(connection: AsyncConnection, ids: set[str]) -> dict[str, Plan]:
    """Deleted ones too: subscriptions to them go on."""
    found: dict[str, Plan] = {}
    for some in portions(ids):
        rows = (await connection.execute(select(plans).where(plans.c.id.in_(some)))).all()
        found |= {plan.id: plan for plan in await plans_of(connection, rows)}
    return found


def _subscription(row: Row[Any], plan: Plan) -> Subscription:
    laid_out = start(
        plan,
        subscription_id=row.id,
        customer_id=row.customer_id,
        at=row.active_from,
        created_at=row.created_at,
        billing_anchor=row.billing_anchor,
        labels=dict(row.labels),
    )
    return replace(
        laid_out,
        active_to=row.active_to,
        settlement_mode=row.settlement_mode,
        updated_at=row.updated_at,
        deleted_at=row.deleted_at,
        end_proration=None if row.end_proration is None else EndProration(row.end_proration),
    )


def _status(now: datetime) -> ColumnElement[str]:
    """`Subscription.status_at` as SQL."""
    return case(
        (subscriptions.c.active_from > now, SubscriptionStatus.SCHEDULED.value),
        (subscriptions.c.active_to.is_(None), SubscriptionStatus.ACTIVE.value),
        (subscriptions.c.active_to > now, SubscriptionStatus.CANCELED.value),
        else_=SubscriptionStatus.INACTIVE.value,
    )
