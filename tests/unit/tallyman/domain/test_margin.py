"""The percentage of a margin, as tables."""

from decimal import Decimal

import pytest
from tallyman.domain.margin import MarginRow


@pytest.mark.parametrize(
    ("invoiced", "cost", "percent"),
    [
        ("21.73", "0", "100"),
        ("21.73", "0.0023", "99.9"),
        ("100", "25.04", "74.9"),
        ("100", "100", "0"),
        ("100", "100.01", "-0.1"),
    ],
)
def test_a_margin_is_100_percent_only_where_nothing_was_spent(
    invoiced: str, cost: str, percent: str
) -> None:
    row = MarginRow("acme", "USD", Decimal(invoiced), Decimal(0), Decimal(cost), Decimal(0))

    assert row.percent == Decimal(percent)


def test_a_margin_has_no_percentage_where_some_cost_is_unknown() -> None:
    row = MarginRow("acme", "USD", Decimal(100), Decimal(0), Decimal(0), Decimal(5))

    assert row.is_unknown
    assert row.percent is None
