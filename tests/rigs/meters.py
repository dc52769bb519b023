"""The meter of all tokens, as the collector brings it."""

from datetime import UTC, datetime
from typing import Final

from tallyman.domain.builtin_meters import DIMENSIONS
from tallyman.domain.meter import Aggregation, Meter

_MADE: Final = datetime(2026, 11, 1, tzinfo=UTC)


def tokens_meter(namespace: str = "default") -> Meter:
    return Meter(
        id="m",
        namespace=namespace,
        key="tokens",
        name="tokens",
        aggregation=Aggregation.SUM,
        event_type="llm.tokens",
        value_property="$.tokens",
        dimensions=dict(DIMENSIONS),
        created_at=_MADE,
        updated_at=_MADE,
    )
