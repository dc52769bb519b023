"""Money: what is rounded, to what, and where the remainder goes."""

from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman.domain.money import (
    from_minor_units,
    is_currency,
    minor_units,
    round_to_currency,
    split,
    to_minor_units,
    written,
)
from tallyman.errors import InvalidInput

CURRENCIES = st.sampled_from(["JPY", "USD", "KWD"])


@pytest.mark.parametrize(
    ("currency", "units"),
    [
        pytest.param("USD", 2, id="dollars have cents"),
        pytest.param("JPY", 0, id="yen have nothing below"),
        pytest.param("KWD", 3, id="dinars have thousandths"),
        pytest.param("RSD", 2, id="the para counts, though nobody shows it"),
    ],
)
def test_minor_units_are_those_of_iso_4217(currency: str, units: int) -> None:
    assert minor_units(currency) == units


@pytest.mark.parametrize("code", ["ZZZ", "XAU", "usd", ""])
def test_what_no_money_is_owed_in_is_refused(code: str) -> None:
    assert not is_currency(code)
    with pytest.raises(InvalidInput):
        minor_units(code)


@pytest.mark.parametrize(
    ("amount", "currency", "rounded"),
    [
        pytest.param("0.005", "USD", "0.01", id="half a cent is a cent"),
        pytest.param("0.00499999999999999999999999999999999", "USD", "0.00", id="less is none"),
        pytest.param("-0.005", "USD", "-0.01", id="what is owed back is rounded alike"),
        pytest.param("0.5", "JPY", "1", id="half a yen is a yen"),
        pytest.param("1.0005", "KWD", "1.001", id="half a fils is a fils"),
        pytest.param("2", "USD", "2.00", id="cents are always written"),
        pytest.param(
            "12345678901234567890123456789.005",
            "USD",
            "12345678901234567890123456789.01",
            id="more digits than a plain decimal holds",
        ),
    ],
)
def test_amounts_are_rounded_half_up(amount: str, currency: str, rounded: str) -> None:
    assert str(round_to_currency(D(amount), currency)) == rounded


@given(st.integers(-(10**15), 10**15), CURRENCIES)
def test_minor_units_go_there_and_back(minor: int, currency: str) -> None:
    assert to_minor_units(from_minor_units(minor, currency), currency) == minor


@pytest.mark.parametrize(
    ("total", "parts", "shares"),
    [
        pytest.param("0.01", ["1", "1"], ["0.01", "0.00"], id="one cent goes to the first"),
        pytest.param("10", ["1", "1", "1"], ["3.34", "3.33", "3.33"], id="a third each"),
        pytest.param(
            "0.03", ["0.004", "0.026"], ["0.00", "0.03"], id="the largest remainder first"
        ),
        pytest.param("5", ["0", "0"], ["5.00", "0.00"], id="nothing to go by"),
        pytest.param("-0.01", ["1", "2"], ["0.00", "-0.01"], id="owed back"),
    ],
)
def test_split_by_largest_remainder(total: str, parts: list[str], shares: list[str]) -> None:
    assert split(D(total), [D(part) for part in parts], "USD") == tuple(D(s) for s in shares)


@given(
    st.decimals(-(10**9), 10**9, places=9),
    st.lists(st.decimals(0, 10**9, places=12), min_size=1, max_size=20),
    CURRENCIES,
)
def test_the_shares_are_the_total(total: D, parts: list[D], currency: str) -> None:
    shares = split(total, parts, currency)

    assert sum(shares) == round_to_currency(total, currency)
    assert all(share == round_to_currency(share, currency) for share in shares)


def test_a_total_is_not_split_among_nobody() -> None:
    with pytest.raises(ValueError, match="parts"):
        split(D(1), [], "USD")


def test_no_amount_is_too_large_to_be_rounded_and_written() -> None:
    large = D("9" * 99)

    rounded = round_to_currency(large, "USD")

    assert rounded == large
    assert written(large) == "9" * 99
