"""What a meter is."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tallyman.domain.meter import Aggregation, Meter

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SUM = Meter(
    "m", "default", "tokens", "Tokens", Aggregation.SUM, "llm.tokens", "$.tokens", {}, NOW, NOW
)
COUNT = replace(SUM, aggregation=Aggregation.COUNT, value_property=None)


@pytest.mark.parametrize(
    ("meter", "unit"),
    [
        pytest.param(SUM, "token", id="a sum of tokens"),
        pytest.param(
            replace(SUM, value_property="$.usage.total_tokens"), "token", id="of other tokens"
        ),
        pytest.param(replace(SUM, value_property="$.seconds"), "unit", id="of anything else"),
        pytest.param(COUNT, "event", id="a count"),
        pytest.param(replace(COUNT, only=("type", "request")), "call", id="one event per call"),
    ],
)
def test_a_meter_says_what_it_counts(meter: Meter, unit: str) -> None:
    assert meter.unit == unit
