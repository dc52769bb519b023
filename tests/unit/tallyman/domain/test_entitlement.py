"""Entitlements: what usage leaves of them."""

from datetime import UTC, datetime
from decimal import Decimal as D

import pytest
from tallyman.domain.duration import Duration, parse_duration
from tallyman.domain.entitlement import (
    Access,
    BooleanEntitlement,
    Entitlement,
    MeteredEntitlement,
    NoAccessReason,
    StaticEntitlement,
    access,
    usage_period_at,
)
from tallyman.domain.period import Period

REACHED = NoAccessReason.USAGE_LIMIT_REACHED


@pytest.mark.parametrize(
    ("entitlement", "usage", "expected"),
    [
        pytest.param(None, 0, Access(False, NoAccessReason.FEATURE_UNAVAILABLE), id="not sold"),
        pytest.param(BooleanEntitlement(), 9, Access(True), id="there, whatever the usage"),
        pytest.param(StaticEntitlement("[1]"), 9, Access(True, config="[1]"), id="a setting"),
        pytest.param(MeteredEntitlement(), 9, Access(True, usage=D(9)), id="no limit"),
        pytest.param(
            MeteredEntitlement(D(10)), 9, Access(True, None, D(9), D(1)), id="one is left"
        ),
        pytest.param(
            MeteredEntitlement(D(10)), 10, Access(False, REACHED, D(10), D(0)), id="none is left"
        ),
        pytest.param(
            MeteredEntitlement(D(10)),
            12,
            Access(False, REACHED, D(12), D(0), D(2)),
            id="passed, by a call that was under way",
        ),
        pytest.param(
            MeteredEntitlement(D(10), is_soft_limit=True),
            12,
            Access(True, None, D(12), D(0), D(2)),
            id="a soft limit never refuses",
        ),
        pytest.param(
            MeteredEntitlement(D(0)), 0, Access(False, REACHED, D(0), D(0)), id="a limit of nothing"
        ),
    ],
)
def test_access(entitlement: Entitlement | None, usage: int, expected: Access) -> None:
    assert access(entitlement, D(usage)) == expected


@pytest.mark.parametrize(
    ("usage_period", "first", "last"),
    [
        pytest.param(None, "2026-10-31", "2026-11-30", id="by the billing cadence"),
        pytest.param("P1D", "2026-11-21", "2026-11-22", id="by its own period"),
    ],
)
def test_usage_is_counted_by_period(usage_period: str | None, first: str, last: str) -> None:
    entitlement = MeteredEntitlement(
        D(1), usage_period=parse_duration(usage_period) if usage_period else None
    )
    anchor = datetime(2026, 1, 31, tzinfo=UTC)

    period = usage_period_at(
        entitlement, Duration(1), anchor, datetime(2026, 11, 21, 9, tzinfo=UTC)
    )

    assert period == Period(
        datetime.fromisoformat(first).replace(tzinfo=UTC),
        datetime.fromisoformat(last).replace(tzinfo=UTC),
    )
