"""API keys, and the audit log of who changed what.

It holds no secret: of a key only a hash is kept.
"""

from sqlalchemy import JSON, Column, Index, String, Table

from tallyman.store.tables.columns import DOCUMENT, UtcDateTime, metadata, text

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("name", text(), nullable=False),
    Column("hint", String(16), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", text(), nullable=False),
    Column("action", String(32), nullable=False),
    Column("entity", String(32), nullable=False),
    Column("entity_id", text(), nullable=False),
    Column("before", DOCUMENT),
    Column("after", DOCUMENT),
)
Index("audit_log_entity", audit_log.c.namespace, audit_log.c.entity, audit_log.c.entity_id)
