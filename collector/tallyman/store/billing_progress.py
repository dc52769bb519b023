"""How far each subscription is billed, and its late events looked at.

It is kept in the transaction that keeps the invoices. How far that is, billing decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import case, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tallyman.domain.invoice import Invoice
from tallyman.domain.period import EPOCH
from tallyman.store.customer_subjects import portions
from tallyman.store.database import upsert
from tallyman.store.tables import billing_progress

_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class Progress:
    """Up to where a subscription is billed, and late events up to which watermark are looked at.

    More is due at `next_due_at`, by the subscription as it was changed last at `as_of`. `seen` is the
    `billed_until` that was there before, and is not kept: where lines were freed meanwhile, it is over.
    """

    subscription_id: str
    customer_id: str
    billed_until: datetime
    corrected_until: datetime | None = None
    next_due_at: datetime | None = None
    as_of: datetime | None = None
    seen: datetime | None = None


def earned(
    progress: Sequence[Progress], given: Sequence[Invoice], kept: Sequence[Invoice]
) -> list[Progress]:
    """The progress of customers whose invoices are all kept: others' was someone else's to make."""
    ids = {one.id for one in kept}
    refused = {one.customer.id for one in given if one.id not in ids}
    return [one for one in progress if one.customer_id not in refused]


async def advance_progress(connection: AsyncConnection, progress: Sequence[Progress]) -> None:
    """Put it forward, never back: another run may be ahead."""
    table = billing_progress
    rows = [
        {name: value for name, value in vars(one).items() if name != "seen"}
        for one in await _timely(connection, progress)
    ]
    if not rows:
        return
    insert = upsert(connection, table)
    ahead = insert.excluded.billed_until > table.c.billed_until
    later = insert.excluded.corrected_until > table.c.corrected_until
    await connection.execute(
        insert.on_conflict_do_update(
            index_elements=["subscription_id"],
            set_={
                "billed_until": _greater(ahead, insert.excluded, table.c, "billed_until"),
                "corrected_until": _greater(
                    or_(later, table.c.corrected_until.is_(None)),
                    insert.excluded,
                    table.c,
                    "corrected_until",
                ),
                "next_due_at": func.coalesce(insert.excluded.next_due_at, table.c.next_due_at),
                "as_of": func.coalesce(insert.excluded.as_of, table.c.as_of),
            },
        ),
        rows,
    )


async def _timely(connection: AsyncConnection, progress: Sequence[Progress]) -> list[Progress]:
    """Without that of subscriptions that were put back since it was worked out."""
    table = billing_progress
    there: dict[str, datetime] = {}
    for some in portions(one.subscription_id for one in progress):
        known = select(table.c.subscription_id, table.c.billed_until)
        rows = await connection.execute(known.where(table.c.subscription_id.in_(some)))
        there |= {row.subscription_id: row.billed_until for row in rows}
    return [
        one
        for one in progress
        if one.seen is None or there.get(one.subscription_id, one.seen) >= one.seen
    ]


def _greater(is_greater: Any, given: Any, there: Any, name: str) -> Any:
    return case((is_greater, given[name]), else_=there[name])


async def put_back_progress(connection: AsyncConnection, freed: Sequence[Invoice]) -> None:
    """Let what these invoices billed be found again."""
    for invoice in freed:
        before = invoice.service_period.from_ - _MICROSECOND
        await connection.execute(
            update(billing_progress)
            .where(
                billing_progress.c.subscription_id.in_({x.subscription_id for x in invoice.lines}),
                billing_progress.c.billed_until > before,
            )
            .values(billed_until=before, next_due_at=None)
        )
    await look_again(connection, freed)


async def look_again_from(
    connection: AsyncConnection, subscription_id: str, moment: datetime
) -> None:
    """Let what becomes due of the subscription after the moment be looked for, also if it was."""
    await connection.execute(
        update(billing_progress)
        .where(
            billing_progress.c.subscription_id == subscription_id,
            billing_progress.c.billed_until > moment,
        )
        .values(billed_until=moment, next_due_at=None)
    )


async def look_again(connection: AsyncConnection, changed: Sequence[Invoice]) -> None:
    """Let all that these customers were billed be looked at once more."""
    for some in portions(invoice.customer.id for invoice in changed):
        await connection.execute(
            update(billing_progress)
            .where(billing_progress.c.customer_id.in_(some))
            .values(corrected_until=EPOCH)
        )
