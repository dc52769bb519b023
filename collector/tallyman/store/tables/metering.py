"""Meters.

Events are in ClickHouse (`event_schema.py`).
"""

from sqlalchemy import JSON, Boolean, Column, Index, String, Table

from tallyman.store.tables.columns import UtcDateTime, metadata, text

meters = Table(
    "meters",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("key", text(), nullable=False),
    Column("name", text(), nullable=False),
    Column("description", text()),
    Column("labels", JSON, nullable=False),
    Column("aggregation", String(16), nullable=False),
    Column("event_type", text(), nullable=False),
    Column("value_property", text()),
    Column("dimensions", JSON, nullable=False),
    Column("events_from", UtcDateTime),
    Column("only_dimension", text()),
    Column("only_value", text()),
    Column("built_in", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)
# A deleted meter frees its key, and several deleted ones may have had the same.
Index(
    "meters_key",
    meters.c.namespace,
    meters.c.key,
    unique=True,
    sqlite_where=meters.c.deleted_at.is_(None),
    postgresql_where=meters.c.deleted_at.is_(None),
)
