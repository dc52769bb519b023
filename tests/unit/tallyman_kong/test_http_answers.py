"""What an HTTP answer's Retry-After means."""

from datetime import UTC, datetime

import pytest
from tallyman_kong.http_sink import retry_after

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param(None, None, id="none was sent"),
        pytest.param("7", 7.0, id="seconds"),
        pytest.param("0", 0.0, id="at once"),
        pytest.param("Sat, 21 Nov 2026 12:01:30 GMT", 90.0, id="a date"),
        pytest.param("Sat, 21 Nov 2026 11:00:00 GMT", 0.0, id="a date that is past"),
        pytest.param("Mon, 21 Nov 2099 12:00:00 GMT", 3600.0, id="at most an hour"),
        pytest.param("999999999", 3600.0, id="at most an hour, in seconds"),
        pytest.param("soon", None, id="neither"),
        pytest.param("-5", None, id="less than nothing"),
        pytest.param("", None, id="empty"),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds
