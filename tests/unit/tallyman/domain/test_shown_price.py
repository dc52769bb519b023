"""A unit price, said per unit and per million units."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallyman.domain.price import per_million, per_unit
from tallyman.domain.shown_price import both_prices, with_both_prices

PER_MILLION = {"operation": "divide", "conversion_factor": "1000000"}
NUMBERS = st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,19})?", fullmatch=True)


@pytest.mark.parametrize(
    ("amount", "config", "per_unit", "per_million"),
    [
        pytest.param("0.000003", None, "0.000003", "3", id="per token"),
        pytest.param("3.00", PER_MILLION, "0.000003", "3", id="per million by conversion"),
        pytest.param(
            "1",
            {"operation": "multiply", "conversion_factor": "1.2"},
            "1.2",
            "1200000",
            id="cost plus",
        ),
        pytest.param("0", None, "0", "0", id="free"),
        pytest.param("9" * 40, None, "9" * 40, "9" * 40 + "000000", id="as long as it may be"),
    ],
)
def test_a_price_is_said_both_ways(
    amount: str, config: dict[str, str] | None, per_unit: str, per_million: str
) -> None:
    assert both_prices(amount, config) == {
        "amount_per_unit": per_unit,
        "amount_per_million": per_million,
    }


def test_whole_packages_have_no_price_per_unit() -> None:
    packages = {"operation": "divide", "conversion_factor": "1000", "rounding": "ceiling"}

    assert both_prices("0.5", packages) == {}


def test_every_unit_price_of_a_rate_card_is_shown_and_the_card_stays_as_it_was() -> None:
    tiers = [
        {"up_to_amount": "5", "flat_price": {"type": "flat", "amount": "1"}},
        {"unit_price": {"type": "unit", "amount": "0.01"}},
    ]
    card = {"key": "a", "price": {"type": "graduated", "tiers": tiers}}

    shown = with_both_prices(card)

    unit_price = {"type": "unit", "amount": "0.01", "amount_per_million": "10000"}
    assert shown["price"]["tiers"] == [tiers[0], {"unit_price": unit_price}]
    assert tiers[1] == {"unit_price": {"type": "unit", "amount": "0.01"}}


@given(NUMBERS)
def test_a_price_per_million_is_the_price_per_unit_again(number: str) -> None:
    amount = Decimal(number)

    assert per_million(per_unit(amount, Decimal(1_000_000))) == amount


@given(NUMBERS, NUMBERS, st.sampled_from(["divide", "multiply"]))
def test_any_price_can_be_shown(amount: str, factor: str, operation: str) -> None:
    both_prices(amount, {"operation": operation, "conversion_factor": factor})
