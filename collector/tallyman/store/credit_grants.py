"""Credit grants, as they are made, voided, settled and read.

What is left of them is the ledger's: `credit_ledger.py`.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import and_, false, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.access import LOCAL
from tallyman.domain.burn_down import taken_from
from tallyman.domain.credit import CreditGrant, GrantKind, GrantStatus, SettlementStatus
from tallyman.domain.credit_ledger import CreditAccount, adjusted, funded
from tallyman.domain.money import from_minor_units, total, written
from tallyman.errors import Conflict, InvalidParameter, NotFound
from tallyman.store.audit import AuditEntry, record, record_document
from tallyman.store.comparison import Comparison, condition_of
from tallyman.store.credit_ledger import available_minor, book, end
from tallyman.store.credit_rows import grant_of, grant_values
from tallyman.store.credit_selection import GrantLeft, grants_of, has_status, held_minor
from tallyman.store.database import Database
from tallyman.store.invoice_numbers import lock_numbers
from tallyman.store.numbered_page import in_order, rows_of_page
from tallyman.store.tables import credit_grants, credit_transactions

_G = credit_grants.c


class CreditGrantStore:
    """The grants of every namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, grant: CreditGrant, now: datetime, *, by: str = LOCAL) -> CreditGrant:
        """Keep a new grant; it is booked at once if it is in effect.

        Raises:
            Conflict: the customer has one with this key.
        """
        try:
            async with self._database.writing() as connection:
                await lock_numbers(connection, grant.namespace)
                await _refuse_known_key(connection, grant)
                await connection.execute(credit_grants.insert().values(grant_values(grant)))
                await record(
                    connection, by, "created", "credit_grant", None,
                    await _row(connection, grant.id),
                )  # fmt: skip
                if grant.status_at(now) is GrantStatus.ACTIVE:
                    await book(connection, [funded(grant, now)])
                return grant
        except IntegrityError as err:  # another server was first
            raise _known_key() from err

    async def get(self, namespace: str, customer_id: str, grant_id: str) -> CreditGrant:
        """One grant.

        Raises:
            NotFound: there is none.
        """
        async with self._database.reading() as connection:
            return grant_of(await _mine(connection, namespace, customer_id, grant_id))

    async def page(
        self,
        customer_id: str,
        where: Sequence[Comparison] = (),
        statuses: Collection[str] | None = None,
        *,
        now: datetime,
        descending: bool = False,
        offset: int = 0,
        limit: int = 20,
    ) -> tuple[list[CreditGrant], int]:
        """One page, by their age, and how many there are on all pages."""
        wanted = and_(
            _G.customer_id == customer_id,
            _G.kind != str(GrantKind.ADJUSTMENT),
            *(condition_of(_G[one.column], one) for one in where),
            *(
                []
                if statuses is None
                else [or_(false(), *(has_status(one, now) for one in statuses))]
            ),
        )
        order = in_order(_G.created_at, _G.id, descending=descending)
        async with self._database.reading() as connection:
            rows, total = await rows_of_page(
                connection, credit_grants, wanted, order, offset, limit
            )
            return [grant_of(row) for row in rows], total

    async def void(
        self, namespace: str, customer_id: str, grant_id: str, now: datetime, *, by: str = LOCAL
    ) -> CreditGrant:
        """Take what is left of a grant out of use; what is used stays used.

        Raises:
            NotFound: there is none.
            Conflict: it is voided or expired already.
        """
        async with self._database.writing() as connection:
            await lock_numbers(connection, namespace)
            before = await _mine(connection, namespace, customer_id, grant_id)
            grant = grant_of(before)
            status = grant.status_at(now)
            if status in (GrantStatus.VOIDED, GrantStatus.EXPIRED):
                raise Conflict(f"the grant is {status} already")
            if status is GrantStatus.ACTIVE:
                await book(connection, [funded(grant, now)])
            await end(connection, [grant], now, CreditAccount.VOIDED)
            after = await _change(connection, replace(grant, voided_at=now, updated_at=now))
            await record(connection, by, "voided", "credit_grant", before, after)
            return grant_of(after)

    async def settle(
        self,
        namespace: str,
        customer_id: str,
        grant_id: str,
        status: SettlementStatus,
        now: datetime,
        *,
        by: str = LOCAL,
    ) -> CreditGrant:
        """Take down how far the payment is; one that waited for it takes effect now.

        Raises:
            NotFound: there is none.
            Conflict: nothing is paid for it, it is voided, or a later status was reached.
        """
        async with self._database.writing() as connection:
            await lock_numbers(connection, namespace)
            before = await _mine(connection, namespace, customer_id, grant_id)
            grant = grant_of(before)
            changed = _settled(grant, status, now)
            after = await _change(connection, changed)
            if changed.status_at(now) is GrantStatus.ACTIVE:
                await book(connection, [funded(changed, now)])
            if changed != grant:
                await record(connection, by, "settled", "credit_grant", before, after)
            return grant_of(after)

    async def turn(
        self,
        namespace: str,
        begun: Sequence[CreditGrant],
        over: Sequence[CreditGrant],
        now: datetime,
    ) -> None:
        """Book grants that have taken effect, and what is left of grants that have expired."""
        async with self._database.writing() as connection:
            await lock_numbers(connection, namespace)
            still = {one.id for one in await grants_of(connection, [x.customer_id for x in begun])
                     if one.voided_at is None}  # fmt: skip
            await book(connection, [funded(one, now) for one in begun if one.id in still])
            await end(connection, over, now, CreditAccount.EXPIRED)

    async def adjust(self, grant: CreditGrant, now: datetime, *, by: str = LOCAL) -> CreditGrant:
        """Give or take credit: a grant that is in effect now; or, of less than zero, what is taken
        from the customer's grants in the order that they are used in.

        Raises:
            Conflict: there is not so much to be taken.
        """
        if grant.amount > 0:
            return await self.create(replace(grant, kind=GrantKind.ADJUSTMENT), now, by=by)
        async with self._database.writing() as connection:
            await lock_numbers(connection, grant.namespace)
            grants = [
                one
                for one in await grants_of(connection, [grant.customer_id])
                if one.currency == grant.currency and one.status_at(now) is GrantStatus.ACTIVE
            ]
            await book(connection, [funded(one, now) for one in grants])
            minor = await available_minor(connection, [one.id for one in grants])
            available = {id_: from_minor_units(x, grant.currency) for id_, x in minor.items()}
            taken = taken_from(grants, available, -grant.amount)
            if total(taken.values()) != -grant.amount:
                left = written(total(available.values()))
                reason = f"takes more than the {left} {grant.currency} that are left"
                raise Conflict(f"amount {reason}", [InvalidParameter("amount", "min", reason)])
            booked = adjusted(grant, taken, now)
            await book(connection, [booked])
            await record_document(
                connection,
                AuditEntry(
                    grant.namespace, now, by, "adjusted", "credit_grant", booked.id, None,
                    grant_values(grant),
                ),
            )  # fmt: skip
            return grant

    async def customers(self) -> dict[str, list[str]]:
        """Those of each namespace who were ever granted credit that is not voided."""
        statement = (
            select(_G.namespace, _G.customer_id)
            .where(_G.voided_at.is_(None))
            .distinct()
            .order_by(_G.namespace, _G.customer_id)
        )
        found: dict[str, list[str]] = {}
        async with self._database.reading() as connection:
            for namespace, customer_id in await connection.execute(statement):
                found.setdefault(namespace, []).append(customer_id)
        return found

    async def left(
        self, customer_ids: Collection[str], until: datetime | None = None
    ) -> list[GrantLeft]:
        """The grants of these customers, with what is left of each, or was at a time."""
        async with self._database.reading() as connection:
            grants = await grants_of(connection, customer_ids)
            timely = [] if until is None else [credit_transactions.c.booked_at <= until]
            booked = await available_minor(connection, [one.id for one in grants], *timely)
            held = await held_minor(connection, [one.id for one in grants], *timely)
            return [
                GrantLeft(
                    one,
                    from_minor_units(booked.get(one.id, 0), one.currency),
                    one.id in booked,
                    from_minor_units(held.get(one.id, 0), one.currency),
                )
                for one in grants
            ]


def _settled(grant: CreditGrant, status: SettlementStatus, now: datetime) -> CreditGrant:
    order = list(SettlementStatus)
    if grant.purchase is None:
        raise Conflict("nothing is paid for the grant")
    if grant.voided_at is not None:
        raise Conflict("the grant is voided")
    before = grant.purchase.settlement_status
    if order.index(status) < order.index(before):
        raise Conflict(f"the payment is {before} already")
    if status is before:
        return grant
    purchase = replace(grant.purchase, settlement_status=status)
    is_paid = grant.waits_for_payment and status is SettlementStatus.SETTLED
    begins = max(grant.effective_at, now) if is_paid else grant.effective_at
    return replace(grant, purchase=purchase, effective_at=begins, updated_at=now)


async def _change(connection: AsyncConnection, grant: CreditGrant) -> Any:
    await connection.execute(
        update(credit_grants).where(_G.id == grant.id).values(grant_values(grant))
    )
    return await _row(connection, grant.id)


async def _row(connection: AsyncConnection, grant_id: str) -> Any:
    return (await connection.execute(select(credit_grants).where(_G.id == grant_id))).one()


async def _mine(
    connection: AsyncConnection, namespace: str, customer_id: str, grant_id: str
) -> Any:
    row = (
        await connection.execute(
            select(credit_grants).where(
                _G.id == grant_id,
                _G.namespace == namespace,
                _G.customer_id == customer_id,
                _G.kind != str(GrantKind.ADJUSTMENT),
            )
        )
    ).one_or_none()
    if row is None:
        raise NotFound(f"the customer has no credit grant {grant_id}")
    return row


async def _refuse_known_key(connection: AsyncConnection, grant: CreditGrant) -> None:
    if grant.key is None:
        return
    known = select(_G.id).where(_G.customer_id == grant.customer_id, _G.key == grant.key)
    if (await connection.execute(known)).first() is not None:
        raise _known_key()


def _known_key() -> Conflict:
    reason = "is that of another grant of the customer"
    return Conflict(f"key {reason}", [InvalidParameter("key", "invalid", reason)])
