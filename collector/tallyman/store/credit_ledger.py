"""The ledger of credit as it is kept: transactions added one after the other, and what they add up to.

What they are, the domain says (`credit_ledger.py`); when, `credit_booking.py` and `credit_grants.py`.
Whoever books holds the namespace's lock (`invoice_numbers.py`), so that nothing is spent twice.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.credit import CreditGrant
from tallyman.domain.credit_ledger import CreditAccount, CreditTransaction, TransactionType, ended
from tallyman.domain.money import from_minor_units, to_minor_units
from tallyman.errors import LedgerError
from tallyman.store.credit_rows import entry_values, grant_of, transaction_values
from tallyman.store.customer_subjects import portions
from tallyman.store.database import Database
from tallyman.store.tables import credit_entries, credit_grants, credit_transactions

_E: Final = credit_entries.c
_T: Final = credit_transactions.c


@dataclass(frozen=True)
class BookedTransaction:
    """A line of the ledger; `available` is what it left of the currency, and `amount` is signed."""

    id: str
    currency: str
    sequence: int
    type: TransactionType
    name: str
    description: str | None
    labels: dict[str, str]
    invoice_id: str | None
    amount: Decimal
    available: Decimal
    booked_at: datetime


def on_account(account: CreditAccount) -> ColumnElement[int]:
    """The sum of entries as they change an account."""
    return func.sum(
        case(
            (_E.to_account == str(account), _E.amount),
            (_E.from_account == str(account), -_E.amount),
            else_=0,
        )
    )


async def book(connection: AsyncConnection, transactions: Sequence[CreditTransaction]) -> None:
    """Add these to the ledger, in their order; one that is there already is left out.

    Raises:
        LedgerError: a grant would be left with less than nothing.
    """
    known = await _known(connection, [one.id for one in transactions])
    new = list({one.id: one for one in transactions if one.id not in known}.values())
    if not new:
        return
    last = await _last(connection, {one.customer_id for one in new})
    rows: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    numbers: dict[str, int] = {}
    for (customer_id, _), (sequence, _) in last.items():
        numbers[customer_id] = max(numbers.get(customer_id, 0), sequence)
    for one in new:
        key = one.customer_id, one.currency
        _, available = last.get(key, (0, 0))
        numbers[one.customer_id] = numbers.get(one.customer_id, 0) + 1
        available += to_minor_units(one.amount, one.currency)
        last[key] = numbers[one.customer_id], available
        rows.append(transaction_values(one, *last[key]))
        entries += entry_values(one)
    if any(row["available"] < 0 for row in rows):
        raise LedgerError("more credit would be used than there is")
    await connection.execute(credit_transactions.insert(), rows)
    await connection.execute(credit_entries.insert(), entries)
    left = await available_minor(connection, {row["grant_id"] for row in entries})
    if any(amount < 0 for amount in left.values()):
        raise LedgerError("more credit of a grant would be used than it has")


async def _known(connection: AsyncConnection, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for some in portions(ids):
        found |= set((await connection.execute(select(_T.id).where(_T.id.in_(some)))).scalars())
    return found


async def _last(
    connection: AsyncConnection, customer_ids: Iterable[str]
) -> dict[tuple[str, str], tuple[int, int]]:
    """The last sequence of each customer and currency, and what it left."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for some in portions(customer_ids):
        newest = (
            select(_T.customer_id, _T.currency, func.max(_T.sequence).label("sequence"))
            .where(_T.customer_id.in_(some))
            .group_by(_T.customer_id, _T.currency)
            .subquery()
        )
        rows = await connection.execute(
            select(_T.customer_id, _T.currency, _T.sequence, _T.available).join(
                newest,
                and_(
                    _T.customer_id == newest.c.customer_id,
                    _T.currency == newest.c.currency,
                    _T.sequence == newest.c.sequence,
                ),
            )
        )
        found |= {(row[0], row[1]): (row[2], row[3]) for row in rows}
    return found


async def available_minor(
    connection: AsyncConnection, grant_ids: Iterable[str], *where: ColumnElement[bool]
) -> dict[str, int]:
    """What is left of each grant that anything was booked of, in minor units."""
    found: dict[str, int] = {}
    for some in portions(grant_ids):
        rows = await connection.execute(
            select(_E.grant_id, on_account(CreditAccount.AVAILABLE))
            .join(credit_transactions, _T.id == _E.transaction_id)
            .where(_E.grant_id.in_(some), *where)
            .group_by(_E.grant_id)
        )
        found |= {row[0]: int(row[1]) for row in rows}
    return found


async def end(
    connection: AsyncConnection, grants: Sequence[CreditGrant], at: datetime, to: CreditAccount
) -> None:
    """Book what is left of the grants as expired or voided, under the namespace's lock."""
    left = await available_minor(connection, [one.id for one in grants])
    times: dict[str, int] = {}
    for some in portions(left):
        rows = await connection.execute(
            select(_E.grant_id, func.count()).where(_E.grant_id.in_(some)).group_by(_E.grant_id)
        )
        times |= {row[0]: row[1] for row in rows}
    await book(
        connection,
        [
            ended(grant, from_minor_units(left[grant.id], grant.currency), at, to, times[grant.id])
            for grant in grants
            if left.get(grant.id, 0) > 0
        ],
    )


async def consumed_minor(
    connection: AsyncConnection, where: ColumnElement[bool]
) -> dict[tuple[str | None, str | None, str], int]:
    """What was used, less what was given back, by (invoice id, billable id, grant id)."""
    rows = await connection.execute(
        select(_T.invoice_id, _E.billable_id, _E.grant_id, on_account(CreditAccount.CONSUMED))
        .join(credit_transactions, _T.id == _E.transaction_id)
        .where(where)
        .group_by(_T.invoice_id, _E.billable_id, _E.grant_id)
    )
    return {(row[0], row[1], row[2]): int(row[3]) for row in rows}


@dataclass(frozen=True)
class CreditBefore:
    """The grants of a customer, and what was available of each before an invoice used any of it."""

    at: datetime
    grants: tuple[CreditGrant, ...]
    available: Mapping[str, Decimal]


class CreditLedger:
    """The ledger of every namespace, to be read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        customer_id: str,
        *,
        types: Collection[str] | None = None,
        currencies: Collection[str] | None = None,
        grant_ids: Collection[str] | None = None,
        after: int | None = None,
        limit: int = 20,
    ) -> list[BookedTransaction]:
        """The customer's transactions, the newest first, after the sequence given.

        With `grant_ids` only those of one of these grants.
        """
        wanted: list[ColumnElement[bool]] = [_T.customer_id == customer_id]
        if types is not None:
            wanted.append(_wire_type().in_(types))
        if currencies is not None:
            wanted.append(_T.currency.in_(currencies))
        if grant_ids is not None:
            theirs = select(_E.transaction_id).where(_E.grant_id.in_(grant_ids))
            wanted.append(_T.id.in_(theirs))
        if after is not None:
            wanted.append(_T.sequence < after)
        statement = (
            select(credit_transactions).where(*wanted).order_by(_T.sequence.desc()).limit(limit)
        )
        async with self._database.reading() as connection:
            return [_booked(row) for row in await connection.execute(statement)]

    async def before(self, invoice_id: str) -> CreditBefore | None:
        """What there was when credit was last applied to an invoice; None if none was."""
        used = (
            select(_T.customer_id, _T.currency, _T.sequence, _T.booked_at)
            .where(_T.invoice_id == invoice_id, _T.type == "consumed", _T.amount < 0)
            .order_by(_T.sequence.desc())
            .limit(1)
        )
        async with self._database.reading() as connection:
            found = (await connection.execute(used)).one_or_none()
            if found is None:
                return None
            rows = await connection.execute(
                select(credit_grants).where(
                    credit_grants.c.customer_id == found.customer_id,
                    credit_grants.c.currency == found.currency,
                )
            )
            # What is voided was not yet, or nothing is left of it.
            grants = [replace(grant_of(row), voided_at=None) for row in rows]
            earlier = _T.sequence < found.sequence
            minor = await available_minor(connection, [one.id for one in grants], earlier)
            available = {id_: from_minor_units(x, found.currency) for id_, x in minor.items()}
            return CreditBefore(found.booked_at, tuple(grants), available)

    async def drawn(self, billable_ids: Collection[str]) -> Mapping[tuple[str, str], Decimal]:
        """What credit has paid for these, less what it got back, by (billable id, grant id)."""
        found: dict[tuple[str, str], Decimal] = {}
        async with self._database.reading() as connection:
            for some in portions(billable_ids):
                statement = (
                    select(
                        _E.billable_id, _E.grant_id, _T.currency,
                        on_account(CreditAccount.CONSUMED),
                    )
                    .join(credit_transactions, _T.id == _E.transaction_id)
                    .where(_E.billable_id.in_(some))
                    .group_by(_E.billable_id, _E.grant_id, _T.currency)
                )  # fmt: skip
                for row in await connection.execute(statement):
                    found[row[0], row[1]] = from_minor_units(int(row[3]), row[2])
        return found

    async def sums(self, namespace: str) -> Mapping[str, int]:
        """What is on each account of the namespace, in minor units; all together are zero."""
        sums: dict[str, int] = {}
        mine = _T.namespace == namespace
        async with self._database.reading() as connection:
            for account in CreditAccount:
                statement = (
                    select(on_account(account))
                    .join(credit_transactions, _T.id == _E.transaction_id)
                    .where(mine)
                )
                sums[str(account)] = int((await connection.execute(statement)).scalar() or 0)
        return sums


def _wire_type() -> ColumnElement[str]:
    """As the API has it: what adjusts the balance is funded or consumed."""
    adjusted = case((_T.amount > 0, "funded"), else_="consumed")
    return case((_T.type == "adjusted", adjusted), else_=_T.type)


def _booked(row: Any) -> BookedTransaction:
    values = dict(row._mapping)
    return BookedTransaction(
        **{name: values[name] for name in BookedTransaction.__dataclass_fields__ if name not in
           ("type", "amount", "available")},
        type=TransactionType(row.type),
        amount=from_minor_units(row.amount, row.currency),
        available=from_minor_units(row.available, row.currency),
    )  # fmt: skip
