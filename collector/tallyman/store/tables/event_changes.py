"""Changes of events: who voided or amended which, and why.

The events themselves are in ClickHouse, each change with a row of its own there.
"""

from sqlalchemy import Column, Index, Integer, String, Table, Text

from tallyman.store.tables.columns import UtcDateTime, metadata, text

# What was done to an event, and what it was before, both as JSON; `stored_at` is when its row was
# among the events.
event_changes = Table(
    "event_changes",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("source", text(), nullable=False),
    Column("event_id", text(), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("actor", text(), nullable=False),
    Column("reason", text(), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ingested_at", UtcDateTime, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text),
    Column("stored_at", UtcDateTime),
)
Index(
    "event_changes_once",
    event_changes.c.namespace,
    event_changes.c.source,
    event_changes.c.event_id,
    event_changes.c.revision,
    unique=True,
)
