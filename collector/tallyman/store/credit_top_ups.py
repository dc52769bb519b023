"""Which customers' credit is topped up by itself, and the grants that are bought so.

When, the domain says (`credit_top_up.py`); they are paid by what `stripe_operations.py` asks for.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.access import LOCAL
from tallyman.domain.credit import CreditGrant, GrantKind, SettlementStatus
from tallyman.domain.credit_top_up import CreditTopUp, next_top_up
from tallyman.domain.money import from_minor_units, to_minor_units
from tallyman.domain.stripe_operation import (
    OperationKind,
    OperationLine,
    OperationState,
    StripeOperation,
)
from tallyman.errors import NotFound
from tallyman.store.audit import AuditEntry, record_document
from tallyman.store.credit_grants import CreditGrantStore
from tallyman.store.credit_selection import grants_of
from tallyman.store.database import Database, upsert
from tallyman.store.invoice_numbers import lock_numbers
from tallyman.store.stripe_operations import StripeOperationStore
from tallyman.store.tables import credit_top_ups

BY = "stripe"
_T = credit_top_ups.c
_AMOUNTS = ("threshold", "amount", "most_per_month")


class CreditTopUpStore:
    """The settings of every namespace, and what is bought by them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._grants = CreditGrantStore(database)
        self._operations = StripeOperationStore(database)

    async def put(self, setting: CreditTopUp, *, by: str = LOCAL) -> CreditTopUp:
        """Keep how a customer's credit in a currency is topped up."""
        values = vars(setting) | {
            name: to_minor_units(getattr(setting, name), setting.currency) for name in _AMOUNTS
        }
        async with self._database.writing() as connection:
            before = await _row(connection, setting.customer_id, setting.currency)
            changed = {n: v for n, v in values.items() if n != "created_at"}
            insert = upsert(connection, credit_top_ups).values(values)
            await connection.execute(
                insert.on_conflict_do_update(
                    index_elements=["customer_id", "currency"], set_=changed
                )
            )
            after = await _row(connection, setting.customer_id, setting.currency)
            await record_document(connection, _audited(setting, by, before, after))
            return _setting(after)

    async def remove(self, setting: CreditTopUp, now: datetime, *, by: str = LOCAL) -> None:
        """Top up no more; what is being paid still is."""
        async with self._database.writing() as connection:
            before = await _row(connection, setting.customer_id, setting.currency)
            await connection.execute(
                credit_top_ups.delete().where(
                    _T.customer_id == setting.customer_id, _T.currency == setting.currency
                )
            )
            await record_document(connection, _audited(setting, by, before, None))

    async def get(self, customer_id: str, currency: str) -> CreditTopUp:
        """How a customer's credit in a currency is topped up.

        Raises:
            NotFound: it is not.
        """
        async with self._database.reading() as connection:
            row = await _row(connection, customer_id, currency)
        if row is None:
            raise NotFound(f"the customer's credit in {currency} is not topped up")
        return _setting(row)

    async def of(self, customer_ids: Iterable[str] | None = None) -> list[CreditTopUp]:
        """The settings of these customers, or of all."""
        statement = select(credit_top_ups).order_by(_T.customer_id, _T.currency)
        if customer_ids is not None:
            statement = statement.where(_T.customer_id.in_(sorted(set(customer_ids))))
        async with self._database.reading() as connection:
            return [_setting(row) for row in await connection.execute(statement)]

    async def begin(self, setting: CreditTopUp, live: Decimal, now: datetime) -> CreditGrant | None:
        """Buy credit, if it is time: the grant and what Stripe is asked for are kept together."""
        async with self._database.together():
            async with self._database.writing() as connection:
                await lock_numbers(connection, setting.namespace)
                every = await grants_of(connection, [setting.customer_id])
            before = [
                one
                for one in every
                if one.kind is GrantKind.TOP_UP and one.currency == setting.currency
            ]
            grant = next_top_up(setting, live, before, now)
            if grant is None:
                return None
            await self._grants.create(grant, now, by=BY)
            line = OperationLine(f"Prepaid credit: {grant.name.lower()}", grant.amount)
            await self._operations.ask(
                StripeOperation(
                    id=grant.id,
                    namespace=grant.namespace,
                    kind=OperationKind.TOP_UP,
                    customer_id=grant.customer_id,
                    currency=grant.currency,
                    lines=(line,),
                ),
                now,
                by=BY,
            )
            return grant

    async def hear(self, operation: StripeOperation) -> None:
        """Take in what became of a payment, in the transaction that keeps it: paid credit takes
        effect, what will never be paid is voided."""
        at = operation.updated_at
        if at is None or not operation.state.is_over:
            return
        whose = operation.namespace, operation.customer_id, operation.id
        if operation.state is OperationState.SUCCEEDED:
            await self._grants.settle(*whose, SettlementStatus.SETTLED, at, by=BY)
        else:
            await self._grants.void(*whose, at, by=BY)

    async def cancel(self, grant: CreditGrant, now: datetime, *, by: str = LOCAL) -> None:
        """Let a top-up be paid no more; it is voided once that is sure."""
        await self._operations.cancel(grant.namespace, grant.id, now, by=by)


async def _row(connection: AsyncConnection, customer_id: str, currency: str) -> Any:
    found = select(credit_top_ups).where(_T.customer_id == customer_id, _T.currency == currency)
    return (await connection.execute(found)).one_or_none()


def _setting(row: Row[Any]) -> CreditTopUp:
    values = dict(row._mapping)
    return CreditTopUp(
        **values | {name: from_minor_units(values[name], row.currency) for name in _AMOUNTS}
    )


def _audited(setting: CreditTopUp, by: str, before: Any, after: Any) -> AuditEntry:
    return AuditEntry(
        namespace=setting.namespace,
        at=setting.updated_at,
        actor=by,
        action="created" if before is None else "deleted" if after is None else "changed",
        entity="credit_top_up",
        entity_id=setting.customer_id,
        before=None if before is None else vars(_setting(before)),
        after=None if after is None else vars(_setting(after)),
    )
