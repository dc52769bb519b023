"""Namespaces that are sandboxes, and their test clocks.

A namespace that has no row is real, and its time is everybody's.
"""

from sqlalchemy import Column, ForeignKey, String, Table

from tallyman.store.tables.columns import UtcDateTime, metadata, text

sandboxes = Table(
    "sandboxes",
    metadata,
    Column("namespace", text(), primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
)

# `frozen_time` is what time it is there; while it is being moved, `advancing_to` says where to.
test_clocks = Table(
    "test_clocks",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), ForeignKey("sandboxes.namespace"), nullable=False, unique=True),
    Column("name", text()),
    Column("frozen_time", UtcDateTime, nullable=False),
    Column("advancing_to", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
