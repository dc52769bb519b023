"""The rows of customers: read, filtered, and shown in the audit log.

Who makes and changes them is `customers.py`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.customer import Address, Customer
from tallyman.errors import Conflict, Gone, InvalidParameter, NotFound
from tallyman.store.audit import AuditEntry, record_document
from tallyman.store.comparison import Comparison, condition_of
from tallyman.store.customer_subjects import current_subjects
from tallyman.store.tables import customer_subjects, customers, plans, subscriptions

COLUMNS: Final = ("key", "name", "primary_email", "billing_profile_id")
SUBJECT_KEY: Final = "usage_attribution_subject_key"
PLAN_KEY: Final = "plan_key"
CURRENCY_IN_USE: Final = "customer_currency_differs_from_subscription"


def unended(now: datetime) -> ColumnElement[bool]:
    """Subscriptions that are served now, or are to be."""
    return and_(
        subscriptions.c.deleted_at.is_(None),
        or_(subscriptions.c.active_to.is_(None), subscriptions.c.active_to > now),
    )


async def get_customer(
    connection: AsyncConnection, namespace: str, id_or_key: str, *, lock: bool = False
) -> Customer:
    """The customer with this id or key; a locked one stays so until the transaction ends.

    Raises:
        NotFound: there is none.
        Gone: it was deleted.
    """
    statement = (
        select(customers)
        .where(
            customers.c.namespace == namespace,
            or_(customers.c.id == id_or_key, customers.c.key == id_or_key),
        )
        .order_by(
            customers.c.deleted_at.is_not(None),
            customers.c.id != id_or_key,
            customers.c.deleted_at.desc(),
        )
        .limit(1)
    )
    row = (await connection.execute(statement.with_for_update() if lock else statement)).first()
    if row is None:
        raise NotFound(f"no customer has the id or key {id_or_key}")
    if row.deleted_at is not None:
        raise Gone(f"the customer {id_or_key} was deleted")
    [found] = await customers_of(connection, [row])
    return found


async def customers_of(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[Customer]:
    """The customers of the rows; a deleted one has the subjects that it had."""
    subjects = await current_subjects(connection, [row.id for row in rows])
    return [_customer(row, subjects.get(row.id, ())) for row in rows]


async def refuse_taken_key(connection: AsyncConnection, wanted: Customer) -> None:
    """Raises Conflict where another customer has the key."""
    taken = await connection.execute(
        select(customers.c.id).where(
            customers.c.namespace == wanted.namespace,
            customers.c.key == wanted.key,
            customers.c.deleted_at.is_(None),
        )
    )
    if taken.first() is not None:
        reason = f"is taken: another customer has the key {wanted.key}"
        raise Conflict(f"key {reason}", [InvalidParameter("key", "invalid", reason)])


async def refuse_other_currency(
    connection: AsyncConnection, before: Customer, after: Customer, now: datetime
) -> None:
    """Raises Conflict where a subscription that has not ended is in another currency than `after`."""
    if after.currency in (None, before.currency):
        return
    running = await connection.execute(
        select(subscriptions.c.id, plans.c.currency)
        .join(plans, plans.c.id == subscriptions.c.plan_id)
        .where(
            subscriptions.c.customer_id == before.id,
            plans.c.currency != after.currency,
            unended(now),
        )
        .limit(1)
    )
    if (row := running.one_or_none()) is not None:
        reason = f"cannot be {after.currency}: the subscription {row.id} is in {row.currency}"
        parameter = InvalidParameter("currency", "invalid", reason)
        raise Conflict(f"currency {reason}", [parameter], code=CURRENCY_IN_USE)


def condition(comparison: Comparison, now: datetime) -> ColumnElement[bool]:
    """A filter of the list of customers; `plan_key` is that of the subscription at `now`."""
    if comparison.column in COLUMNS:
        return condition_of(customers.c[comparison.column], comparison)
    if comparison.column == SUBJECT_KEY:
        column = customer_subjects.c.subject
        has = exists().where(
            customer_subjects.c.customer_id == customers.c.id,
            customer_subjects.c.released_at.is_(None),
        )
    else:
        column = subscriptions.c.plan_key
        has = exists().where(
            subscriptions.c.customer_id == customers.c.id,
            subscriptions.c.active_from <= now,
            unended(now),
        )
    match comparison.operator:
        case "neq":  # none of several is it
            return ~has.where(column.in_(comparison.values))
        case "exists":
            return has if comparison.values[0] == "true" else ~has
        case _:
            return has.where(condition_of(column, comparison))


def changeable_values(customer: Customer) -> dict[str, Any]:
    """What can be changed."""
    address = customer.billing_address
    return {
        "name": customer.name,
        "description": customer.description,
        "labels": dict(customer.labels),
        "primary_email": customer.primary_email,
        "currency": customer.currency,
        "billing_address": None if address is None else asdict(address),
        "updated_at": customer.updated_at,
    }


async def record_customer(
    connection: AsyncConnection,
    by: str,
    action: str,
    before: Customer | None,
    after: Customer | None,
    now: datetime,
) -> None:
    """Put what became of a customer into the audit log."""
    [customer, *_] = [one for one in (after, before) if one is not None]
    entry = AuditEntry(
        namespace=customer.namespace,
        at=now,
        actor=by,
        action=action,
        entity="customer",
        entity_id=customer.id,
        before=None if before is None else asdict(before),
        after=None if after is None else asdict(after),
    )
    await record_document(connection, entry)


def _customer(row: Row[Any], subject_keys: tuple[str, ...]) -> Customer:
    return Customer(
        id=row.id,
        namespace=row.namespace,
        key=row.key,
        name=row.name,
        created_at=row.created_at,
        updated_at=row.updated_at,
        subject_keys=subject_keys,
        primary_email=row.primary_email,
        currency=row.currency,
        billing_address=None if row.billing_address is None else Address(**row.billing_address),
        billing_profile_id=row.billing_profile_id,
        description=row.description,
        labels=dict(row.labels),
        deleted_at=row.deleted_at,
    )
