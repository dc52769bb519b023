"""Features and plans.

Who subscribes to a plan is in `subscriptions.py`.
"""

from sqlalchemy import JSON, Boolean, Column, Index, Integer, String, Table

from tallyman.store.tables.columns import DOCUMENT, UtcDateTime, metadata, text

features = Table(
    "features",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("key", text(), nullable=False),
    Column("name", text(), nullable=False),
    Column("description", text()),
    Column("labels", JSON, nullable=False),
    Column("meter_id", String(26)),
    Column("filters", DOCUMENT),
    Column("unit_cost", DOCUMENT),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)
Index(
    "features_key",
    features.c.namespace,
    features.c.key,
    unique=True,
    sqlite_where=features.c.deleted_at.is_(None),
    postgresql_where=features.c.deleted_at.is_(None),
)

# A row is a version of a plan. Once `effective_from` is set, its phases never change.
plans = Table(
    "plans",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("key", text(), nullable=False),
    Column("version", Integer, nullable=False),
    Column("name", text(), nullable=False),
    Column("description", text()),
    Column("labels", JSON, nullable=False),
    Column("currency", text(), nullable=False),
    Column("billing_cadence", String(64), nullable=False),
    Column("pro_rating_enabled", Boolean, nullable=False),
    Column("settlement_mode", String(32)),
    Column("phases", JSON, nullable=False),
    Column("effective_from", UtcDateTime),
    Column("effective_to", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)
# The number of a deleted draft is not given again.
Index("plans_version", plans.c.namespace, plans.c.key, plans.c.version, unique=True)
