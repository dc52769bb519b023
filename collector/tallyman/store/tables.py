"""The relational tables as SQLAlchemy sees them; `migrations/` creates and changes them.

Events are not here: they are in ClickHouse (`event_schema.py`).
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Index,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

metadata = MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; SQLite has no time zones, so it is kept there without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _text() -> Text:
    """Text that compares and sorts by code point on both databases."""
    return Text().with_variant(Text(collation="C"), "postgresql")


meters = Table(
    "meters",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", _text(), nullable=False),
    Column("key", _text(), nullable=False),
    Column("name", _text(), nullable=False),
    Column("description", _text()),
    Column("labels", JSON, nullable=False),
    Column("aggregation", String(16), nullable=False),
    Column("event_type", _text(), nullable=False),
    Column("value_property", _text()),
    Column("dimensions", JSON, nullable=False),
    Column("events_from", UtcDateTime),
    Column("only_dimension", _text()),
    Column("only_value", _text()),
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

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", _text(), nullable=False),
    Column("name", _text(), nullable=False),
    Column("hint", String(16), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
)
