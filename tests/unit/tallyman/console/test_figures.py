"""Money, quantities and times as people read them."""

from datetime import UTC, datetime
from decimal import Decimal as D

import pytest
from tallyman.console import figures
from tallyman.domain.period import Period


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [
        pytest.param("1234.5", "USD", "$1,234.50", id="two decimals"),
        pytest.param("1235", "JPY", "¥1,235", id="none"),
        pytest.param("1.5", "KWD", "KWD\N{NO-BREAK SPACE}1.500", id="three"),
        pytest.param("7", "IQD", "IQD\N{NO-BREAK SPACE}7.000", id="ISO's three, not CLDR's none"),
        pytest.param("-0.01", "EUR", "-€0.01", id="a correction"),
        pytest.param("9" * 40 + ".99", "USD", "$9" + ",999" * 13 + ".99", id="more than 28 digits"),
    ],
)
def test_money_has_the_decimals_of_its_currency(amount: str, currency: str, written: str) -> None:
    assert figures.money(D(amount), currency) == written


@pytest.mark.parametrize(
    ("amount", "written"),
    [("0.000002", "$0.000002"), ("2", "$2.00"), ("0.0125", "$0.0125"), ("3E+2", "$300.00")],
)
def test_a_rate_is_written_to_its_last_decimal(amount: str, written: str) -> None:
    assert figures.rate(D(amount), "USD") == written


def test_a_terminal_says_the_currency_after_the_amount() -> None:
    assert figures.with_code(D(138), "USD") == "138.00 USD"
    assert figures.with_code(D("1234567.5"), "JPY") == "1,234,567.5 JPY"  # a price, not an amount
    assert figures.with_code(D(138), "KWD") == "138.000 KWD"
    assert figures.without_code(D("0.000002"), "USD") == "0.000002"


def test_one_is_singular() -> None:
    assert [figures.counted(D(n), "token") for n in ("0", "1", "15000", "0.5")] == [
        "0 tokens",
        "1 token",
        "15,000 tokens",
        "0.5 tokens",
    ]


@pytest.mark.parametrize(
    ("from_", "to", "written"),
    [
        pytest.param(at(2026, 11, 1), at(2026, 12, 1), "1 – 30 November 2026", id="a month"),
        pytest.param(
            at(2026, 1, 15), at(2026, 2, 15), "15 January – 14 February 2026", id="within a year"
        ),
        pytest.param(
            at(2025, 12, 15),
            at(2026, 1, 15),
            "15 December 2025 – 14 January 2026",
            id="over the new year",
        ),
        pytest.param(at(2026, 1, 1), at(2026, 1, 2), "1 January 2026", id="a day"),
        pytest.param(
            at(2026, 1, 1, 9, 24),
            at(2026, 2, 1, 9, 24),
            "1 January 2026, 09:24 – 1 February 2026, 09:24 UTC",
            id="not whole days",
        ),
    ],
)
def test_a_period_names_its_last_day(from_: datetime, to: datetime, written: str) -> None:
    assert figures.period(Period(from_, to)) == written
