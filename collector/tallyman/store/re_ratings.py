"""Periods that were rated again by other prices: which billables, by which rate card, who and why.

Records are added and never changed; the newest of a billable counts. Billing makes the difference.
"""

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from tallyman.domain.rate_card import RateCard
from tallyman.domain.re_rating import ReRating
from tallyman.errors import Conflict
from tallyman.store.audit import AuditEntry, record_document
from tallyman.store.customer_subjects import portions
from tallyman.store.database import Database
from tallyman.store.invoice_documents import read_card, write_card
from tallyman.store.tables import re_rated_billables, re_ratings


class ReRatingStore:
    """The re-ratings of every namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, made: ReRating) -> None:
        """Keep a re-rating; from then on its billables are rated by its cards.

        Raises:
            Conflict: someone else rated one of them again at the same time.
        """
        numbers = await self._numbers(made.cards)
        try:
            async with self._database.writing() as connection:
                await connection.execute(
                    re_ratings.insert().values(
                        id=made.id,
                        namespace=made.namespace,
                        customer_id=made.customer_id,
                        period_from=made.period.from_,
                        period_to=made.period.to,
                        reason=made.reason,
                        actor=made.actor,
                        created_at=made.created_at,
                    )
                )
                rows = [
                    {
                        "re_rating_id": made.id,
                        "billable_id": id_,
                        "number": numbers.get(id_, 0) + 1,
                        "customer_id": made.customer_id,
                        "rate_card": write_card(card),
                    }
                    for id_, card in made.cards.items()
                ]
                await connection.execute(re_rated_billables.insert(), rows)
                await record_document(connection, _audited(made))
        except IntegrityError as err:
            raise Conflict("the period was rated again at the same time; try again") from err

    async def cards(self, customer_ids: Iterable[str]) -> dict[str, dict[str, RateCard]]:
        """By customer, the rate cards of the billables that were rated again."""
        found: dict[str, dict[str, RateCard]] = defaultdict(dict)
        table = re_rated_billables
        async with self._database.reading() as connection:
            for some in portions(customer_ids):
                rows = await connection.execute(
                    select(table).where(table.c.customer_id.in_(some)).order_by(table.c.number)
                )
                for row in rows:
                    found[row.customer_id][row.billable_id] = read_card(row.rate_card)
        return found

    async def _numbers(self, billable_ids: Iterable[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        table = re_rated_billables
        async with self._database.reading() as connection:
            for some in portions(billable_ids):
                rows = await connection.execute(
                    select(table.c.billable_id, func.max(table.c.number))
                    .where(table.c.billable_id.in_(some))
                    .group_by(table.c.billable_id)
                )
                found |= {row[0]: row[1] for row in rows}
        return found


def _audited(made: ReRating) -> AuditEntry:
    return AuditEntry(
        namespace=made.namespace,
        at=made.created_at,
        actor=made.actor,
        action="created",
        entity="re_rating",
        entity_id=made.id,
        before=None,
        after={
            "customer_id": made.customer_id,
            "from": made.period.from_,
            "to": made.period.to,
            "reason": made.reason,
            "billables": sorted(made.cards),
        },
    )
