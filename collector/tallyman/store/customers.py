"""Customers as they are kept: made, read, listed, changed and deleted.

Whose usage a subject's is, is `customer_subjects.py`'s; what they pay `subscriptions.py`'s.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import and_, select, update
from sqlalchemy.exc import IntegrityError
from ulid import ULID

from tallyman.domain.access import LOCAL
from tallyman.domain.attribution import Owner
from tallyman.domain.customer import Address, Customer, SubjectSpan
from tallyman.errors import Conflict
from tallyman.store import customer_subjects
from tallyman.store.comparison import Comparison
from tallyman.store.customer_rows import (
    changeable_values,
    condition,
    customers_of,
    get_customer,
    record_customer,
    refuse_other_currency,
    refuse_taken_key,
    unended,
)
from tallyman.store.customer_subjects import portions
from tallyman.store.database import Database
from tallyman.store.numbered_page import in_order, rows_of_page
from tallyman.store.stripe_customers import tell_change
from tallyman.store.tables import customers, subscriptions

SORTABLE: Final = ("created_at", "updated_at", "key", "name")


@dataclass(frozen=True)
class CustomerChange:
    """What a customer is from now on; what is None is no more."""

    name: str
    subject_keys: tuple[str, ...] = ()
    primary_email: str | None = None
    currency: str | None = None
    billing_address: Address | None = None
    description: str | None = None
    labels: Mapping[str, str] | None = None


class CustomerStore:
    """The customers of every namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, customer: Customer, *, by: str = LOCAL) -> Customer:
        """Keep a new customer, under a new id.

        Raises:
            Conflict: another has the key, or one of the subjects; names the field.
        """
        made = replace(customer, id=str(ULID()))
        values = changeable_values(made) | {"id": made.id, "key": made.key}
        values |= {"namespace": made.namespace, "created_at": made.created_at}
        try:
            async with self._database.writing() as connection:
                await refuse_taken_key(connection, made)
                await connection.execute(customers.insert().values(values))
                await customer_subjects.claim(connection, made, (), made.created_at)
                await record_customer(connection, by, "created", None, made, made.created_at)
                return made
        except IntegrityError as err:  # another server was first
            raise Conflict("another customer has the key or a subject") from err

    async def get(self, namespace: str, id_or_key: str) -> Customer:
        """The customer with this id, or with this key.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
        """
        async with self._database.reading() as connection:
            return await get_customer(connection, namespace, id_or_key)

    async def page(
        self,
        namespace: str,
        where: Sequence[Comparison] = (),
        *,
        now: datetime,
        order_by: str = "created_at",
        descending: bool = False,
        offset: int = 0,
        limit: int = 20,
    ) -> tuple[list[Customer], int]:
        """One page, and how many there are on all pages; deleted ones are left out.

        `plan_key` is that of the subscription at `now`.
        """
        wanted = and_(
            customers.c.namespace == namespace,
            customers.c.deleted_at.is_(None),
            *(condition(one, now) for one in where),
        )
        order = in_order(customers.c[order_by], customers.c.id, descending=descending)
        async with self._database.reading() as connection:
            rows, total = await rows_of_page(connection, customers, wanted, order, offset, limit)
            return await customers_of(connection, rows), total

    async def every(self, namespace: str | None = None) -> list[Customer]:
        """All that are not deleted, of one namespace or of all."""
        mine = [] if namespace is None else [customers.c.namespace == namespace]
        statement = select(customers).where(customers.c.deleted_at.is_(None), *mine)
        async with self._database.reading() as connection:
            rows = (await connection.execute(statement.order_by(customers.c.id))).all()
            return await customers_of(connection, rows)

    async def replace(
        self,
        namespace: str,
        id_or_key: str,
        change: CustomerChange,
        now: datetime,
        *,
        by: str = LOCAL,
    ) -> Customer:
        """Put the customer anew; its key stays.

        A subject that it no longer has is free from `now` on; what was used before stays its own.

        Raises:
            NotFound: there is none.
            Gone: it was deleted.
            Conflict: another has one of the subjects; names it. Or a subscription that has not ended
                is in another currency than the customer would be.
        """
        try:
            async with self._database.writing() as connection:
                before = await get_customer(connection, namespace, id_or_key, lock=True)
                changed = vars(change) | {"labels": dict(change.labels or {})}
                after = replace(before, **changed, updated_at=now)
                if replace(after, updated_at=before.updated_at) == before:
                    return before
                await refuse_other_currency(connection, before, after, now)
                await connection.execute(
                    update(customers)
                    .where(customers.c.id == before.id)
                    .values(changeable_values(after))
                )
                await customer_subjects.claim(connection, after, before.subject_keys, now)
                await record_customer(connection, by, "changed", before, after, now)
                if _called(after) != _called(before):
                    await tell_change(connection, after.id, now)
                return after
        except IntegrityError as err:
            raise Conflict("another customer has one of the subjects") from err

    async def bill_by(
        self,
        namespace: str,
        id_or_key: str,
        billing_profile_id: str | None,
        now: datetime,
        *,
        by: str = LOCAL,
    ) -> Customer:
        """Bill the customer by this profile from its next invoice on, or by the default one.

        Raises:
            NotFound: there is no such customer.
            Gone: it was deleted.
        """
        async with self._database.writing() as connection:
            before = await get_customer(connection, namespace, id_or_key, lock=True)
            if before.billing_profile_id == billing_profile_id:
                return before
            after = replace(before, billing_profile_id=billing_profile_id, updated_at=now)
            await connection.execute(
                update(customers)
                .where(customers.c.id == before.id)
                .values(billing_profile_id=billing_profile_id, updated_at=now)
            )
            await record_customer(connection, by, "changed", before, after, now)
            return after

    async def delete(
        self, namespace: str, id_or_key: str, now: datetime, *, by: str = LOCAL
    ) -> None:
        """Delete a customer; its key and subjects are free, its invoices stay.

        Raises:
            NotFound: there is none.
            Gone: it was deleted before.
            Conflict: it has a subscription that has not ended.
        """
        async with self._database.writing() as connection:
            before = await get_customer(connection, namespace, id_or_key, lock=True)
            running = select(subscriptions.c.id).where(
                subscriptions.c.customer_id == before.id, unended(now)
            )
            if found := (await connection.execute(running)).scalars().all():
                raise Conflict(
                    f"customer {before.key} has the subscription {', '.join(found)}: cancel it first",
                    code="deleting_customer_with_active_subscriptions",
                )
            await connection.execute(
                update(customers)
                .where(customers.c.id == before.id)
                .values(deleted_at=now, updated_at=now)
            )
            await customer_subjects.release(connection, before.id, now)
            await record_customer(connection, by, "deleted", before, None, now)

    async def with_ids(self, namespace: str, ids: Iterable[str]) -> list[Customer]:
        """Those of the ids that there are, deleted ones too: their usage is still theirs."""
        found: list[Customer] = []
        async with self._database.reading() as connection:
            for some in portions(ids):
                rows = await connection.execute(
                    select(customers).where(
                        customers.c.namespace == namespace, customers.c.id.in_(some)
                    )
                )
                found += await customers_of(connection, rows.all())
        return found

    async def spans(
        self, ids: Iterable[str], as_of: datetime | None = None
    ) -> dict[str, tuple[SubjectSpan, ...]]:
        """The subjects whose usage each customer pays, and in which times; absent: it has none.

        With `as_of`, as it was known then: a claim that was made later is not there, and what was
        released later is not yet.
        """
        async with self._database.reading() as connection:
            return await customer_subjects.spans_of(connection, ids, as_of)

    async def last_claims(self, ids: Iterable[str]) -> dict[str, datetime]:
        """When each customer was last given a subject; absent: never."""
        async with self._database.reading() as connection:
            return await customer_subjects.last_claims_of(connection, ids)

    async def every_owner(
        self, namespace: str, ids: Collection[str] | None = None
    ) -> tuple[Owner, ...]:
        """Whose usage the subjects of these customers of the namespace are and were, or of all."""
        mine = select(customers.c.id).where(customers.c.namespace == namespace)
        found: list[str] = []
        async with self._database.reading() as connection:
            if ids is None:
                found += (await connection.execute(mine)).scalars()
            else:
                for some in portions(ids):
                    which = mine.where(customers.c.id.in_(some))
                    found += (await connection.execute(which)).scalars()
            spans = await customer_subjects.spans_of(connection, found, None)
        return tuple((id_, span) for id_, theirs in spans.items() for span in theirs)

    async def owners(
        self, namespace: str, subjects: Iterable[str]
    ) -> dict[str, list[tuple[str, SubjectSpan]]]:
        """Whose usage of each subject is, and was: (customer id, span); absent is nobody's, ever."""
        found: dict[str, list[tuple[str, SubjectSpan]]] = {}
        async with self._database.reading() as connection:
            for owner in await customer_subjects.owners_of(connection, namespace, subjects):
                found.setdefault(owner[1].subject, []).append(owner)
        return found

    async def of_subjects(self, namespace: str, subjects: Iterable[str]) -> dict[str, str]:
        """The id of the customer that each subject belongs to now; absent are those of nobody."""
        return {
            subject: customer_id
            for subject, owners in (await self.owners(namespace, subjects)).items()
            for customer_id, span in owners
            if span.to is None
        }


def _called(customer: Customer) -> tuple[object, ...]:
    """What whoever collects payments mails and prints."""
    return customer.name, customer.primary_email, customer.billing_address
