"""Which of Stripe's customers is which of ours, as it is kept.

Making one there is `payments/`'s.
"""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.access import LOCAL
from tallyman.domain.customer import Customer
from tallyman.errors import Conflict, InvalidParameter
from tallyman.store.audit import AuditEntry, record_document
from tallyman.store.database import Database, upsert
from tallyman.store.tables import customers, stripe_customers


@dataclass(frozen=True)
class StripeCustomer:
    """`attempted_at` is when this generation's was first asked for; `stripe_id` None: not known."""

    customer_id: str
    namespace: str
    stripe_id: str | None = None
    default_payment_method_id: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    generation: int = 0
    attempted_at: datetime | None = None


class StripeCustomerStore:
    """The links of every namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, namespace: str, customer_id: str) -> StripeCustomer:
        """The link, or one that says nothing yet."""
        statement = select(stripe_customers).where(
            stripe_customers.c.namespace == namespace,
            stripe_customers.c.customer_id == customer_id,
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return StripeCustomer(customer_id, namespace) if row is None else _link(row)

    async def put(self, link: StripeCustomer, now: datetime, *, by: str = LOCAL) -> None:
        """Keep the link; a change of what it links to is in the audit log.

        Raises:
            Conflict: Stripe's customer is another one's already.
        """
        values = asdict(link)
        try:
            async with self._database.writing() as connection:
                where = stripe_customers.c.customer_id == link.customer_id
                before = (
                    await connection.execute(select(stripe_customers).where(where))
                ).one_or_none()
                fresh = upsert(connection, stripe_customers).values(
                    **values, created_at=now, updated_at=now
                )
                await connection.execute(
                    fresh.on_conflict_do_nothing(index_elements=["customer_id"])
                )
                await connection.execute(
                    update(stripe_customers).where(where).values(**values, updated_at=now)
                )
                was = StripeCustomer(link.customer_id, link.namespace)
                if before is not None:
                    was = _link(before)
                if _shown(was) != _shown(link):
                    await record_document(
                        connection,
                        AuditEntry(
                            namespace=link.namespace,
                            at=now,
                            actor=by,
                            action="linked",
                            entity="customer",
                            entity_id=link.customer_id,
                            before=_shown(was),
                            after=_shown(link),
                        ),
                    )
        except IntegrityError as err:
            reason = f"another customer has {link.stripe_id}"
            at = InvalidParameter("stripe.customer_id", "invalid", reason)
            raise Conflict(reason, [at]) from err

    async def hint(self, namespace: str, stripe_id: str, now: datetime) -> bool:
        """Look at which way to pay the customer has left; False if it is none of ours."""
        table = stripe_customers.c
        async with self._database.writing() as connection:
            changed = await connection.execute(
                update(stripe_customers)
                .where(table.namespace == namespace, table.stripe_id == stripe_id)
                .values(look_at=now)
            )
            return bool(changed.rowcount)

    async def hinted(
        self, namespace: str, now: datetime, limit: int
    ) -> list[tuple[StripeCustomer, datetime]]:
        """The links that were hinted at, each with when, what waits longest first."""
        table = stripe_customers.c
        statement = (
            select(stripe_customers)
            .where(table.namespace == namespace, table.look_at <= now)
            .order_by(table.look_at)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            return [(_link(row), row.look_at) for row in await connection.execute(statement)]

    async def looked(
        self, link: StripeCustomer, at: datetime, again_at: datetime | None = None
    ) -> None:
        """Forget a hint of that time, or put it off; a later one stays."""
        table = stripe_customers.c
        async with self._database.writing() as connection:
            await connection.execute(
                update(stripe_customers)
                .where(table.customer_id == link.customer_id, table.look_at == at)
                .values(look_at=again_at)
            )

    async def tell_if_changed(self, customer: Customer, now: datetime) -> None:
        """Have Stripe told what the customer is called now, if it was changed since it was like this."""
        changed = select(customers.c.id).where(
            customers.c.id == customer.id, customers.c.updated_at > customer.updated_at
        )
        async with self._database.writing() as connection:
            await connection.execute(
                update(stripe_customers)
                .where(stripe_customers.c.customer_id.in_(changed))
                .values(tell_at=now)
            )

    async def to_be_told(
        self, namespace: str, now: datetime, limit: int
    ) -> list[tuple[StripeCustomer, datetime]]:
        """Those at Stripe that were changed here, each with when, what waits longest first."""
        table = stripe_customers.c
        statement = (
            select(stripe_customers)
            .where(table.namespace == namespace, table.stripe_id.is_not(None), table.tell_at <= now)
            .order_by(table.tell_at)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            return [(_link(row), row.tell_at) for row in await connection.execute(statement)]

    async def told(
        self, link: StripeCustomer, at: datetime, again_at: datetime | None = None
    ) -> None:
        """Stripe knows a change of that time, or is told later; one that came meanwhile stays."""
        table = stripe_customers.c
        async with self._database.writing() as connection:
            await connection.execute(
                update(stripe_customers)
                .where(table.customer_id == link.customer_id, table.tell_at == at)
                .values(tell_at=again_at)
            )


async def tell_change(connection: AsyncConnection, customer_id: str, now: datetime) -> None:
    """Have Stripe told of a change of the customer, if it is there or about to be."""
    await connection.execute(
        update(stripe_customers)
        .where(stripe_customers.c.customer_id == customer_id)
        .values(tell_at=now)
    )


def _shown(link: StripeCustomer) -> dict[str, Any]:
    return {
        "stripe": {
            "customer_id": link.stripe_id,
            "default_payment_method_id": link.default_payment_method_id,
            "labels": link.labels,
        }
    }


def _link(row: Row[Any]) -> StripeCustomer:
    return StripeCustomer(
        **{name: getattr(row, name) for name in StripeCustomer.__dataclass_fields__}
    )
