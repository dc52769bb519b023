"""Rating, as tables: each row is a rate card, a quantity and the total of each detailed line."""

from dataclasses import replace
from decimal import Decimal as D
from fractions import Fraction
from typing import Any

import pytest
from tallyman.domain.duration import Duration
from tallyman.domain.money import round_to_currency
from tallyman.domain.price import (
    Commitments,
    Discounts,
    FlatPrice,
    FreePrice,
    GraduatedPrice,
    Operation,
    Price,
    PriceTier,
    Rounding,
    UnitConfig,
    UnitPrice,
    VolumePrice,
)
from tallyman.domain.rate_card import RateCard
from tallyman.domain.rating.detailed_line import (
    AmountDiscount,
    Category,
    DetailedLine,
    DiscountReason,
)
from tallyman.domain.rating.rate import Rating, rate
from tallyman.domain.usage import Usage
from tallyman.errors import RatingError


def card(price: Price, **changes: Any) -> RateCard:
    plain = RateCard("tokens", "Tokens", price, billing_cadence=Duration(1))
    return replace(plain, **changes)


def rated(priced: RateCard, quantity: int | str, share: Fraction = Fraction(1)) -> Rating:
    return rate(priced, Usage(D(quantity)), share)


def totals(rating: Rating) -> dict[str, D]:
    return {line.reference: line.total for line in rating.lines}


TIERS = (
    PriceTier(D(5), flat_price=D(100)),
    PriceTier(D(10), flat_price=D(50)),
    PriceTier(None, unit_price=D(5)),
)
FREE_TIER = (
    PriceTier(D(10_000), unit_price=D(0)),
    PriceTier(D(100_000), unit_price=D("0.000003")),
    PriceTier(None, unit_price=D("0.000002")),
)


@pytest.mark.parametrize(
    ("price", "quantity", "expected"),
    [
        pytest.param(FreePrice(), 10**9, {}, id="free, whatever the usage"),
        pytest.param(FlatPrice(D(10)), 0, {"flat": "10"}, id="flat, without usage"),
        pytest.param(FlatPrice(D(0)), 0, {}, id="flat, but nothing"),
        pytest.param(UnitPrice(D(10)), 0, {}, id="unit, without usage"),
        pytest.param(
            UnitPrice(D("0.000002")), 15_000, {"usage": "0.03"}, id="the walkthrough's 0.03"
        ),
        pytest.param(UnitPrice(D(1)), 247, {"usage": "247"}, id="a dollar per token"),
        pytest.param(UnitPrice(D("0.0000025")), 3000, {"usage": "0.0075"}, id="less than a cent"),
        pytest.param(
            UnitPrice(D("0.000000123456789")),
            "123456789012345678901.5",
            {"usage": "15241578751714.6788752042372835"},
            id="more digits than a plain decimal holds",
        ),
        pytest.param(VolumePrice(TIERS), 0, {"tier-1-flat": "100"}, id="volume, without usage"),
        pytest.param(
            VolumePrice(TIERS), 5, {"tier-1-flat": "100"}, id="volume, on the first bound"
        ),
        pytest.param(
            VolumePrice(TIERS), 10, {"tier-2-flat": "50"}, id="volume, on the second bound"
        ),
        pytest.param(
            VolumePrice(TIERS), "10.5", {"tier-3-usage": "52.5"}, id="volume, past the bounds"
        ),
        pytest.param(
            GraduatedPrice(TIERS), 0, {"tier-1-flat": "100"}, id="graduated, without usage"
        ),
        pytest.param(
            GraduatedPrice(TIERS), 5, {"tier-1-flat": "100"}, id="graduated, on the first bound"
        ),
        pytest.param(
            GraduatedPrice(TIERS),
            "5.001",
            {"tier-1-flat": "100", "tier-2-flat": "50"},
            id="graduated, barely in the second tier",
        ),
        pytest.param(
            GraduatedPrice(TIERS),
            12,
            {"tier-1-flat": "100", "tier-2-flat": "50", "tier-3-usage": "10"},
            id="graduated, three tiers",
        ),
        pytest.param(
            GraduatedPrice(FREE_TIER), 10_000, {"tier-1-usage": "0"}, id="the free tier is shown"
        ),
        pytest.param(
            GraduatedPrice(FREE_TIER),
            150_000,
            {"tier-1-usage": "0", "tier-2-usage": "0.27", "tier-3-usage": "0.1"},
            id="past the free tier",
        ),
        pytest.param(
            GraduatedPrice((PriceTier(None, D(2), D(3)),)),
            4,
            {"tier-1-usage": "8", "tier-1-flat": "3"},
            id="both prices in a tier",
        ),
    ],
)
def test_prices(price: Price, quantity: int | str, expected: dict[str, str]) -> None:
    assert totals(rated(card(price), quantity)) == {k: D(v) for k, v in expected.items()}


MILLIONS = UnitConfig(Operation.DIVIDE, D(1_000_000))
PACKAGES = UnitConfig(Operation.DIVIDE, D(1000), Rounding.CEILING)
COST_PLUS = UnitConfig(Operation.MULTIPLY, D("1.2"))
HOURS = UnitConfig(Operation.DIVIDE, D(3600))


@pytest.mark.parametrize(
    ("config", "price", "quantity", "invoiced", "total"),
    [
        pytest.param(MILLIONS, "3", 1_500_000, "1.5", "4.5", id="three dollars per million"),
        pytest.param(PACKAGES, "0.5", 1, "1", "0.5", id="a package that is begun is paid"),
        pytest.param(PACKAGES, "0.5", 1000, "1", "0.5", id="a full package is one"),
        pytest.param(PACKAGES, "0.5", 1001, "2", "1", id="one more begins the next"),
        pytest.param(PACKAGES, "0.5", 0, "0", "0", id="no package without usage"),
        pytest.param(COST_PLUS, "1", "12.34", "14.808", "14.808", id="cost plus 20 percent"),
        pytest.param(
            replace(PACKAGES, rounding=Rounding.FLOOR),
            "0.5",
            1999,
            "1",
            "0.5",
            id="full packages only",
        ),
        pytest.param(
            replace(PACKAGES, rounding=Rounding.HALF_UP), "1", 1500, "2", "2", id="half is up"
        ),
        pytest.param(
            replace(PACKAGES, precision=1), "1", 1210, "1.3", "1.3", id="rounded to a tenth"
        ),
    ],
)
def test_quantities_are_converted_before_they_are_priced(
    config: UnitConfig, price: str, quantity: int | str, invoiced: str, total: str
) -> None:
    rating = rated(card(UnitPrice(D(price)), unit_config=config), quantity)

    assert (rating.raw_quantity, rating.invoiced_quantity) == (D(quantity), D(invoiced))
    assert rating.total == D(total)


def test_a_conversion_that_does_not_end_costs_what_it_costs() -> None:
    # 75 s at 0.24 an hour are half a cent exactly, though 75/3600 has no end.
    rating = rated(card(UnitPrice(D("0.24")), unit_config=HOURS), 75)

    assert round_to_currency(rating.total, "USD") == D("0.01")


def test_tiers_are_of_converted_units() -> None:
    price = GraduatedPrice((PriceTier(D(1), D(0)), PriceTier(None, D(3))))

    assert rated(card(price, unit_config=MILLIONS), 2_500_000).total == D("4.5")


@pytest.mark.parametrize(
    ("priced", "quantity", "expected"),
    [
        pytest.param(
            card(UnitPrice(D(2)), discounts=Discounts(usage=D(100))),
            130,
            {"usage": "60"},
            id="a hundred units are not charged",
        ),
        pytest.param(
            card(UnitPrice(D(2)), discounts=Discounts(usage=D(100))), 99, {}, id="nor fewer"
        ),
        pytest.param(
            card(UnitPrice(D(3)), discounts=Discounts(usage=D(500_000)), unit_config=MILLIONS),
            1_500_000,
            {"usage": "3"},
            id="the discount is in the meter's units: it comes before the conversion",
        ),
        pytest.param(
            card(UnitPrice(D(1)), discounts=Discounts(usage=D(1)), unit_config=PACKAGES),
            1001,
            {"usage": "1"},
            id="and before its rounding",
        ),
        pytest.param(
            card(UnitPrice(D("0.07")), discounts=Discounts(D("12.5"))),
            1,
            {"usage": "0.06125"},
            id="a percentage off, exactly",
        ),
        pytest.param(
            card(FlatPrice(D(10)), discounts=Discounts(D(100))),
            0,
            {"flat": "0"},
            id="all of it off",
        ),
        pytest.param(
            card(UnitPrice(D(1)), commitments=Commitments(maximum_amount=D(10))),
            15,
            {"usage": "10"},
            id="no more than the maximum",
        ),
        pytest.param(
            card(GraduatedPrice(TIERS), commitments=Commitments(maximum_amount=D(120))),
            12,
            {"tier-1-flat": "100", "tier-2-flat": "20", "tier-3-usage": "0"},
            id="the maximum is reached in the second line, and the third costs nothing",
        ),
        pytest.param(
            card(UnitPrice(D(1)), commitments=Commitments(D(20))),
            15,
            {"usage": "15", "minimum": "5"},
            id="what is missing to the minimum",
        ),
        pytest.param(
            card(UnitPrice(D(1)), commitments=Commitments(D(20))),
            0,
            {"minimum": "20"},
            id="all of it",
        ),
        pytest.param(
            card(UnitPrice(D(1)), commitments=Commitments(D(20))), 20, {"usage": "20"}, id="reached"
        ),
        pytest.param(
            card(
                UnitPrice(D(1)), discounts=Discounts(D(50)), commitments=Commitments(D(20), D(20))
            ),
            40,
            {"usage": "20"},
            id="the percentage comes before the maximum, which has nothing left to take",
        ),
        pytest.param(
            card(
                UnitPrice(D(1)), discounts=Discounts(D(50)), commitments=Commitments(D(30), D(50))
            ),
            40,
            {"usage": "20", "minimum": "10"},
            id="the percentage comes before the minimum, which is not discounted",
        ),
    ],
)
def test_adjustments_come_in_their_order(
    priced: RateCard, quantity: int, expected: dict[str, str]
) -> None:
    assert totals(rated(priced, quantity)) == {k: D(v) for k, v in expected.items()}


def test_a_line_says_what_was_taken_off_and_why() -> None:
    priced = card(
        UnitPrice(D("0.5")),
        discounts=Discounts(D(10), D(4)),
        commitments=Commitments(maximum_amount=D(8)),
    )

    assert rated(priced, 24) == Rating(
        (
            DetailedLine(
                "usage",
                "Tokens: usage in period",
                quantity=D(20),
                unit_price=D("0.5"),
                amount=D(10),
                total=D(8),
                discounts=(
                    AmountDiscount(DiscountReason.RATECARD_PERCENTAGE, D(1), "10 % off"),
                    AmountDiscount(
                        DiscountReason.MAXIMUM_SPEND, D(1), "above the maximum spend of 8"
                    ),
                ),
            ),
        ),
        raw_quantity=D(24),
        discounted_quantity=D(4),
        invoiced_quantity=D(20),
    )


def test_the_minimum_is_a_commitment_and_no_usage() -> None:
    [line] = rated(card(UnitPrice(D(1)), commitments=Commitments(D(20))), 0).lines

    assert (line.category, line.name) == (Category.COMMITMENT, "Tokens: minimum spend")


@pytest.mark.parametrize(
    ("share", "owed"),
    [
        pytest.param(Fraction(1), "31.00", id="a full month"),
        pytest.param(Fraction(10, 31), "10.00", id="ten of 31 days"),
        pytest.param(Fraction(1, 3), "10.33", id="a third has no end"),
        pytest.param(Fraction(0), "0.00", id="no time at all"),
    ],
)
def test_a_flat_price_is_for_its_share_of_the_period(share: Fraction, owed: str) -> None:
    total = rate(card(FlatPrice(D(31))), share=share).total

    assert str(round_to_currency(total, "USD")) == owed


def test_usage_and_commitments_are_not_prorated() -> None:
    priced = card(UnitPrice(D(1)), commitments=Commitments(D(20)))

    assert rated(priced, 15, Fraction(1, 2)) == rated(priced, 15)


@pytest.mark.parametrize(
    "price",
    [
        pytest.param(UnitPrice(D(1)), id="unit"),
        pytest.param(GraduatedPrice((PriceTier(None, D(1), D(3)),)), id="graduated"),
        pytest.param(VolumePrice((PriceTier(None, D(1), D(3)),)), id="volume"),
    ],
)
def test_a_negative_quantity_costs_what_none_costs(price: Price) -> None:
    priced = card(price, commitments=Commitments(D(20)), discounts=Discounts(usage=D(4)))

    assert rated(priced, -5) == replace(rated(priced, 0), raw_quantity=D(-5))


def test_where_nothing_is_served_no_minimum_is_owed() -> None:
    priced = card(UnitPrice(D(1)), commitments=Commitments(D(20)))

    assert rated(priced, 15, Fraction(0)).total == 0


@pytest.mark.parametrize(
    ("price", "usage", "code"),
    [
        pytest.param(UnitPrice(D(1)), None, "rating_error", id="usage that nobody counted"),
        pytest.param(VolumePrice(()), Usage(D(1)), "invoice_line_no_tiers", id="no tiers"),
        pytest.param(
            GraduatedPrice((PriceTier(D(1), D(1)),)),
            Usage(D(0)),
            "invoice_line_missing_open_ended_tier",
            id="no last tier, even if it is not reached",
        ),
    ],
)
def test_what_cannot_be_rated_is_refused(price: Price, usage: Usage | None, code: str) -> None:
    with pytest.raises(RatingError) as caught:
        rate(card(price), usage)

    assert caught.value.code == code


def test_a_price_of_a_conversion_by_nothing_is_refused() -> None:
    with pytest.raises(RatingError, match="factor"):
        rated(card(UnitPrice(D(1)), unit_config=UnitConfig(Operation.DIVIDE, D(0))), 1)
