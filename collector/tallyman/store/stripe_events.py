"""Stripe's webhooks that were taken in, by their ids."""

from dataclasses import dataclass
from datetime import datetime

from tallyman.store.database import Database, upsert
from tallyman.store.tables import stripe_events


@dataclass(frozen=True)
class StripeEvent:
    """`stripe_id` is the invoice that it is about, if it is about one."""

    id: str
    type: str
    stripe_id: str | None
    created_at: datetime


class StripeEventStore:
    """The events of every namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, namespace: str, event: StripeEvent, now: datetime) -> bool:
        """Keep an event; False if it is there already."""
        values = vars(event) | {"namespace": namespace, "received_at": now}
        async with self._database.writing() as connection:
            insert = upsert(connection, stripe_events).values(values).on_conflict_do_nothing()
            return bool((await connection.execute(insert)).rowcount)
