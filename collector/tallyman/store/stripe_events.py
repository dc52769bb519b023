"""Stripe's webhooks that were taken in, by their ids."""

from dataclasses import dataclass
from datetime import datetime

from tallyman.store.database import Database, upsert
from tallyman.store.tables import stripe_events


@dataclass(frozen=True)
class StripeEvent:
    """`about` are Stripe's ids of what must be looked at, such as an invoice, the first one first."""

    id: str
    type: str
    about: tuple[str, ...]
    created_at: datetime


class StripeEventStore:
    """The events of every namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, namespace: str, event: StripeEvent, now: datetime) -> bool:
        """Keep an event; False if it is there already."""
        values = {
            "id": event.id,
            "namespace": namespace,
            "type": event.type,
            "stripe_id": event.about[0] if event.about else None,
            "created_at": event.created_at,
            "received_at": now,
        }
        async with self._database.writing() as connection:
            insert = upsert(connection, stripe_events).values(values).on_conflict_do_nothing()
            return bool((await connection.execute(insert)).rowcount)
