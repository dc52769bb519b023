"""Which credit grants are read, and what is left of each.

They are written by `credit_grants.py`, and booked by `credit_ledger.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.credit import CreditGrant, GrantStatus
from tallyman.domain.credit_ledger import CreditAccount
from tallyman.store.credit_ledger import on_account
from tallyman.store.credit_rows import grant_of
from tallyman.store.customer_subjects import portions
from tallyman.store.tables import credit_entries, credit_grants, credit_transactions, invoices

_G = credit_grants.c


@dataclass(frozen=True)
class GrantLeft:
    """A grant, and what is booked as left of it; nothing is booked before it takes effect.

    `held` is what drafts have used of it, which are not final.
    """

    grant: CreditGrant
    booked: Decimal
    is_funded: bool
    held: Decimal = Decimal(0)

    def left(self, now: datetime) -> Decimal:
        """What can be used of it, whether its beginning is booked already or not."""
        if self.is_funded:
            return self.booked
        is_active = self.grant.status_at(now) is GrantStatus.ACTIVE
        return self.grant.amount if is_active else Decimal(0)


async def grants_of(connection: AsyncConnection, customer_ids: Iterable[str]) -> list[CreditGrant]:
    """All that the customers were ever granted."""
    found: list[CreditGrant] = []
    for some in portions(customer_ids):
        rows = await connection.execute(
            select(credit_grants).where(_G.customer_id.in_(some)).order_by(_G.id)
        )
        found += [grant_of(row) for row in rows]
    return found


async def held_minor(
    connection: AsyncConnection, grant_ids: Sequence[str], *where: ColumnElement[bool]
) -> dict[str, int]:
    """What drafts have used of the grants."""
    found: dict[str, int] = {}
    entries, booked = credit_entries.c, credit_transactions.c
    for some in portions(grant_ids):
        rows = await connection.execute(
            select(entries.grant_id, on_account(CreditAccount.CONSUMED))
            .join(credit_transactions, booked.id == entries.transaction_id)
            .join(invoices, invoices.c.id == booked.invoice_id)
            .where(entries.grant_id.in_(some), invoices.c.status == "draft", *where)
            .group_by(entries.grant_id)
        )
        found |= {row[0]: int(row[1]) for row in rows}
    return found


def has_status(status: str, now: datetime) -> ColumnElement[bool]:
    """The status as `CreditGrant.status_at` has it."""
    voided = and_(_G.voided_at.is_not(None), _G.voided_at <= now)
    expired = and_(_G.expires_at.is_not(None), _G.expires_at <= now)
    begun = and_(_G.effective_at <= now, _G.waits.is_(False))
    match GrantStatus(status):
        case GrantStatus.VOIDED:
            return voided
        case GrantStatus.EXPIRED:
            return and_(~voided, expired)
        case GrantStatus.ACTIVE:
            return and_(~voided, ~expired, begun)
        case GrantStatus.PENDING:
            return and_(~voided, ~expired, ~begun)
