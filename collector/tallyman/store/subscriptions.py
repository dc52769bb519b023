"""Subscriptions as they are kept: made, listed, changed, canceled and deleted, one at a time.

What a change makes of one is `domain/subscription_change.py`'s; what it owes is billing's.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import and_, select, update
from sqlalchemy.exc import IntegrityError
from ulid import ULID

from tallyman.domain.access import LOCAL
from tallyman.domain.subscription import Subscription, SubscriptionStatus, start
from tallyman.domain.subscription_change import (
    Timing,
    cancel,
    change,
    unschedule_cancelation,
)
from tallyman.errors import (
    InvalidInput,
    InvalidParameter,
    SubscriptionNotChangeable,
    named_by,
)
from tallyman.store.audit import record
from tallyman.store.billing_profiles import end_proration_of
from tallyman.store.comparison import Comparison
from tallyman.store.customer_rows import get_customer
from tallyman.store.customer_subjects import portions
from tallyman.store.database import Database
from tallyman.store.new_subscription import NewSubscription, plan_for
from tallyman.store.numbered_page import in_order, rows_of_page
from tallyman.store.plans import PlanStore
from tallyman.store.subscription_rows import (
    add_subscription,
    condition,
    find_row,
    get_subscription,
    lock_subscription,
    refuse_billed,
    refuse_overlap,
    select_subscriptions,
    served_in,
    subscriptions_of,
    taken,
    write_subscription,
)
from tallyman.store.tables import subscriptions

SORTABLE: Final = ("created_at", "updated_at", "active_from", "active_to", "id")


class SubscriptionStore:
    """The subscriptions of every namespace; a customer has one at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._plans = PlanStore(database)

    async def create(
        self, namespace: str, new: NewSubscription, now: datetime, *, by: str = LOCAL
    ) -> Subscription:
        """Begin a subscription.

        Raises:
            NotFound: no such customer or plan.
            Gone: one of them was deleted.
            InvalidInput: the plan is not in force, or its currency is not the customer's.
            Conflict: the customer has another at some moment of it.
        """
        try:
            async with self._database.together(), self._database.writing() as connection:
                with named_by(new.customer_field):
                    customer = await get_customer(connection, namespace, new.customer, lock=True)
                begin = new.active_from or now
                made = start(
                    await plan_for(self._plans, namespace, new.plan, customer, begin, now),
                    subscription_id=str(ULID()),
                    customer_id=customer.id,
                    at=begin,
                    created_at=now,
                    billing_anchor=new.billing_anchor,
                    labels=dict(new.labels or {}),
                )
                made = replace(made, settlement_mode=new.settlement_mode or made.settlement_mode)
                await add_subscription(connection, made, by)
                return made
        except IntegrityError as err:  # another server was first
            raise taken("a subscription") from err

    async def get(self, namespace: str, subscription_id: str) -> Subscription:
        """The subscription with this id.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
        """
        async with self._database.reading() as connection:
            return await get_subscription(connection, namespace, subscription_id)

    async def page(
        self,
        namespace: str,
        where: Sequence[Comparison] = (),
        *,
        now: datetime,
        order_by: str = "created_at",
        descending: bool = False,
        offset: int = 0,
        limit: int | None = 20,
    ) -> tuple[list[Subscription], int]:
        """One page, and how many there are on all pages; deleted ones are left out."""
        wanted = and_(
            subscriptions.c.namespace == namespace,
            subscriptions.c.deleted_at.is_(None),
            *(condition(one, now) for one in where),
        )
        order = in_order(subscriptions.c[order_by], subscriptions.c.id, descending=descending)
        async with self._database.reading() as connection:
            rows, total = await rows_of_page(
                connection, subscriptions, wanted, order, offset, limit
            )
            return await subscriptions_of(connection, rows), total

    async def of_customers(
        self, namespace: str, customer_ids: Collection[str]
    ) -> dict[str, list[Subscription]]:
        """All that each customer has and had, in the order of their times; deleted ones left out."""
        found: dict[str, list[Subscription]] = {customer_id: [] for customer_id in customer_ids}
        async with self._database.reading() as connection:
            for some in portions(customer_ids):
                which = subscriptions.c.customer_id.in_(some)
                for one in await select_subscriptions(connection, namespace, which):
                    found[one.customer_id].append(one)
        return found

    async def served_in(
        self, namespace: str, begin: datetime, end: datetime | None = None
    ) -> list[Subscription]:
        """All that are served at some moment of [begin, end), by customer and time.

        Each has its plan as it was when it was made. `end` None also has those that are to begin.
        """
        async with self._database.reading() as connection:
            return await select_subscriptions(connection, namespace, served_in(begin, end))

    async def namespaces(self) -> list[str]:
        """Those in which anyone has a subscription."""
        async with self._database.reading() as connection:
            rows = await connection.execute(
                select(subscriptions.c.namespace).distinct().order_by(subscriptions.c.namespace)
            )
            return list(rows.scalars())

    async def cancel(
        self,
        namespace: str,
        subscription_id: str,
        timing: Timing,
        now: datetime,
        *,
        by: str = LOCAL,
    ) -> Subscription:
        """End it then.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
            SubscriptionNotChangeable: it is not active.
            InvalidInput: the time is in the past.
        """
        async with self._database.writing() as connection:
            before = await lock_subscription(connection, namespace, subscription_id)
            proration = await end_proration_of(connection, namespace, before.customer_id)
            after = cancel(before, timing, now, proration)
            return await write_subscription(connection, after, "canceled", by)

    async def unschedule_cancelation(
        self, namespace: str, subscription_id: str, now: datetime, *, by: str = LOCAL
    ) -> Subscription:
        """Go on as if it had not been canceled.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
            SubscriptionNotChangeable: it is not canceled, or has ended.
            Conflict: another of the customer's begins later.
        """
        async with self._database.writing() as connection:
            before = await lock_subscription(connection, namespace, subscription_id)
            after = unschedule_cancelation(before, now)
            await refuse_overlap(connection, after)
            return await write_subscription(connection, after, "continued", by)

    async def change(
        self,
        namespace: str,
        subscription_id: str,
        new: NewSubscription,
        timing: Timing,
        now: datetime,
        *,
        by: str = LOCAL,
    ) -> tuple[Subscription, Subscription]:
        """End it and go on with another plan at the same moment: (the one that ends, the next).

        `new.active_from` is not heeded: `timing` says when.

        Raises:
            NotFound: no such subscription, customer or plan.
            Gone: one of them was deleted.
            SubscriptionNotChangeable: it is not active.
            InvalidInput: the time is in the past, the plan not in force, or the customer another.
        """
        async with self._database.together(), self._database.writing() as connection:
            before = await lock_subscription(connection, namespace, subscription_id)
            with named_by(new.customer_field):
                customer = await get_customer(connection, namespace, new.customer)
            if customer.id != before.customer_id:
                reason = f"must be the subscription's own, {before.customer_id}"
                parameter = InvalidParameter("customer", "invalid", reason)
                raise InvalidInput(f"customer {reason}", [parameter])
            ended, begun = change(
                before,
                await plan_for(self._plans, namespace, new.plan, customer, now, now),
                timing,
                now,
                next_id=str(ULID()),
                billing_anchor=new.billing_anchor,
                end_proration=await end_proration_of(connection, namespace, before.customer_id),
            )
            begun = replace(
                begun,
                labels=begun.labels if new.labels is None else dict(new.labels),
                settlement_mode=new.settlement_mode or begun.settlement_mode,
            )
            await write_subscription(connection, ended, "changed", by)
            await add_subscription(connection, begun, by)
            return ended, begun

    async def delete(
        self, namespace: str, subscription_id: str, now: datetime, *, by: str = LOCAL
    ) -> None:
        """Delete one that has not begun.

        Raises:
            NotFound: there is none.
            Gone: it was deleted before.
            SubscriptionNotChangeable: it has begun: cancel it.
            Conflict: it was billed ahead of time, and that invoice stands.
        """
        async with self._database.writing() as connection:
            before = await lock_subscription(connection, namespace, subscription_id)
            if (status := before.status_at(now)) is not SubscriptionStatus.SCHEDULED:
                raise SubscriptionNotChangeable(
                    f"subscription {subscription_id} is {status}: only one that has not begun can "
                    "be deleted; cancel it"
                )
            await refuse_billed(connection, subscription_id)
            row = await find_row(connection, namespace, subscription_id)
            await connection.execute(
                update(subscriptions)
                .where(subscriptions.c.id == subscription_id)
                .values(deleted_at=now, updated_at=now)
            )
            await record(connection, by, "deleted", "subscription", row, None)
