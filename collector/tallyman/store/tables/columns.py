"""What every table is made of: the metadata, and the types of columns that both databases share.

It has no table: those are in the modules beside it.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, MetaData, Text, TypeDecorator

from tallyman.domain.period import in_utc

metadata = MetaData()
DOCUMENT = JSON(none_as_null=True)


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
        return in_utc(moment)


def text() -> Text:
    """Text that compares and sorts by code point on both databases."""
    return Text().with_variant(Text(collation="C"), "postgresql")
