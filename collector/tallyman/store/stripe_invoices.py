"""How far invoices are at Stripe, as it is kept: which are to be worked on, by whom, and when again.

What is done there is `payments/`'s; the invoices themselves are `invoices.py`'s.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, and_, func, or_, select, update

from tallyman.domain.billing_profile import App
from tallyman.domain.invoice_state import InvoiceState
from tallyman.store.database import Database, upsert
from tallyman.store.tables import invoices, stripe_invoices

CLAIM: Final = timedelta(minutes=5)  # longer than every call of one look together
_SYNCING: Final = (InvoiceState.ISSUING_SYNCING, InvoiceState.DELETE_SYNCING)


@dataclass(frozen=True)
class StripeSync:
    """`generation` counts the drafts that were begun, `round` the payments that were asked for.

    `attempted_at` is when this generation's draft was first asked for, `asked_at` when its payment
    was; `failures` counts the looks in a row that Stripe did not answer.
    """

    invoice_id: str
    namespace: str
    stripe_id: str | None = None
    generation: int = 0
    attempted_at: datetime | None = None
    round: int = 0
    asked_at: datetime | None = None
    failures: int = 0
    last_error: str | None = None
    hints: int = 0
    payment_id: str | None = None


class StripeInvoiceStore:
    """The invoices of one namespace at Stripe."""

    def __init__(self, database: Database, namespace: str) -> None:
        self._database = database
        self._namespace = namespace

    async def due(self, now: datetime, limit: int) -> list[tuple[str, str]]:
        """(invoice id, customer id) of what is to be worked on now, those that wait longest first."""
        sync = stripe_invoices.c
        mine = invoices.outerjoin(stripe_invoices, sync.invoice_id == invoices.c.id)
        columns = (invoices.c.id, invoices.c.customer_id)
        fresh = or_(sync.claimed_until.is_(None), sync.claimed_until <= now)
        waiting = (
            select(*columns, func.coalesce(sync.work_at, invoices.c.updated_at).label("at"))
            .select_from(mine)
            .where(
                invoices.c.namespace == self._namespace,
                invoices.c.app == str(App.STRIPE),
                invoices.c.state.in_([str(state) for state in _SYNCING]),
                or_(sync.work_at.is_(None), sync.work_at <= now, sync.failures == 0),
                fresh,
            )
        )
        acted = or_(
            invoices.c.state == str(InvoiceState.VOIDED),
            and_(
                invoices.c.state == str(InvoiceState.PAYMENT_PENDING),
                invoices.c.updated_at > sync.asked_at,
            ),
        )
        looked_at = (
            select(*columns, sync.work_at.label("at"))
            .select_from(mine)
            .where(
                sync.namespace == self._namespace,
                sync.work_at.is_not(None),
                or_(sync.work_at <= now, and_(acted, sync.failures == 0)),
                fresh,
            )
        )
        found: dict[str, tuple[str, str]] = {}
        async with self._database.reading() as connection:
            for statement in (waiting, looked_at):
                rows = await connection.execute(statement.order_by("at").limit(limit))
                found |= {row.id: (row.id, row.customer_id) for row in rows}
        return list(found.values())[:limit]

    async def claim(self, invoice_id: str, now: datetime) -> StripeSync | None:
        """Keep others from the invoice until it is released, or a while; None if another has it.

        Whoever claims it and dies leaves it due.
        """
        fresh = {
            "invoice_id": invoice_id,
            "namespace": self._namespace,
            "generation": 0,
            "round": 0,
            "failures": 0,
            "hints": 0,
            "created_at": now,
            "updated_at": now,
        }
        free = or_(
            stripe_invoices.c.claimed_until.is_(None), stripe_invoices.c.claimed_until <= now
        )
        async with self._database.writing() as connection:
            insert = upsert(connection, stripe_invoices).values(fresh)
            await connection.execute(insert.on_conflict_do_nothing())
            taken = await connection.execute(
                update(stripe_invoices)
                .where(stripe_invoices.c.invoice_id == invoice_id, free)
                .values(claimed_until=now + CLAIM, work_at=now, updated_at=now)
                .returning(*stripe_invoices.c)
            )
            row = taken.one_or_none()
        return None if row is None else _sync(row)

    async def note(self, sync: StripeSync, now: datetime) -> None:
        """Keep how far it is, before or after a call."""
        async with self._database.writing() as connection:
            await connection.execute(
                update(stripe_invoices)
                .where(stripe_invoices.c.invoice_id == sync.invoice_id)
                .values(
                    stripe_id=sync.stripe_id,
                    generation=sync.generation,
                    attempted_at=sync.attempted_at,
                    round=sync.round,
                    asked_at=sync.asked_at,
                    payment_id=sync.payment_id,
                    updated_at=now,
                )
            )

    async def release(self, sync: StripeSync, work_at: datetime | None, now: datetime) -> None:
        """Let others at it; what was hinted at meanwhile is looked at right away."""
        async with self._database.writing() as connection:
            quiet = stripe_invoices.c.hints == sync.hints
            which = stripe_invoices.c.invoice_id == sync.invoice_id
            values: dict[str, Any] = {
                "failures": sync.failures,
                "last_error": sync.last_error,
                "claimed_until": None,
                "updated_at": now,
            }
            await connection.execute(update(stripe_invoices).where(which).values(**values))
            await connection.execute(
                update(stripe_invoices).where(which, quiet).values(work_at=work_at)
            )

    async def hint(self, stripe_id: str, now: datetime) -> bool:
        """Look at the one of this id, or with a payment of this id; False if it is none of ours."""
        async with self._database.writing() as connection:
            changed = await connection.execute(
                update(stripe_invoices)
                .where(
                    stripe_invoices.c.namespace == self._namespace,
                    or_(
                        stripe_invoices.c.stripe_id == stripe_id,
                        stripe_invoices.c.payment_id == stripe_id,
                    ),
                )
                .values(work_at=now, failures=0, hints=stripe_invoices.c.hints + 1)
            )
            return bool(changed.rowcount)

    async def get(self, invoice_id: str) -> StripeSync | None:
        """How far an invoice is; None if it was never worked on."""
        statement = select(stripe_invoices).where(
            stripe_invoices.c.namespace == self._namespace,
            stripe_invoices.c.invoice_id == invoice_id,
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else _sync(row)

    async def count_waiting(self) -> int:
        """How many are not at Stripe yet, or wait for a call to be repeated."""
        sync = stripe_invoices.c
        statement = (
            select(func.count())
            .select_from(invoices.outerjoin(stripe_invoices, sync.invoice_id == invoices.c.id))
            .where(
                invoices.c.namespace == self._namespace,
                invoices.c.app == str(App.STRIPE),
                or_(
                    invoices.c.state.in_([str(state) for state in _SYNCING]),
                    and_(sync.failures > 0, sync.work_at.is_not(None)),
                ),
            )
        )
        async with self._database.reading() as connection:
            return int((await connection.execute(statement)).scalar_one())


def _sync(row: Row[Any]) -> StripeSync:
    return StripeSync(
        **{name: getattr(row, name) for name in StripeSync.__dataclass_fields__},
    )
